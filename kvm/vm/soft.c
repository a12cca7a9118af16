// SPDX-License-Identifier: BSD-3-Clause
// The software guest: threads that run the guest program's steps on the same memory, for hosts
// without KVM. Invariant: a thread is held only between two batches; its loop is its whole state.

#include "heap.h"
#include "vm.h"

#include <errno.h>
#include <pthread.h>

static int soft_open(struct vm *vm, struct err *e)
{
	(void)vm;
	(void)e;
	return 0;
}

static int soft_add(struct vcpu *v, struct err *e)
{
	(void)e;
	if (v->vm->has_guest)
		loop_init(&v->loop, memory_at(&v->vm->mem, GUEST_PARAMS), v->id);
	return 0;
}

static char *heap_at(void *arg, uint64_t gpa)
{
	return memory_at(&((struct vcpu *)arg)->vm->mem, gpa);
}

static uint32_t heap_ask(void *arg, uint16_t port)
{
	return vm_hint(arg, port, true);
}

static void heap_tell(void *arg, uint16_t port, uint32_t value)
{
	(void)value;
	if (port == PORT_TORN)
		vm_torn(arg);
	else
		vm_hint(arg, port, false);
}

static void batch(struct vcpu *v)
{
	const struct heap_env env = {heap_at, heap_ask, heap_tell, v};
	const struct memory *m = &v->vm->mem;
	const struct params *p = memory_at(m, GUEST_PARAMS);
	struct block *b = memory_at(m, GUEST_BLOCKS + (uint64_t)v->id * GUEST_PAGE);
	uint32_t *table = memory_at(m, m->lay.table_gpa);

	for (uint32_t k = p->batch; k > 0; k--) {
		uint64_t i = loop_next(&v->loop, p->pattern), gpa = guest_gpa(p, i);

		if (!guest_stamp(p, b, i, gpa, memory_at(m, gpa), &table[i]))
			vm_torn(v);
	}
	heap_batch(p, b, &v->loop, table, &env);
	vm_batch(v, p->batch);
}

static void *soft_thread(void *arg)
{
	struct vcpu *v = arg;

	while (gate_enter(&v->vm->gate)) {
		vm_enter(v);
		while (!gate_must_leave(&v->vm->gate))
			batch(v);
		gate_leave(&v->vm->gate);
	}
	return NULL;
}

static void soft_kick(void *vm)
{
	(void)vm; // threads look at the gate after each batch
}

static int soft_save(struct vm *vm, struct state_out *s, struct err *e)
{
	(void)e;
	for (unsigned i = 0; i < vm->nvcpus; i++)
		state_put(s, STATE_LOOP, i, &vm->vcpus[i].loop, sizeof(vm->vcpus[i].loop));
	return 0;
}

// The loop must be one that this guest's parameters can lead to: it indexes memory.
static int check_loop(const struct vm *vm, unsigned vcpu, const struct loop *l, struct err *e)
{
	struct loop want;

	loop_init(&want, memory_at(&vm->mem, GUEST_PARAMS), vcpu);
	if (l->first != want.first || l->n != want.n || l->hot_n != want.hot_n ||
		l->cursor >= want.n || l->rng == 0 || l->heap_first != want.heap_first ||
		l->heap_n != want.heap_n)
		return err_set(e, EPROTO, "device state: the loop of vCPU %u makes no sense", vcpu);
	return 0;
}

static int soft_load(struct vm *vm, const struct state_in *s, struct err *e)
{
	struct loop l;

	for (unsigned pass = 0; pass < 2; pass++) // look at all, then install all
		for (unsigned i = 0; i < vm->nvcpus; i++) {
			int rc = state_get(s, STATE_LOOP, i, &l, sizeof(l), e);

			if (rc == 0)
				rc = check_loop(vm, i, &l, e);
			if (rc < 0)
				return rc;
			if (pass == 1)
				vm->vcpus[i].loop = l;
		}
	return 0;
}

static void soft_close(struct vm *vm)
{
	(void)vm;
}

const struct engine engine_soft = {
	.name = "software",
	.kind = STATE_SOFT,
	.open = soft_open,
	.add = soft_add,
	.thread = soft_thread,
	.kick = soft_kick,
	.save = soft_save,
	.load = soft_load,
	.close = soft_close,
};
