// SPDX-License-Identifier: BSD-3-Clause
// What the source of a nic test holds and sends, pass by pass; and how its flows end.

#include "nic_world.h"

#include "bits.h"
#include "clock.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>

static void nap(void)
{
	const struct timespec t = {.tv_nsec = (long)NS_PER_MS};

	nanosleep(&t, NULL);
}

static void fill_run(struct seed *seed, uint8_t *at, uint64_t bytes, int fd, uint64_t offset)
{
	switch (seed_below(seed, 5)) {
	case 0:
		if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
			    (off_t)bytes) != 0)
			world_fail("no hole can be made");
		break;
	case 1:
		memset(at, 0, bytes);
		break;
	case 2:
		for (uint64_t b = 0; b < bytes; b++)
			at[b] = (uint8_t) "the guest's own text "[b % 21];
		break;
	default:
		for (uint64_t b = 0; b < bytes; b += 8) {
			uint64_t w = seed_next(seed);

			memcpy(at + b, &w, 8);
		}
	}
}

void world_scribble(struct world_side *s, struct seed *seed, bool first)
{
	struct region_map *m = &s->w->from;

	for (unsigned i = 0; i < m->n; i++) {
		struct region *r = &m->r[i];
		uint64_t pages = r->bytes >> PAGE_SHIFT;

		for (uint64_t at = 0; at < pages;) {
			uint64_t n = 1 + seed_below(seed, seed_below(seed, 4) == 0 ? 700 : 20);
			uint64_t bit = r->first_chunk * CHUNK_PAGES + at;
			bool touch = first || seed_below(seed, 4) == 0;

			n = n > pages - at ? pages - at : n;
			if (touch) {
				fill_run(seed, r->base + (at << PAGE_SHIFT), n << PAGE_SHIFT, r->fd,
					at << PAGE_SHIFT);
				bits_set_range(s->dirty.set, bit, n);
			}
			at += n;
		}
	}
}

void world_publish(struct world_side *s, uint32_t pass)
{
	struct region_map *m = &s->w->from;

	for (unsigned i = 0; i < m->n; i++)
		for (uint64_t c = m->r[i].first_chunk; c < m->r[i].first_chunk + m->r[i].nchunks;
			c++) {
			struct span sp = {.chunk = c, .region = (uint16_t)i, .nchunks = 1};

			if (s->dirty.set[c] == 0)
				continue;
			dirty_take(&s->dirty, c, 0);
			while (claim_publish(&s->claim, 0, &sp, 1) == 0)
				nap();
			if (c % 4096 == 0)
				for (unsigned f = 0; f < s->w->o.flows; f++)
					atomic_store(&s->flow[f]->run_pass, pass);
		}
	claim_close_pass(&s->claim, pass);
	for (unsigned f = 0; f < s->w->o.flows; f++)
		atomic_store(&s->flow[f]->run_pass, pass);
}

void world_wait_dead(struct world_side *s, int errnum, const char *words)
{
	uint64_t end = clock_ns() + WORLD_WAIT_S * NS_PER_S;

	for (unsigned i = 0; i < s->w->o.flows; i++) {
		while (atomic_load(&s->flow[i]->error) == 0) {
			if (clock_ns() > end)
				world_fail("flow %u does not fail", i);
			nap();
		}
		if (atomic_load(&s->flow[i]->error) != errnum ||
			strstr(s->flow[i]->why.text, words) == NULL)
			world_fail("flow %u fails, but with: %s", i, s->flow[i]->why.text);
	}
}

// memif frees what is left of a connection in a thread of its own when the other side has gone, and
// not safely while anybody else frees: who goes last waits for that.
void world_let_the_other_go(const struct world_side *s)
{
	uint64_t end = clock_ns() + WORLD_WAIT_S * NS_PER_S;
	struct port_info i;

	if (s->source || strcmp(s->w->o.device, "memif") != 0)
		return;
	for (port_info(s->port, &i); i.link_up; port_info(s->port, &i)) {
		if (clock_ns() > end)
			world_fail("the source's port does not close");
		nap();
	}
	for (unsigned n = 0; n < 20; n++) // the link is down before all is freed
		nap();
}
