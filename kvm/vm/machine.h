/* SPDX-License-Identifier: BSD-3-Clause */
/* The KVM machine: VM, slots, interrupt controller, vCPUs in long mode. */
#ifndef GODWIT_VM_MACHINE_H
#define GODWIT_VM_MACHINE_H

#include <linux/kvm.h>

#include "vm.h"

#define MACHINE_CPUID_MAX 256u

/* A struct with a flexible tail, and room for that. */
union machine_cpuid {
	struct kvm_cpuid2 head;
	uint8_t room[sizeof(struct kvm_cpuid2) +
		     MACHINE_CPUID_MAX * sizeof(struct kvm_cpuid_entry2)];
};

/* What this host's KVM can give a guest. 0 or -errno. */
int machine_cpuid(const struct vm *vm, union machine_cpuid *c);

/* vcpu_state.c: all that KVM offers of one vCPU, and of the VM. Not while the vCPU runs. */
int vcpu_state_probe(struct vcpu *v, struct err *e); /* once: which MSRs can be read */
int vcpu_state_save(struct vcpu *v, struct state_out *s, struct err *e);
/* check: looks whether all sections are there and fit this host; installs nothing. */
int vcpu_state_check(struct vcpu *v, const struct state_in *s, struct err *e);
int vcpu_state_load(struct vcpu *v, const struct state_in *s, struct err *e);
int machine_state_save(struct vm *vm, struct state_out *s, struct err *e);
int machine_state_load(struct vm *vm, const struct state_in *s, struct err *e);

/* vcpu.c: makes one; the thread that runs it; makes all leave guest code. */
int vcpu_open(struct vcpu *v, struct err *e);
void vcpu_close(struct vcpu *v);
void *vcpu_thread(void *vcpu);
void vcpu_kick_all(void *vm);

#endif
