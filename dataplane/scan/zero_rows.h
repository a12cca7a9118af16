/* SPDX-License-Identifier: BSD-3-Clause */
/* The rows of zero_impls[] that need more than the baseline CPU; each is a file of its own, listed
 * in meson.build for the CPUs that have it. */
#ifndef GODWIT_DATAPLANE_ZERO_ROWS_H
#define GODWIT_DATAPLANE_ZERO_ROWS_H

#include <stdint.h>

uint64_t zero_scan_avx2(const uint8_t *base, uint64_t mask);
uint64_t zero_scan_avx512(const uint8_t *base, uint64_t mask);

#endif
