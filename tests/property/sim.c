// SPDX-License-Identifier: BSD-3-Clause
// The simulated guest. Run by the property test's one thread, so a write and its mark in the log
// are one step.
//
// The guest writes a page before it reads it after giving it back, as guests do with pages that a
// balloon returned.

#include "sim.h"

#include "bits.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void must(bool ok, const char *what)
{
	if (!ok) {
		perror(what);
		exit(2);
	}
}

static void add_region(struct region_map *m, unsigned i, uint64_t pages)
{
	char name[16];
	int fd;

	snprintf(name, sizeof(name), "ram%u", i);
	fd = memfd_create(name, MFD_CLOEXEC);
	must(fd >= 0 && ftruncate(fd, (off_t)(pages * PAGE_BYTES)) == 0, "memfd");
	must(region_add(m, name, fd, pages * PAGE_BYTES, 4096, NULL) == (int)i, "region");
	must(region_mmap(&m->r[i], true, NULL) == 0, "mmap");
}

// Some bytes of a few kinds. A page of a kind differs from others by its first words.
static void fill_page(struct sim *s, uint8_t *page)
{
	uint64_t w = seed_next(s->seed);

	switch (seed_below(s->seed, 4)) {
	case 0:
		memset(page, 0, PAGE_BYTES);
		return;
	case 1:
		memset(page, (int)(w & 0xff), PAGE_BYTES);
		break;
	default:
		for (unsigned i = 0; i < PAGE_BYTES; i += 8) {
			w = w * UINT64_C(6364136223846793005) + 1442695040888963407u;
			memcpy(page + i, &w, 8);
		}
	}
	memcpy(page, &w, 8);
}

static void old_content(struct sim *s, struct region *r)
{
	bool all = seed_below(s->seed, 3) == 0;

	for (uint64_t n = 0; n < r->bytes >> PAGE_SHIFT; n++)
		if (all || seed_below(s->seed, 4) == 0)
			memset(r->base + (n << PAGE_SHIFT), 0xa5, PAGE_BYTES);
}

void sim_open(struct sim *s, struct seed *seed)
{
	memset(s, 0, sizeof(*s));
	s->seed = seed;
	s->log_extras = seed_below(seed, 2);
	region_map_init(&s->from);
	region_map_init(&s->to);
	for (unsigned i = 0; i < SIM_REGIONS; i++) {
		uint64_t pages = 1 + seed_below(seed, seed_below(seed, 4) == 0 ? 400 : 90);

		add_region(&s->from, i, pages);
		add_region(&s->to, i, pages);
		old_content(s, &s->to.r[i]);
		for (uint64_t at = 0; at < pages;) {
			uint64_t n = 1 + seed_below(seed, seed_below(seed, 3) == 0 ? 150 : 10);
			bool hole = seed_below(seed, 2);

			for (; n > 0 && at < pages; n--, at++)
				if (!hole)
					fill_page(s, s->from.r[i].base + (at << PAGE_SHIFT));
		}
	}
	s->log = calloc(s->from.nchunks, sizeof(*s->log));
	must(s->log != NULL, "log");
	// Sources differ in this: all is dirty at start, or nothing.
	if (seed_below(seed, 2))
		for (unsigned i = 0; i < SIM_REGIONS; i++)
			bits_set_range(s->log, s->from.r[i].first_chunk * CHUNK_PAGES,
				s->from.r[i].bytes >> PAGE_SHIFT);
}

void sim_close(struct sim *s)
{
	region_map_close(&s->from);
	region_map_close(&s->to);
	sim_hint_close(s);
	free(s->log);
}

static void use(struct sim *s, const struct region *r, uint64_t page, uint64_t n)
{
	if (s->hints != NULL)
		sim_hint_use(s, r->first_chunk * CHUNK_PAGES + page, n);
}

