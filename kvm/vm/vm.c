// SPDX-License-Identifier: BSD-3-Clause
// One virtual machine. vm_* is called by the main thread and the agent's thread, one at a time
// each; vm_batch() and its like by vCPU threads. Invariants: memory of a guest that is not here is
// not touched; a guest runs only while the gate is open; ticks never go back.

#include "vm.h"

#include "boot.h"
#include "clock.h"
#include "device.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CATCH_UP_NS (100 * NS_PER_MS) /* a guest that was held makes up for no more than this */

static int start_vcpu(struct vcpu *v, struct err *e)
{
	int rc = pthread_create(&v->thread, NULL, v->vm->engine->thread, v);
	char name[16];

	if (rc != 0)
		return err_sys(e, rc, "cannot start the thread of vCPU %u", v->id);
	snprintf(name, sizeof(name), "CPU %u/%s", v->id, v->vm->opt.soft ? "soft" : "KVM");
	pthread_setname_np(v->thread, name);
	v->started = true;
	return 0;
}

// Makes vCPUs up to n. An incoming guest's are made when its state says how many it has.
static int add_vcpus(struct vm *vm, unsigned n, struct err *e)
{
	while (vm->nvcpus < n) {
		struct vcpu *v = &vm->vcpus[vm->nvcpus];
		int rc;

		*v = (struct vcpu){.vm = vm, .id = vm->nvcpus, .fd = -1};
		vm->nvcpus++; // closing takes care of one that is half made
		rc = vm->engine->add(v, e);
		if (rc == 0 && vm->started)
			rc = start_vcpu(v, e);
		if (rc < 0)
			return rc;
	}
	return 0;
}

int vm_open(struct vm *vm, const struct option_set *o, struct err *e)
{
	struct layout l;
	int rc;

	memset(vm, 0, sizeof(*vm));
	vm->kvm_fd = vm->vm_fd = -1;
	vm->engine = o->soft ? &engine_soft : &engine_kvm;
	vm->opt = *o;
	vm->rate = o->rate;
	vm->throttle = 100;
	gate_init(&vm->gate, GATE_NO_GUEST, vm->engine->kick, vm);
	rc = layout_make(&l, o->memory_bytes, o->nominal_bytes, o->vcpus > 0 ? o->vcpus : 1, e);
	if (rc < 0)
		return rc;
	rc = memory_open(&vm->mem, &l, o->huge, e);
	if (rc < 0)
		return rc;
	vm->vcpus = calloc(GUEST_VCPUS, sizeof(*vm->vcpus));
	if (vm->vcpus == NULL)
		rc = err_set(e, ENOMEM, "no memory for vCPUs");
	if (rc == 0 && !o->incoming)
		rc = memory_enough(&vm->mem, &o->image, e);
	if (rc == 0 && !o->incoming) {
		rc = boot_guest(&vm->mem, o);
		if (rc < 0)
			err_set(e, -rc, "told to end before the guest ran");
		vm->has_guest = rc == 0;
	}
	if (rc == 0)
		rc = vm->engine->open(vm, e);
	if (rc == 0)
		rc = add_vcpus(vm, o->vcpus, e);
	if (rc < 0)
		vm_close(vm);
	return rc;
}

int vm_start(struct vm *vm, struct err *e)
{
	vm->started = true;
	for (unsigned i = 0; i < vm->nvcpus; i++) {
		int rc = start_vcpu(&vm->vcpus[i], e);

		if (rc < 0)
			return rc;
	}
	if (vm->has_guest)
		gate_open(&vm->gate, GATE_NO_GUEST);
	return 0;
}

void vm_close(struct vm *vm)
{
	if (vm->vcpus != NULL) {
		gate_quit(&vm->gate);
		for (unsigned i = 0; i < vm->nvcpus; i++)
			if (vm->vcpus[i].started)
				pthread_join(vm->vcpus[i].thread, NULL);
		vm->engine->close(vm);
	}
	free(vm->vcpus);
	vm->vcpus = NULL;
	memory_close(&vm->mem);
}

void vm_pause(struct vm *vm)
{
	gate_close(&vm->gate, GATE_AGENT);
}

