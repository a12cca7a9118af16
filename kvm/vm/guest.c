// SPDX-License-Identifier: BSD-3-Clause
// The guest program: freestanding 64-bit code without interrupts, run by each vCPU of a KVM guest.
// Memory is mapped one to one. The VMM sets rdi to the vCPU's number and rsp to the top of its
// page. Talks to the VMM by port writes only.
// Invariants: a vCPU writes only its own pages, block and table entries; what must survive a move
// is in registers, in an MSR or in memory, nowhere else.

#include "heap.h"

#define MSR_KERNEL_GS_BASE 0xc0000102u

void guest_main(uint64_t vcpu);

// First in the file, so the flat binary starts with it.
__asm__(".section .text.start, \"ax\"\n"
	".globl guest_start\n"
	"guest_start:\n"
	"	call guest_main\n"
	"	hlt\n"
	".text\n");

static inline void out(uint16_t port, uint32_t value)
{
	__asm__ volatile("outl %0, %1" ::"a"(value), "Nd"(port) : "memory");
}

static char *heap_at(void *arg, uint64_t gpa)
{
	(void)arg;
	return (char *)(uintptr_t)gpa;
}

static uint32_t heap_ask(void *arg, uint16_t port)
{
	uint32_t value;

	(void)arg;
	__asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port) : "memory");
	return value;
}

static void heap_tell(void *arg, uint16_t port, uint32_t value)
{
	(void)arg;
	out(port, value);
}

static inline uint32_t msr_low(uint32_t msr)
{
	uint32_t low, high;

	__asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
	return low;
}

static inline void msr_set(uint32_t msr, uint32_t low)
{
	__asm__ volatile("wrmsr" ::"a"(low), "d"(0), "c"(msr));
}

static inline uint64_t debug_get(void)
{
	uint64_t v;

	__asm__ volatile("mov %%db0, %0" : "=r"(v));
	return v;
}

static inline void debug_set(uint64_t v)
{
	__asm__ volatile("mov %0, %%db0" ::"r"(v));
}

void guest_main(uint64_t vcpu)
{
	const struct params *p = (const struct params *)(uintptr_t)GUEST_PARAMS;
	struct block *b = (struct block *)(uintptr_t)(GUEST_BLOCKS + vcpu * GUEST_PAGE);
	uint32_t *table = (uint32_t *)(uintptr_t)p->table_gpa;
	uint32_t canary = 0x5eed0000u + (uint32_t)vcpu;
	const struct heap_env env = {heap_at, heap_ask, heap_tell, 0};
	struct loop l;

	loop_init(&l, p, (unsigned)vcpu);
	msr_set(MSR_KERNEL_GS_BASE, canary);
	debug_set(canary);
	for (;;) {
		for (uint32_t k = p->batch; k > 0; k--) {
			uint64_t i = loop_next(&l, p->pattern);
			uint64_t gpa = guest_gpa(p, i), at = gpa;

			// Every other write goes through the second view, where there is one.
			if (i - p->alias_first < p->alias_n && ((i ^ b->done) & 1))
				at = (i << 12) + p->alias_delta;
			if (!guest_stamp(p, b, i, gpa, (char *)(uintptr_t)at, &table[i]))
				out(PORT_TORN, 0);
		}
		if (msr_low(MSR_KERNEL_GS_BASE) != canary)
			out(PORT_CANARY, MSR_KERNEL_GS_BASE);
		if (debug_get() != canary)
			out(PORT_CANARY, 0);
		heap_batch(p, b, &l, table, &env);
		out(PORT_BATCH, p->batch);
	}
}
