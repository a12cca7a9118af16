/* SPDX-License-Identifier: BSD-3-Clause */
/* The smallest KVM guest that can write any of 4 GiB: flat 32-bit mode, one store, halt. */
#ifndef GODWIT_TESTS_GUEST32_H
#define GODWIT_TESTS_GUEST32_H

#include <stdint.h>

#include "region.h"

struct guest32;

/* Makes a VM with a slot for each view of the map. ring_bytes: of its dirty ring; 0: none. 0, or 1
 * with the reason to skip in e. */
int guest32_open(
	struct guest32 **g, const struct region_map *map, uint32_t ring_bytes, struct err *e);
void guest32_close(struct guest32 *g);      /* NULL is allowed */
int guest32_vm_fd(const struct guest32 *g); /* -1 for NULL */
int guest32_vcpu_fd(const struct guest32 *g);
/* What to do when the ring is full; without it that ends the process. */
void guest32_on_full(struct guest32 *g, void (*fn)(void *arg), void *arg);
/* The guest writes value at a guest address, or to the first word of n pages, in one go. Ends the
 * process where it does not. */
void guest32_write(struct guest32 *g, uint32_t gpa, uint32_t value);
void guest32_fill(struct guest32 *g, uint32_t gpa, uint32_t value, uint32_t n);

#endif
