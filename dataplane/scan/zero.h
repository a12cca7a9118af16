/* SPDX-License-Identifier: BSD-3-Clause */
/* Zero-page detection, the best for the CPU, chosen once at start. */
#ifndef GODWIT_DATAPLANE_ZERO_H
#define GODWIT_DATAPLANE_ZERO_H

#include <stdint.h>

/* Scans the pages of one chunk named by mask; base is page 0 of the chunk, 4096-aligned. Returns
 * the mask of those that hold only zeros. Pages outside mask are not read. */
typedef uint64_t (*zero_scan_fn)(const uint8_t *base, uint64_t mask);

/* Call zero_init() once before; before that it is the portable one. */
extern zero_scan_fn zero_scan;
void zero_init(void);

/* Rows for tests and the bench: name, function, supported by this CPU; ended by a NULL name. */
struct zero_impl {
	const char *name;
	zero_scan_fn scan;
	int (*supported)(void);
};
extern const struct zero_impl zero_impls[];
/* Name of the one in use. */
const char *zero_name(void);

#endif
