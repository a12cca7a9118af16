// SPDX-License-Identifier: BSD-3-Clause
// One KVM vCPU: made in long mode at the guest program, run by its thread.
// Invariants: KVM_RUN is called only past the gate; before the thread leaves the gate it has
// finished the port access under way, so that registers are whole. EINTR means go round again: a
// kick, or a debugger that stopped the thread.

#include "machine.h"

#include "ioctl.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define KICK_SIGNAL SIGRTMIN

#define CR0_PE (1u << 0)
#define CR0_MP (1u << 1)
#define CR0_ET (1u << 4)
#define CR0_NE (1u << 5)
#define CR0_WP (1u << 16)
#define CR0_PG (1u << 31)
#define CR4    (1u << 5 | 1u << 9 | 1u << 10) /* PAE, OSFXSR, OSXMMEXCPT */
#define EFER   (1u << 8 | 1u << 10)           /* LME, LMA */

static void on_kick(int signal)
{
	(void)signal; // its arrival is what counts: it ends KVM_RUN
}

static int set_cpuid(struct vcpu *v, struct err *e)
{
	union machine_cpuid *c = v->cpuid;
	int rc = machine_cpuid(v->vm, c);

	for (uint32_t i = 0; rc == 0 && i < c->head.nent; i++) { // each has its own APIC id
		struct kvm_cpuid_entry2 *n = &c->head.entries[i];

		if (n->function == 1)
			n->ebx = (n->ebx & 0xffffff) | v->id << 24;
		else if (n->function == 0xb || n->function == 0x1f)
			n->edx = v->id;
	}
	if (rc == 0)
		rc = ioctl_ptr(v->fd, KVM_SET_CPUID2, &c->head);
	return rc < 0 ? err_sys(e, -rc, "cannot set the CPU features of vCPU %u", v->id) : 0;
}

static int set_regs(struct vcpu *v, struct err *e)
{
	struct kvm_segment code = {
		.limit = ~0u, .selector = 8, .type = 11, .present = 1, .s = 1, .l = 1, .g = 1};
	struct kvm_segment data = {
		.limit = ~0u, .selector = 16, .type = 3, .present = 1, .s = 1, .db = 1, .g = 1};
	struct kvm_regs r = {.rip = GUEST_CODE,
		.rdi = v->id,
		.rflags = 2,
		.rsp = GUEST_BLOCKS + (v->id + 1ull) * GUEST_PAGE};
	struct kvm_mp_state mp = {.mp_state = KVM_MP_STATE_RUNNABLE};
	struct kvm_sregs s;
	int rc = ioctl_ptr(v->fd, KVM_GET_SREGS, &s);

	s.cs = code;
	s.ds = s.es = s.fs = s.gs = s.ss = data;
	s.cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_PG;
	s.cr3 = GUEST_PAGING;
	s.cr4 = CR4;
	s.efer = EFER;
	if (rc == 0)
		rc = ioctl_ptr(v->fd, KVM_SET_SREGS, &s);
	if (rc == 0)
		rc = ioctl_ptr(v->fd, KVM_SET_REGS, &r);
	if (rc == 0 && v->vm->kvm_irqchip)
		rc = ioctl_ptr(v->fd, KVM_SET_MP_STATE, &mp);
	return rc < 0 ? err_sys(e, -rc, "cannot set the registers of vCPU %u", v->id) : 0;
}

