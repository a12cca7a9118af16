/* SPDX-License-Identifier: BSD-3-Clause */
/* The format of saved device state: a head that names the guest's shape, sections, a checksum.
 *
 *   u64 magic  u32 version  u32 kind  u32 nvcpus  u32 nslots  u64 used_bytes
 *   for each file u64 bytes;  for each slot u64 file, gpa, offset, bytes
 *   sections: u32 type, u32 vcpu, u32 length, bytes
 *   u32 CRC32C of all before it
 * Little-endian; what is inside a section is the kernel's or this program's struct, whole. */
#ifndef GODWIT_VM_STATE_H
#define GODWIT_VM_STATE_H

#include <stddef.h>
#include <stdint.h>

#include "layout.h"
#include "wire.h"

#define STATE_MAX_BYTES (16u << 20)
#define STATE_VM        UINT32_MAX /* vcpu of sections that belong to none */

enum state_kind { STATE_KVM = 1, STATE_SOFT };

enum state_type {
	STATE_VMM = 1, /* struct state_vmm */
	STATE_LOOP,    /* soft vCPU: struct loop */
	STATE_CPUID,
	STATE_REGS,
	STATE_SREGS2,
	STATE_XSAVE,
	STATE_XCRS,
	STATE_MSRS,
	STATE_LAPIC,
	STATE_MP,
	STATE_EVENTS,
	STATE_DEBUG,
	STATE_TSC_KHZ,
	STATE_CLOCK,
	STATE_IRQCHIP0,
	STATE_IRQCHIP1,
	STATE_IRQCHIP2,
};

struct state_vmm {
	uint64_t ticks, torn, rate, status_value;
};

struct state_out {
	uint8_t *buf;
	struct wire_writer w;
};

struct state_in {
	const uint8_t *buf;
	size_t at, end;  /* of the sections */
	unsigned nvcpus; /* 1 to GUEST_VCPUS */
};

/* Writing. init: 0 or -ENOMEM. end: bytes in s->buf, or -E2BIG. fini frees. */
int state_out_init(struct state_out *s, const struct layout *l, uint32_t kind);
void state_put(struct state_out *s, uint32_t type, uint32_t vcpu, const void *p, size_t len);
int64_t state_out_end(struct state_out *s);
void state_out_fini(struct state_out *s);

/* Reading: checks everything but what is inside sections, for any bytes. buf stays the caller's.
 * 0, or -EPROTO (damaged), -ENOTSUP (version, kind), -EINVAL (another shape of guest). */
int state_in_init(struct state_in *s, const void *buf, size_t len, const struct layout *l,
	uint32_t kind, struct err *e);
/* The section, or NULL; *len is set. */
const void *state_find(const struct state_in *s, uint32_t type, uint32_t vcpu, size_t *len);
/* Copies a section that must have exactly len bytes. 0 or -EPROTO with a sentence. */
int state_get(const struct state_in *s, uint32_t type, uint32_t vcpu, void *dst, size_t len,
	struct err *e);

#endif
