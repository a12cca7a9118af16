/* SPDX-License-Identifier: BSD-3-Clause */
/* Free-page reports (law 3): the guest's answer to a request, by its id. What comes with another id
 * changes nothing. Any thread. */
#ifndef GODWIT_KVM_FREE_PAGE_H
#define GODWIT_KVM_FREE_PAGE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "marks.h"
#include "region.h"

struct free_page {
	const struct region_map *map;
	pthread_mutex_t lock;
	uint32_t id;     /* of the request under way; 0: none */
	uint32_t poison; /* what the guest fills free pages with */
	bool ended;
	struct marks told; /* reported for id and not taken */
};

/* 0 or -ENOMEM; fini either way. */
int free_page_init(struct free_page *f, const struct region_map *map);
void free_page_fini(struct free_page *f);

/* A new request, or none any more (id 0): what was reported before is forgotten. */
void free_page_request(struct free_page *f, uint32_t id);

/* The guest relies on this value in free pages; not 0: none is left out any more. */
void free_page_poison(struct free_page *f, uint32_t value);
bool free_page_usable(struct free_page *f);

/* Guest frames [pfn, pfn + n) were free since the request. 0; -ESTALE: another id, ignored; -EPERM:
 * poisoned; -EFAULT: not all are memory, ignored. end: nothing more will come. */
int free_page_report(struct free_page *f, uint32_t id, uint64_t pfn, uint64_t n);
int free_page_end(struct free_page *f, uint32_t id);

/* out |= what was reported for id since the last take, words of all chunks. Returns pages, or
 * -ESTALE. */
int64_t free_page_take(struct free_page *f, uint32_t id, uint64_t *out, bool *ended);

#endif