int vcpu_open(struct vcpu *v, struct err *e)
{
	struct sigaction sa = {.sa_handler = on_kick};
	int bytes = ioctl_val(v->vm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0), rc;

	sigaction(KICK_SIGNAL, &sa, NULL);
	v->fd = ioctl_val(v->vm->vm_fd, KVM_CREATE_VCPU, v->id);
	if (v->fd < 0)
		return err_sys(e, -v->fd, "KVM cannot make vCPU %u; give fewer --vcpus", v->id);
	if (bytes < (int)sizeof(struct kvm_run))
		return err_set(e, ENODEV, "KVM's run area has %d bytes; use --soft", bytes);
	v->run_bytes = (uint32_t)bytes; // ports' data lies behind the struct
	v->run = mmap(NULL, v->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
	if (v->run == MAP_FAILED) {
		v->run = NULL;
		return err_sys(e, errno, "cannot map the run area of vCPU %u", v->id);
	}
	v->cpuid = calloc(1, sizeof(*v->cpuid));
	if (v->cpuid == NULL)
		return err_set(e, ENOMEM, "no memory for vCPU %u", v->id);
	rc = v->vm->has_guest ? set_cpuid(v, e) : 0; // else its state will say
	if (rc == 0)
		rc = vcpu_state_probe(v, e);
	if (rc == 0 && v->vm->has_guest)
		rc = set_regs(v, e);
	return rc;
}

void vcpu_close(struct vcpu *v)
{
	if (v->run != NULL)
		munmap(v->run, v->run_bytes);
	v->run = NULL;
	free(v->msrs);
	v->msrs = NULL;
	free(v->cpuid);
	v->cpuid = NULL;
	close_fd(&v->fd);
}

void vcpu_kick_all(void *arg)
{
	struct vm *vm = arg;

	for (unsigned i = 0; i < vm->nvcpus; i++) {
		struct vcpu *v = &vm->vcpus[i];

		if (v->run == NULL || !v->started)
			continue;
		__atomic_store_n(&v->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
		pthread_kill(v->thread, KICK_SIGNAL);
	}
}

static int stuck(struct vcpu *v, const char *what, unsigned long long detail, struct err *e)
{
	struct kvm_regs r = {0};

	(void)ioctl_ptr(v->fd, KVM_GET_REGS, &r);
	return err_set(e, EIO, "vCPU %u cannot go on: %s %llu at rip %#llx", v->id, what, detail,
		(unsigned long long)r.rip);
}

static int port_access(struct vcpu *v, struct err *e)
{
	const struct kvm_run *run = v->run;
	bool ask = run->io.direction == KVM_EXIT_IO_IN;
	uint32_t value;

	if ((ask && run->io.port != PORT_FREE) || run->io.size != 4 || run->io.count != 1 ||
		run->io.data_offset > v->run_bytes - sizeof(value))
		return stuck(v, "unknown use of port", run->io.port, e);
	if (ask) {
		value = vm_hint(v, PORT_FREE, true);
		memcpy((uint8_t *)v->run + run->io.data_offset, &value, sizeof(value));
		return 0;
	}
	memcpy(&value, (const uint8_t *)run + run->io.data_offset, sizeof(value));
	switch (run->io.port) {
	case PORT_BATCH:
		vm_batch(v, value);
		return 0;
	case PORT_TORN:
		vm_torn(v);
		return 0;
	case PORT_FREE:
	case PORT_FREE_END:
	case PORT_INFLATE:
	case PORT_DEFLATE:
		vm_hint(v, run->io.port, false);
		return 0;
	case PORT_CANARY:
		vm_canary(v, value);
		return 0;
	default:
		return stuck(v, "write to port", run->io.port, e);
	}
}

// Runs guest code until the gate closes, or it cannot go on.
static int run_guest(struct vcpu *v, struct err *e)
{
	while (!gate_must_leave(&v->vm->gate)) {
		int rc = ioctl(v->fd, KVM_RUN, 0);

		if (rc < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (rc < 0)
			return stuck(v, "KVM_RUN failed with errno", (unsigned)errno, e);
		if (v->run->exit_reason == KVM_EXIT_INTR)
			continue;
		if (v->run->exit_reason == KVM_EXIT_DIRTY_RING_FULL && v->vm->ring_full != NULL) {
			rc = v->vm->ring_full(v->vm->wrote_arg, v->id);
			if (rc < 0)
				return stuck(v, "its dirty ring is not emptied: error",
					(unsigned)-rc, e);
			continue;
		}
		if (v->run->exit_reason == KVM_EXIT_INTERNAL_ERROR)
			return stuck(v, "KVM internal error", v->run->internal.suberror, e);
		if (v->run->exit_reason != KVM_EXIT_IO)
			return stuck(v, "exit reason", v->run->exit_reason, e);
		rc = port_access(v, e);
		if (rc < 0)
			return rc;
	}
	return 0;
}

void *vcpu_thread(void *arg)
{
	struct vcpu *v = arg;
	struct err why;

	while (gate_enter(&v->vm->gate)) {
		int rc;

		// A kick sets the flag after it closed the gate: clear it first, then look.
		__atomic_store_n(&v->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
		atomic_thread_fence(memory_order_seq_cst);
		vm_enter(v);
		rc = run_guest(v, &why);
		__atomic_store_n(&v->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
		(void)ioctl(v->fd, KVM_RUN, 0); // finishes a port access, then returns EINTR
		gate_leave(&v->vm->gate);
		if (rc < 0) {
			vm_fail(v, &why);
			break;
		}
	}
	return NULL;
}
