/* SPDX-License-Identifier: BSD-3-Clause */
/* Where the guest's memory lies: files, slots, and what the program uses. Pure arithmetic. */
#ifndef GODWIT_VM_LAYOUT_H
#define GODWIT_VM_LAYOUT_H

#include <stdint.h>

#include "err.h"
#include "guest.h"

#define LAYOUT_BIOS_BYTES (UINT64_C(1) << 20)
#define LAYOUT_BIOS_FIRST 16u  /* worked pages of the second file: [16, 255) */
#define LAYOUT_BIOS_LAST  255u /* its last page is written by the VMM */
#define LAYOUT_SLOTS      4u

enum { LAYOUT_RAM, LAYOUT_BIOS, LAYOUT_FILES };

/* One slot: guest-physical [gpa, gpa + bytes) shows file's [offset, offset + bytes). */
struct slot {
	unsigned file;
	uint64_t gpa, offset, bytes;
};

struct layout {
	uint64_t file_bytes[LAYOUT_FILES];
	uint64_t used_bytes; /* of RAM, from offset 0: all that is ever touched */
	uint64_t low_bytes;  /* RAM below the hole */
	struct slot slots[LAYOUT_SLOTS];
	uint64_t paging_pages;
	uint64_t table_gpa, table_bytes;
	uint64_t work_offset; /* first worked page's offset in RAM */
	unsigned nvcpus;
};

/* memory: what the guest uses; nominal: size of the RAM file, at least that. Both in bytes.
 * -EINVAL with a sentence. */
int layout_make(
	struct layout *l, uint64_t memory, uint64_t nominal, unsigned nvcpus, struct err *e);

/* The parts of params that the layout decides. */
void layout_params(const struct layout *l, struct params *p);

/* File and offset of a guest address, by the first slot that shows it. -EFAULT where none does. */
int layout_find(const struct layout *l, uint64_t gpa, unsigned *file, uint64_t *offset);

#endif