void sim_guest(struct sim *s)
{
	const struct region *r = &s->from.r[seed_below(s->seed, SIM_REGIONS)];
	uint64_t pages = r->bytes >> PAGE_SHIFT;
	uint64_t page = seed_below(s->seed, pages);
	uint64_t n = 1 + seed_below(s->seed, seed_below(s->seed, 8) == 0 ? 100 : 3);
	uint64_t word = seed_next(s->seed);
	uint8_t *at;

	if (s->hints != NULL)
		page = sim_hint_page(s, r, page);
	at = r->base + (page << PAGE_SHIFT);
	n = n > pages - page ? pages - page : n;
	s->writes++;
	if (s->hints != NULL && seed_below(s->seed, 3) == 0) {
		sim_hint_guest(s);
		return;
	}
	switch (seed_below(s->seed, 8)) {
	case 0: // what it gave back is not in the log
		must(fallocate(r->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			     (off_t)(page << PAGE_SHIFT), (off_t)(n << PAGE_SHIFT)) == 0,
			"punch");
		return;
	case 1:
		use(s, r, page, n);
		memset(at, 0, n << PAGE_SHIFT);
		break;
	case 2:
		use(s, r, page, n);
		for (uint64_t i = 0; i < n; i++)
			fill_page(s, at + (i << PAGE_SHIFT));
		break;
	default:
		n = 1;
		use(s, r, page, n);
		memcpy(at + seed_below(s->seed, PAGE_BYTES / 8) * 8, &word, 8);
	}
	bits_set_range(s->log, r->first_chunk * CHUNK_PAGES + page, n);
}

void sim_look(struct sim *s, uint64_t *out)
{
	for (uint64_t c = 0; c < s->from.nchunks; c++)
		out[c] |= s->log[c];
}

void sim_arm(struct sim *s, uint64_t first, uint64_t n, const uint64_t *want, uint64_t *out)
{
	for (uint64_t i = 0; i < n; i++) {
		uint64_t taken = s->log_extras ? s->log[first + i] : s->log[first + i] & want[i];

		s->log[first + i] &= ~taken;
		out[i] |= taken & ~want[i];
	}
}

int sim_populated(
	const struct region *r, int (*found)(void *arg, uint64_t offset, uint64_t bytes), void *arg)
{
	off_t data = lseek(r->fd, 0, SEEK_DATA);

	while (data >= 0 && (uint64_t)data < r->bytes) {
		off_t hole = lseek(r->fd, data, SEEK_HOLE);
		int rc = found(arg, (uint64_t)data, (uint64_t)(hole - data));

		if (rc != 0)
			return rc;
		data = lseek(r->fd, hole, SEEK_DATA);
	}
	return 0;
}

static int set_words(void *words, uint64_t offset, uint64_t bytes)
{
	bits_set_range(words, offset >> PAGE_SHIFT, bytes >> PAGE_SHIFT);
	return 0;
}

static bool same_region(const struct region *a, const struct region *b, const uint64_t *unused,
	char *why, size_t bytes)
{
	static const uint8_t zeros[PAGE_BYTES];
	uint64_t *from = calloc(2 * a->nchunks, sizeof(*from)), *to = from + a->nchunks;
	const uint8_t *x, *y;
	bool same = true;

	must(from != NULL, "words");
	sim_populated(a, set_words, from);
	sim_populated(b, set_words, to);
	for (uint64_t n = 0; same && n < a->bytes >> PAGE_SHIFT; n++) {
		if (unused != NULL && bits_test(unused, a->first_chunk * CHUNK_PAGES + n))
			continue;
		x = bits_test(from, n) ? a->base + (n << PAGE_SHIFT) : zeros;
		y = bits_test(to, n) ? b->base + (n << PAGE_SHIFT) : zeros;

		same = memcmp(x, y, PAGE_BYTES) == 0;
		if (!same)
			snprintf(why, bytes, "%s page %llu differs (%s here, %s there)", a->name,
				(unsigned long long)n, bits_test(from, n) ? "memory" : "hole",
				bits_test(to, n) ? "memory" : "hole");
		else if (bits_test(to, n) && !bits_test(from, n)) {
			snprintf(why, bytes, "%s page %llu is a hole here, but not there", a->name,
				(unsigned long long)n);
			same = false;
		}
	}
	free(from);
	return same;
}

bool sim_same(const struct sim *s, char *why, size_t bytes)
{
	for (unsigned i = 0; i < SIM_REGIONS; i++)
		if (!same_region(&s->from.r[i], &s->to.r[i], s->unused, why, bytes))
			return false;
	return true;
}
