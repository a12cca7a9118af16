/* SPDX-License-Identifier: BSD-3-Clause */
/* One virtual machine: its memory, its vCPUs, and what a migration asks of it. */
#ifndef GODWIT_VM_VM_H
#define GODWIT_VM_VM_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "check.h"
#include "gate.h"
#include "memory.h"
#include "option.h"
#include "state.h"

struct vm;
struct kvm_run;
struct kvm_msrs;
union machine_cpuid;

/* Fields of one vCPU belong to its thread; while that is outside the gate, to whoever holds it
 * there. */
struct vcpu {
	struct vm *vm;
	unsigned id;
	pthread_t thread;
	bool started;
	uint64_t next_ns; /* when the rate allows the next batch */
	uint64_t busy_ns; /* since when it works */
	struct loop loop; /* soft: its whole state */
	int fd;           /* kvm: the rest */
	struct kvm_run *run;
	uint32_t run_bytes;
	struct kvm_msrs *msrs;      /* those that can be read */
	union machine_cpuid *cpuid; /* what the guest was promised */
};

/* What runs the guest: KVM or threads. */
struct engine {
	const char *name;
	uint32_t kind; /* in saved state */
	int (*open)(struct vm *vm, struct err *e);
	int (*add)(struct vcpu *v, struct err *e); /* makes one vCPU; booted if a guest is here */
	void *(*thread)(void *vcpu);
	void (*kick)(void *vm); /* gate.h */
	int (*save)(struct vm *vm, struct state_out *s, struct err *e);
	int (*load)(struct vm *vm, const struct state_in *s, struct err *e);
	void (*close)(struct vm *vm);
};
extern const struct engine engine_kvm, engine_soft;

struct vm {
	const struct engine *engine;
	struct option_set opt;
	struct memory mem;
	struct gate gate;
	struct vcpu *vcpus;    /* room for GUEST_VCPUS */
	unsigned nvcpus;       /* made so far; changes only while the gate is closed */
	bool started;          /* vCPUs have threads */
	uint64_t rate;         /* pages a second of all vCPUs */
	uint64_t ticks;        /* atomic: pages stamped, told by batches */
	uint64_t torn;         /* atomic: bad pages that the guest found */
	uint64_t status_value; /* of device.h */
	unsigned throttle;     /* atomic: percent of vCPU time */
	bool has_guest;        /* memory holds a guest */
	int failed;            /* atomic: 2 when a vCPU could not go on and why is set */
	struct err why;
	void (*wake)(void *arg); /* called when failed is set; may be NULL */
	void *wake_arg;
	/* Tells which guest memory the VMM wrote; may be NULL. file: LAYOUT_*. */
	void (*wrote)(void *arg, unsigned file, uint64_t offset, uint64_t bytes);
	void *wrote_arg; /* of the next too */
	/* A vCPU tells or asks (heap.h, hint.h); may be NULL. */
	uint32_t (*hint)(void *arg, unsigned vcpu, uint16_t port, bool ask);
	/* A vCPU's dirty ring is full: makes room, on its thread. 0 or -errno. */
	int (*ring_full)(void *arg, unsigned vcpu);
	int kvm_fd, vm_fd;
	uint32_t kvm_xsave_bytes;
	bool kvm_irqchip;
};

/* Makes memory and vCPUs; a guest that is not incoming is booted, but held. vm->wake and wrote are
 * set by the caller afterwards. 0; -ENODEV: no usable KVM; other -errno. A sentence in e. */
int vm_open(struct vm *vm, const struct option_set *o, struct err *e);
/* Starts the vCPU threads; a guest that is there runs. */
int vm_start(struct vm *vm, struct err *e);
void vm_close(struct vm *vm);

void vm_pause(struct vm *vm);
void vm_resume(struct vm *vm);
/* Writes state to fd from offset 0; paused. */
int vm_save(struct vm *vm, int fd, struct err *e);
/* Installs bytes of state from fd; paused, memory complete. */
int vm_load(struct vm *vm, int fd, uint64_t bytes, struct err *e);
/* The guest is no longer here. */
void vm_gone(struct vm *vm);
/* Stops the guest for the time of the check, if it runs. -ENOENT: no guest here. */
int vm_check(struct vm *vm, bool deep, struct check_result *res, struct err *e);

/* For engines, on vCPU threads. */
void vm_enter(struct vcpu *v);               /* the gate was passed */
void vm_batch(struct vcpu *v, uint64_t n);   /* n pages stamped: count, keep rate and throttle */
void vm_torn(struct vcpu *v);                /* the guest found a bad page: its block says which */
void vm_canary(struct vcpu *v, uint32_t id); /* a register did not survive */
uint32_t vm_hint(struct vcpu *v, uint16_t port, bool ask); /* heap.h: a value for what is asked */
void vm_fail(struct vcpu *v, const struct err *why);

/* Counters may be read by any thread. */
uint64_t vm_ticks(const struct vm *vm);
uint64_t vm_torn_count(const struct vm *vm);

#endif