void vm_resume(struct vm *vm)
{
	gate_open(&vm->gate, GATE_AGENT | (vm->has_guest ? GATE_NO_GUEST : 0));
}

void vm_gone(struct vm *vm)
{
	gate_close(&vm->gate, GATE_NO_GUEST);
}

int vm_save(struct vm *vm, int fd, struct err *e)
{
	struct state_out s;
	struct state_vmm v;
	int64_t n;
	int rc;

	if (state_out_init(&s, &vm->mem.lay, vm->engine->kind) < 0)
		return err_set(e, ENOMEM, "no memory for the device state");
	v = (struct state_vmm){vm->ticks, vm->torn, vm->rate, device_save(vm)};
	state_put(&s, STATE_VMM, STATE_VM, &v, sizeof(v));
	rc = vm->engine->save(vm, &s, e);
	n = state_out_end(&s);
	if (rc == 0 && n < 0)
		rc = err_set(e, E2BIG, "the device state has more than %u bytes", STATE_MAX_BYTES);
	for (int64_t at = 0; rc == 0 && at < n;) {
		ssize_t w = pwrite(fd, s.buf + at, (size_t)(n - at), at);

		if (w < 0 && errno != EINTR)
			rc = err_sys(e, errno, "cannot write the device state");
		at += w > 0 ? w : 0;
	}
	state_out_fini(&s);
	return rc;
}

static int read_all(int fd, uint8_t *buf, size_t bytes, struct err *e)
{
	for (size_t at = 0; at < bytes;) {
		ssize_t r = pread(fd, buf + at, bytes - at, (off_t)at);

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return err_sys(e, errno, "cannot read the device state");
		if (r == 0)
			return err_set(
				e, EPROTO, "device state ends after %zu of %zu bytes", at, bytes);
		at += (size_t)r;
	}
	return 0;
}

// Memory and state must be of the same moment: the guest's own counts in memory are at most a batch
// a vCPU ahead of those that the VMM was told.
static int same_moment(const struct vm *vm, const struct state_vmm *v, struct err *e)
{
	const struct params *p = check_params(&vm->mem, e);
	uint64_t done;

	if (p == NULL)
		return -EPROTO;
	done = check_done(&vm->mem);
	if (done < v->ticks || done - v->ticks > (uint64_t)p->batch * p->nvcpus)
		return err_set(e, EPROTO,
			"memory is not of the same moment as the device state: %" PRIu64
			" pages stamped in memory, %" PRIu64 " in the state",
			done, v->ticks);
	return 0;
}

static int fit_vcpus(struct vm *vm, unsigned n, struct err *e)
{
	if ((vm->opt.vcpus > 0 && vm->opt.vcpus != n) || vm->nvcpus > n)
		return err_set(e, EINVAL,
			"the guest has %u vCPUs, this VM %u: give the same --vcpus, or none", n,
			vm->opt.vcpus > 0 ? vm->opt.vcpus : vm->nvcpus);
	vm->mem.lay.nvcpus = n;
	return 0;
}

static int install(struct vm *vm, const uint8_t *buf, size_t bytes, struct err *e)
{
	struct state_in s;
	struct state_vmm v;
	int rc = state_in_init(&s, buf, bytes, &vm->mem.lay, vm->engine->kind, e);

	if (rc == 0)
		rc = state_get(&s, STATE_VMM, STATE_VM, &v, sizeof(v), e);
	if (rc == 0)
		rc = fit_vcpus(vm, s.nvcpus, e);
	if (rc == 0)
		rc = same_moment(vm, &v, e);
	if (rc == 0)
		rc = device_load(vm, v.status_value, e);
	if (rc == 0)
		rc = add_vcpus(vm, s.nvcpus, e);
	if (rc == 0)
		rc = vm->engine->load(vm, &s, e);
	if (rc < 0)
		return rc;
	vm->ticks = v.ticks;
	vm->torn = v.torn;
	vm->rate = v.rate;
	vm->has_guest = true;
	return 0;
}

