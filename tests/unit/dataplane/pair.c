// SPDX-License-Identifier: BSD-3-Clause
// Two guests' memories and flows between them. Run by tests, in one thread; what goes wrong in here
// fails the test.

#include "pair.h"

#include "bits.h"
#include "crc.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

struct link_tx pair_frame(struct seed *s, uint8_t *memory, uint32_t chunk)
{
	struct link_tx t = {.hdr = {.type = FRAME_CHUNK, .chunk = chunk, .chunks = 1}};
	uint64_t mask = seed_mask(s);

	t.hdr.data = mask;
	t.hdr.zero = mask == 0 ? 1 : 0;
	t.hdr.payload_bytes = bits_count(mask) * (uint32_t)PAGE_BYTES;
	for (unsigned p = 0; p < CHUNK_PAGES; p++) {
		uint8_t *page = memory + p * PAGE_BYTES;

		if (!((mask >> p) & 1))
			continue;
		t.seg[t.nseg++] = (struct iovec){page, PAGE_BYTES};
		t.hdr.payload_crc = crc32c(t.hdr.payload_crc, page, PAGE_BYTES);
	}
	return t;
}

void pair_sockets(int fd[2])
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);
	int l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_return_code(bind(l, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_return_code(listen(l, 1), 0);
	assert_return_code(getsockname(l, (struct sockaddr *)&a, &len), 0);
	fd[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_return_code(connect(fd[0], (struct sockaddr *)&a, sizeof(a)), 0);
	fd[1] = accept4(l, NULL, NULL, SOCK_CLOEXEC);
	assert_true(fd[1] >= 0);
	close(l);
}

static void add(struct region_map *m, unsigned i, uint64_t pages)
{
	char name[16];
	int fd;

	snprintf(name, sizeof(name), "ram%u", i);
	fd = memfd_create(name, MFD_CLOEXEC);
	assert_return_code(ftruncate(fd, (off_t)(pages * PAGE_BYTES)), 0);
	assert_int_equal(region_add(m, name, fd, pages * PAGE_BYTES, 4096, NULL), (int)i);
	assert_int_equal(region_mmap(&m->r[i], true, NULL), 0);
}

void pair_open(struct pair *p, const uint64_t *pages, unsigned nregions,
	const struct codec_ops *codec, int level)
{
	memset(p, 0, sizeof(*p));
	region_map_init(&p->from);
	region_map_init(&p->to);
	for (unsigned i = 0; i < nregions; i++) {
		add(&p->from, i, pages[i]);
		add(&p->to, i, pages[i]);
		memset(p->to.r[i].base, 0x5a, p->to.r[i].bytes / 2);
	}
	assert_int_equal(dirty_init(&p->dirty, p->from.nchunks), 0);
	/* These tests write the planes directly. */
	dirty_touch(&p->dirty, 0, p->from.nchunks);
	assert_int_equal(claim_init(&p->claim, 1), 0);
	p->send_job.map = &p->from;
	p->send_job.dirty = &p->dirty;
	p->send_job.claim = &p->claim;
	p->send_job.codec = codec;
	p->send_job.level = level;
	assert_int_equal(recv_job_init(&p->recv_job, &p->to, false, NULL), 0);
}

const struct seal_ops *pair_seal;

void pair_seal_links(struct link *source, struct link *target, const struct seal_ops *ops)
{
	const struct seal_secret there = {.key = {1, 2, 3}, .iv = {4}};
	const struct seal_secret back = {.key = {5, 6, 7}, .iv = {8}};

	assert_int_equal(link_tcp_seal(source, ops, &there, &back, -1, NULL), 0);
	assert_int_equal(link_tcp_seal(target, ops, &back, &there, -1, NULL), 0);
}

void pair_flows(struct pair *p)
{
	for (unsigned i = 0; i < PAIR_FLOWS; i++) {
		struct link *a, *b;
		int fd[2];

		pair_sockets(fd);
		assert_int_equal(link_tcp_open(&a, fd[0], true, -1, NULL), 0);
		assert_int_equal(link_tcp_open(&b, fd[1], false, -1, NULL), 0);
		if (pair_seal != NULL)
			pair_seal_links(a, b, pair_seal);
		assert_int_equal(flow_send_new(&p->send[i], &p->send_job, a, 1, -1, NULL), 0);
		assert_int_equal(flow_recv_new(&p->recv[i], &p->recv_job, b, 2, -1, NULL), 0);
	}
}

void pair_close(struct pair *p)
{
	for (unsigned i = 0; i < PAIR_FLOWS; i++) {
		flow_free(p->send[i]);
		flow_free(p->recv[i]);
	}
	recv_job_fini(&p->recv_job);
	claim_fini(&p->claim);
	dirty_fini(&p->dirty);
	region_map_close(&p->from);
	region_map_close(&p->to);
}

void pair_fill(struct pair *p, struct seed *s)
{
	for (unsigned i = 0; i < p->from.n; i++) {
		struct region *r = &p->from.r[i];
		uint64_t pages = r->bytes >> PAGE_SHIFT;

		for (uint64_t at = 0; at < pages;) {
			uint64_t n = 1 + seed_below(s, seed_below(s, 4) == 0 ? 700 : 20);
			uint8_t *page = r->base + (at << PAGE_SHIFT);
			uint64_t bytes;

			n = n > pages - at ? pages - at : n;
			at += n;
			bytes = n << PAGE_SHIFT;
			switch (seed_below(s, 4)) {
			case 0: // hole
				break;
			case 1:
				memset(page, 0, bytes);
				break;
			case 2:
				for (uint64_t b = 0; b < bytes; b++)
					page[b] = "the guest's own text "[b % 21];
				break;
			default:
				for (uint64_t b = 0; b < bytes; b += 8) {
					uint64_t w = seed_next(s);

					memcpy(page + b, &w, 8);
				}
			}
		}
	}
}

void pair_populated(const struct region_map *m, uint64_t *words)
{
	memset(words, 0, m->nchunks * sizeof(*words));
	for (unsigned i = 0; i < m->n; i++) {
		const struct region *r = &m->r[i];
		off_t data = lseek(r->fd, 0, SEEK_DATA);

		while (data >= 0 && (uint64_t)data < r->bytes) {
			off_t hole = lseek(r->fd, data, SEEK_HOLE);

			bits_set_range(words,
				r->first_chunk * CHUNK_PAGES + (uint64_t)data / PAGE_BYTES,
				(uint64_t)(hole - data) / PAGE_BYTES);
			data = lseek(r->fd, hole, SEEK_DATA);
		}
	}
}

void pair_publish(struct pair *p, uint32_t pass)
{
	struct dirty *d = &p->dirty;

	for (unsigned i = 0; i < p->from.n; i++) {
		const struct region *r = &p->from.r[i];

		for (uint64_t c = r->first_chunk; c < r->first_chunk + r->nchunks; c++) {
			struct span s = {.chunk = c, .region = (uint16_t)i, .nchunks = 1};

			if ((d->set[c] | d->hole[c]) == 0)
				continue;
			d->hole[c] &= ~d->set[c];
			dirty_take(d, c, 0);
			s.holes = d->hole[c] != 0;
			assert_int_equal(claim_publish(&p->claim, 0, &s, 1), 1);
		}
	}
	claim_close_pass(&p->claim, pass);
	for (unsigned i = 0; i < PAIR_FLOWS; i++)
		atomic_store(&p->send[i]->run_pass, pass);
}

static bool done(struct flow *f, uint32_t pass)
{
	if (atomic_load(&f->error) != 0)
		fail_msg("flow: %s", f->why.text);
	return atomic_load(&f->done_pass) == pass;
}

void pair_run(struct pair *p, uint32_t pass)
{
	time_t end = time(NULL) + 60;
	bool all = false;

	while (!all) {
		bool moved = false;

		all = true;
		for (unsigned i = 0; i < PAIR_FLOWS; i++) {
			moved |= flow_poll(p->send[i]);
			moved |= flow_poll(p->recv[i]);
			all &= done(p->send[i], pass) && done(p->recv[i], pass);
		}
		if (!moved && time(NULL) > end)
			fail_msg("nothing moves any more in pass %u", pass);
	}
}

void pair_finish_pass(struct pair *p)
{
	dirty_put_back(&p->dirty, 0, p->dirty.nchunks);
}

void pair_compare(struct pair *p)
{
	uint64_t bytes = p->from.nchunks * sizeof(uint64_t);
	uint64_t *from = malloc(bytes), *to = malloc(bytes);

	pair_populated(&p->from, from);
	pair_populated(&p->to, to);
	for (unsigned i = 0; i < p->from.n; i++) {
		const struct region *a = &p->from.r[i], *b = &p->to.r[i];
		static const uint8_t zeros[PAGE_BYTES];

		for (uint64_t n = 0; n < a->bytes >> PAGE_SHIFT; n++) {
			uint64_t bit = a->first_chunk * CHUNK_PAGES + n;
			const uint8_t *x = bits_test(from, bit) ? a->base + n * PAGE_BYTES : zeros;
			const uint8_t *y = bits_test(to, bit) ? b->base + n * PAGE_BYTES : zeros;

			if (bits_test(to, bit) && !bits_test(from, bit))
				fail_msg("%s page %llu is no hole", a->name, (unsigned long long)n);
			if (memcmp(x, y, PAGE_BYTES) != 0)
				fail_msg("%s page %llu differs", a->name, (unsigned long long)n);
		}
	}
	free(from);
	free(to);
}
