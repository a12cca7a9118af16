// SPDX-License-Identifier: BSD-3-Clause
// Builds a signal frame as the kernel would (arch/x86/include/uapi/asm/sigcontext.h, ucontext.h).
// Run by the attaching thread while the VMM's thread is stopped; no state.

#include "sigframe.h"

#include <cpuid.h>
#include <errno.h>
#include <string.h>

/* struct sigcontext_64 and struct ucontext_x86_64. */
struct context {
	uint64_t flags, link;
	uint64_t stack_sp;
	uint32_t stack_flags, pad;
	uint64_t stack_size;
	uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
	uint64_t di, si, bp, bx, dx, ax, cx, sp, ip, eflags;
	uint16_t cs, gs, fs, ss;
	uint64_t err, trapno, oldmask, cr2, fpstate, reserved[8];
	uint64_t sigmask;
	uint8_t siginfo[128];
};

/* struct _fpx_sw_bytes, at the end of the legacy part. */
struct fpx {
	uint32_t magic1, extended_size;
	uint64_t xfeatures;
	uint32_t xstate_size, padding[7];
};

_Static_assert(sizeof(struct context) == 40 + 256 + 8 + 128, "as the kernel lays it out");
_Static_assert(sizeof(struct fpx) == 48, "as the kernel lays it out");

#define CONTEXT_FLAGS   7u /* FP_XSTATE, SIGCONTEXT_SS, STRICT_RESTORE_SS */
#define NO_STACK        3u /* no mode of sigaltstack: leaves the thread's as it is */
#define FPX_AT          464u
#define FPX_MAGIC1      0x46505853u
#define FPX_MAGIC2      0x46505845u
#define XSTATE_HEADER   512u /* its first word: what is in use */
#define XSTATE_LEAST    576u
#define XSTATE_TILEDATA (UINT64_C(1) << 18)

#define ERESTARTSYS           512
#define ERESTARTNOINTR        513
#define ERESTARTNOHAND        514
#define ERESTART_RESTARTBLOCK 516

int sigframe_restarts(const struct user_regs_struct *regs)
{
	if ((int64_t)regs->orig_rax < 0)
		return 0;
	switch (-(int64_t)regs->rax) {
	case ERESTARTSYS:
	case ERESTARTNOINTR:
	case ERESTARTNOHAND:
	case ERESTART_RESTARTBLOCK:
		return 1;
	}
	return 0;
}

/* Where the states in the mask end, in the format that is not compacted. */
static uint32_t xstate_end(uint64_t mask)
{
	uint32_t end = XSTATE_LEAST;

	for (unsigned i = 2; i < 63; i++) {
		unsigned size, offset, c, d;

		if ((mask >> i & 1) == 0 || !__get_cpuid_count(0xd, i, &size, &offset, &c, &d))
			continue;
		if (size != 0 && offset + size > end)
			end = offset + size;
	}
	return end;
}

/* What a frame says of the state that ptrace gave. 0 or -errno. */
static int describe_xstate(struct fpx *fpx, const struct sigframe_thread *t)
{
	uint64_t in_use;

	if (t->xstate_bytes < XSTATE_LEAST)
		return -EPROTO;
	memset(fpx, 0, sizeof(*fpx));
	fpx->magic1 = FPX_MAGIC1;
	memcpy(&fpx->xfeatures, t->xstate + FPX_AT, 8); /* there ptrace gives the mask */
	memcpy(&in_use, t->xstate + XSTATE_HEADER, 8);
	/* A state that a process must ask for has no room in the frames of those that did not. */
	if ((in_use & XSTATE_TILEDATA) == 0)
		fpx->xfeatures &= ~XSTATE_TILEDATA;
	fpx->xstate_size = xstate_end(fpx->xfeatures);
	fpx->extended_size = fpx->xstate_size + sizeof(uint32_t);
	if (fpx->xstate_size > t->xstate_bytes)
		return -EPROTO;
	return fpx->extended_size <= SIGFRAME_XSTATE_MOST ? 0 : -E2BIG;
}

static void put_registers(struct context *c, const struct sigframe_thread *t)
{
	const struct user_regs_struct *r = &t->regs;

	c->flags = CONTEXT_FLAGS;
	c->stack_flags = NO_STACK;
	c->sigmask = t->sigmask;
	c->r8 = r->r8, c->r9 = r->r9, c->r10 = r->r10, c->r11 = r->r11;
	c->r12 = r->r12, c->r13 = r->r13, c->r14 = r->r14, c->r15 = r->r15;
	c->di = r->rdi, c->si = r->rsi, c->bp = r->rbp, c->bx = r->rbx;
	c->dx = r->rdx, c->cx = r->rcx, c->sp = r->rsp, c->eflags = r->eflags;
	c->cs = (uint16_t)r->cs, c->ss = (uint16_t)r->ss;
	c->ax = r->rax;
	c->ip = r->rip;
	if (sigframe_restarts(r)) {
		/* rt_sigreturn forgets what a restart block holds: such a call is made anew, and
		 * waits at worst once more for its whole time. */
		c->ax = r->orig_rax;
		c->ip = r->rip - 2;
	}
}

int sigframe_build(
	struct sigframe *f, const struct sigframe_thread *t, const uint64_t *words, unsigned n)
{
	const uint32_t magic2 = FPX_MAGIC2;
	struct context c = {0};
	uint32_t head = n * 8 + (uint32_t)sizeof(c);
	struct fpx fpx;
	uint8_t *xstate;
	int rc;

	if (n > SIGFRAME_WORDS_MOST)
		return -E2BIG;
	rc = describe_xstate(&fpx, t);
	if (rc < 0)
		return rc;
	c.fpstate = (t->regs.rsp - SIGFRAME_RED_ZONE - fpx.extended_size) & ~UINT64_C(63);
	f->addr = (c.fpstate - head) & ~UINT64_C(15);
	f->bytes = (uint32_t)(c.fpstate - f->addr) + fpx.extended_size;
	put_registers(&c, t);
	memset(f->data, 0, f->bytes);
	for (unsigned i = 0; i < n; i++)
		memcpy(f->data + i * 8, &words[i], 8);
	memcpy(f->data + n * 8, &c, sizeof(c));
	xstate = f->data + (c.fpstate - f->addr);
	memcpy(xstate, t->xstate, fpx.xstate_size);
	memcpy(xstate + FPX_AT, &fpx, sizeof(fpx));
	memcpy(xstate + fpx.xstate_size, &magic2, sizeof(magic2));
	return 0;
}
