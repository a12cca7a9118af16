/* SPDX-License-Identifier: BSD-3-Clause */
/* Copies of whole pages to memory that this core will not read again: past the cache, where the CPU
 * can. Addresses are 64-byte aligned at the destination, lengths multiples of 64. */
#ifndef GODWIT_DATAPLANE_COPY_H
#define GODWIT_DATAPLANE_COPY_H

#include <stddef.h>
#include <stdint.h>

void copy_out(uint8_t *dst, const uint8_t *src, size_t bytes);
void copy_out_zeros(uint8_t *dst, size_t bytes);
/* Before others are told: what was copied out is visible to them. */
void copy_out_done(void);

#endif
