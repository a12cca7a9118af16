/* SPDX-License-Identifier: BSD-3-Clause */
/* The guest's RAM files, mapped in this process. */
#ifndef GODWIT_VM_MEMORY_H
#define GODWIT_VM_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

#include "image.h"
#include "layout.h"

struct memory {
	struct layout lay;
	int fd[LAYOUT_FILES];
	uint8_t *base[LAYOUT_FILES];
	uint32_t page_bytes[LAYOUT_FILES];
};

/* Makes the files and maps them; nothing is populated. 0, or -errno with a sentence. */
int memory_open(struct memory *m, const struct layout *l, bool huge, struct err *e);
void memory_close(struct memory *m);

/* Where this process sees a guest address that layout_find() knows; NULL for others. */
void *memory_at(const struct memory *m, uint64_t gpa);

/* Has this host memory for what the image populates? Huge pages are reserved already. 0, or -ENOMEM
 * with a sentence: a guest that is filled until there is none left takes others with it. */
int memory_enough(const struct memory *m, const struct image *im, struct err *e);
/* Fills worked and unused pages of a fresh guest with the image, by up to `threads` threads. 0, or
 * -EINTR: SIGTERM or SIGINT, which are blocked, came meanwhile. */
int memory_fill(struct memory *m, const struct image *im, unsigned threads);

/* Number of the image's page that a page of a file holds; files follow each other. */
static inline uint64_t memory_image_page(const struct layout *l, unsigned file, uint64_t offset)
{
	return ((file == LAYOUT_BIOS ? l->used_bytes : 0) + offset) / GUEST_PAGE;
}

/* A cursor that tells holes from data without reading them. hugetlbfs cannot tell: all is data. */
struct extent {
	const struct memory *m;
	unsigned file;
	uint64_t start, end; /* the data extent at or after the last question */
};
void extent_init(struct extent *x, const struct memory *m, unsigned file);
bool extent_has(struct extent *x, uint64_t offset);

#endif