int vm_load(struct vm *vm, int fd, uint64_t bytes, struct err *e)
{
	_cleanup_(free_ptr) uint8_t *buf = NULL;
	int rc;

	if (bytes == 0 || bytes > STATE_MAX_BYTES)
		return err_set(e, EPROTO, "device state has %" PRIu64 " bytes: damaged", bytes);
	buf = malloc(bytes);
	if (buf == NULL)
		return err_set(e, ENOMEM, "no memory for %" PRIu64 " bytes of state", bytes);
	rc = read_all(fd, buf, bytes, e);
	return rc < 0 ? rc : install(vm, buf, bytes, e);
}

int vm_check(struct vm *vm, bool deep, struct check_result *res, struct err *e)
{
	int rc;

	if (!vm->has_guest)
		return err_set(e, ENOENT, "there is no guest here to check");
	gate_close(&vm->gate, GATE_CHECK);
	rc = check_memory(&vm->mem, deep, res, e);
	gate_open(&vm->gate, GATE_CHECK);
	return rc;
}

void vm_enter(struct vcpu *v)
{
	v->busy_ns = clock_ns();
	if (v->next_ns == 0)
		v->next_ns = v->busy_ns;
	if (v->next_ns + CATCH_UP_NS < v->busy_ns)
		v->next_ns = v->busy_ns - CATCH_UP_NS;
}

void vm_batch(struct vcpu *v, uint64_t n)
{
	struct vm *vm = v->vm;
	unsigned percent = __atomic_load_n(&vm->throttle, __ATOMIC_RELAXED);
	uint64_t now = clock_ns(), until = now;

	__atomic_fetch_add(&vm->ticks, n, __ATOMIC_RELAXED);
	if (percent < 100)
		until = now + (now - v->busy_ns) * (100 - percent) / percent;
	if (vm->rate > 0) {
		// A guest that is slowed down keeps its pace in the time that it has.
		v->next_ns += n * NS_PER_S * vm->nvcpus * 100 / (vm->rate * percent);
		if (v->next_ns > until)
			until = v->next_ns;
	}
	if (until > now)
		gate_sleep(&vm->gate, until);
	vm_enter(v);
}

void vm_torn(struct vcpu *v)
{
	const struct block *b = memory_at(&v->vm->mem, GUEST_BLOCKS + (uint64_t)v->id * GUEST_PAGE);

	__atomic_fetch_add(&v->vm->torn, 1, __ATOMIC_RELAXED);
	printf("TORN page gpa %#" PRIx64 " vcpu %u expected count %" PRIu64 " head %#" PRIx64
	       " count %" PRIu64 " tail %#" PRIx64 " count %" PRIu64 "\n",
		b->torn_gpa, v->id, b->torn_want, b->torn_head.gpa, b->torn_head.count,
		b->torn_tail.gpa, b->torn_tail.count);
}

void vm_canary(struct vcpu *v, uint32_t id)
{
	__atomic_fetch_add(&v->vm->torn, 1, __ATOMIC_RELAXED);
	if (id == 0)
		printf("TORN register vcpu %u debug register 0\n", v->id);
	else
		printf("TORN register vcpu %u MSR %#x\n", v->id, id);
}

uint32_t vm_hint(struct vcpu *v, uint16_t port, bool ask)
{
	const struct vm *vm = v->vm;

	return vm->hint != NULL ? vm->hint(vm->wrote_arg, v->id, port, ask) : 0;
}

void vm_fail(struct vcpu *v, const struct err *why)
{
	struct vm *vm = v->vm;
	int none = 0;

	if (!__atomic_compare_exchange_n(
		    &vm->failed, &none, 1, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
		return; // the first reason counts
	vm->why = *why;
	__atomic_store_n(&vm->failed, 2, __ATOMIC_RELEASE);
	if (vm->wake != NULL)
		vm->wake(vm->wake_arg);
}

uint64_t vm_ticks(const struct vm *vm)
{
	return __atomic_load_n(&vm->ticks, __ATOMIC_RELAXED);
}

uint64_t vm_torn_count(const struct vm *vm)
{
	return __atomic_load_n(&vm->torn, __ATOMIC_RELAXED);
}
