// SPDX-License-Identifier: BSD-3-Clause
// Finds instructions to borrow. Run by the attaching thread before the VMM is stopped; reads the
// process in pieces that overlap by the longest pattern. An instruction may be found in the middle
// of another one: to the CPU it is as good.

#include "gadget.h"

#include "procmap.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#define PIECE_BYTES (256u << 10)
#define LONGEST     4u
#define RET         0xc3

static const struct {
	size_t slot; /* in struct gadgets */
	unsigned n;
	uint8_t code[LONGEST];
} patterns[] = {
	{offsetof(struct gadgets, syscall_ret), 3, {0x0f, 0x05, 0xc3}},
	{offsetof(struct gadgets, pop_rax_ret), 2, {0x58, 0xc3}},
	{offsetof(struct gadgets, to_edi_ret), 2, {0x97, 0xc3}},             /* xchg %eax,%edi */
	{offsetof(struct gadgets, to_edi_ret), 3, {0x89, 0xc7, 0xc3}},       /* mov %eax,%edi */
	{offsetof(struct gadgets, to_edi_ret), 4, {0x48, 0x89, 0xc7, 0xc3}}, /* mov %rax,%rdi */
	{offsetof(struct gadgets, to_edi_ret), 3, {0x50, 0x5f, 0xc3}}, /* push %rax; pop %rdi */
};

struct search {
	pid_t pid;
	struct gadgets *g;
	uint8_t *piece;
	int err; /* of the last piece that could not be read */
};

static bool complete(const struct gadgets *g)
{
	return g->syscall_ret != 0 && g->pop_rax_ret != 0 && g->to_edi_ret != 0;
}

/* All patterns end in a ret, which is rare enough to look for it alone: memmem() for each of them
 * took 10 ms of a QEMU's text. */
static void match(struct gadgets *g, const uint8_t *code, size_t n, uint64_t addr)
{
	const uint8_t *ret = code;

	while ((ret = memchr(ret, RET, n - (size_t)(ret - code))) != NULL) {
		size_t before = (size_t)(++ret - code);

		for (unsigned i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++) {
			uint64_t *slot = (uint64_t *)((char *)g + patterns[i].slot);
			unsigned len = patterns[i].n;

			if (*slot == 0 && before >= len &&
				memcmp(ret - len, patterns[i].code, len) == 0)
				*slot = addr + before - len;
		}
	}
}

static int search_mapping(void *arg, const struct procmap *m)
{
	struct search *s = arg;

	/* Text that stays: a program, a library, the vDSO. Not [vsyscall], which is no memory; not
	 * what a compiler in the VMM made and will overwrite (TCG keeps it in a shared memfd). */
	if (!m->exec || m->write || m->shared || strncmp(m->path, "/memfd:", 7) == 0 ||
		(m->ino == 0 && strcmp(m->path, "[vdso]") != 0))
		return 0;
	for (uint64_t at = m->start; at < m->end; at += PIECE_BYTES - LONGEST) {
		uint64_t n = m->end - at < PIECE_BYTES ? m->end - at : PIECE_BYTES;
		struct iovec here = {s->piece, n};
		struct iovec there = {(void *)(uintptr_t)at, n};
		ssize_t got = process_vm_readv(s->pid, &here, 1, &there, 1, 0);

		if (got < 0) {
			s->err = errno;
			return 0;
		}
		match(s->g, s->piece, (size_t)got, at);
		if (complete(s->g))
			return 1;
	}
	return 0;
}

int gadgets_find(pid_t pid, struct gadgets *g, struct err *e)
{
	struct search s = {.pid = pid, .g = g, .piece = malloc(PIECE_BYTES)};
	int rc;

	memset(g, 0, sizeof(*g));
	if (s.piece == NULL)
		return err_set(e, ENOMEM, "out of memory");
	rc = procmap_walk(pid, search_mapping, &s);
	free(s.piece);
	if (rc > 0)
		return 0;
	if (rc == 0)
		rc = s.err != 0 ? -s.err : -ENOENT;
	return err_sys(e, -rc,
		"process %d: found no instructions to borrow for one system call (syscall; ret and "
		"the like) in the text of its program and libraries",
		(int)pid);
}
