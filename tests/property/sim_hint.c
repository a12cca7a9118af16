// SPDX-License-Identifier: BSD-3-Clause
// The simulated guest's hints: what a balloon driver and an allocator do, and what the VMM makes of
// it (kvm/balloon.c, kvm/free_page.c). Run by the property test's one thread.
//
// A guest that need not tell takes pages out of its balloon and tells later, or never.

#include "sim.h"

#include "bits.h"

#include <stdio.h>
#include <stdlib.h>

void sim_hint_open(struct sim *s)
{
	uint64_t n = s->from.nchunks;

	s->hints = calloc(5 * n, sizeof(*s->hints));
	if (s->hints == NULL) {
		perror("hints");
		exit(2);
	}
	s->unused = s->hints + 2 * n;
	s->given = s->hints + 3 * n;
	s->reported = s->hints + 4 * n;
	s->must_tell = seed_below(s->seed, 2);
	for (unsigned i = 0; i < 20; i++)
		sim_hint_guest(s);
}

void sim_hint_close(struct sim *s)
{
	free(s->hints);
	s->hints = NULL;
}

void sim_hint_guest(struct sim *s)
{
	const struct region *r = &s->from.r[seed_below(s->seed, SIM_REGIONS)];
	uint64_t pages = r->bytes >> PAGE_SHIFT, page = seed_below(s->seed, pages);
	uint64_t n = 1 + seed_below(s->seed, 60), first = r->first_chunk * CHUNK_PAGES + page;
	uint64_t what = seed_below(s->seed, 4);

	n = n > pages - page ? pages - page : n;
	if (what >= 2) { // the allocator reports what is free now
		for (uint64_t c = r->first_chunk;
			s->free_id != 0 && c < r->first_chunk + r->nchunks; c++)
			s->reported[c] |= s->unused[c] & ~s->given[c];
		return;
	}
	bits_set_range(s->unused, first, n);
	if (what == 1) {
		bits_set_range(s->given, first, n);
		bits_set_range(s->hints, first, n);
	}
}

static unsigned one_of(struct sim *s, uint64_t word)
{
	unsigned from = (unsigned)seed_below(s->seed, CHUNK_PAGES);
	uint64_t turned = word >> from | (from > 0 ? word << (CHUNK_PAGES - from) : 0);

	return (from + (unsigned)__builtin_ctzll(turned)) % CHUNK_PAGES;
}

uint64_t sim_hint_page(struct sim *s, const struct region *r, uint64_t page)
{
	const uint64_t *reported = s->hints + s->from.nchunks + r->first_chunk;
	uint64_t from = seed_below(s->seed, r->nchunks);

	for (uint64_t i = 0; i < r->nchunks; i++) {
		uint64_t c = (from + i) % r->nchunks;

		if (reported[c] != 0 && seed_below(s->seed, 4) != 0)
			return c * CHUNK_PAGES + one_of(s, reported[c]);
	}
	return page;
}

void sim_hint_use(struct sim *s, uint64_t first, uint64_t n)
{
	for (uint64_t i = first; i < first + n; i++) {
		bits_clear(s->unused, i);
		if (!bits_test(s->given, i))
			continue;
		bits_clear(s->given, i);
		if (s->must_tell || seed_below(s->seed, 2)) {
			bits_clear(s->hints, i);
			bits_set(s->log, i);
		}
	}
}

uint64_t sim_hint_look(struct sim *s, uint64_t *out)
{
	uint64_t n = s->from.nchunks, pages = 0;

	for (uint64_t c = 0; c < n; c++) {
		s->hints[n + c] |= s->reported[c];
		pages += bits_count(s->reported[c]);
		s->reported[c] = 0;
	}
	if (pages != 0)
		sim_look(s, out);
	return pages;
}
