// SPDX-License-Identifier: BSD-3-Clause
// Raw pages that a device writes to their place in guest memory, and what then becomes of holes.

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "bits.h"
#include "fake_verbs.h"
#include "link_rdma_end.h"
#include "pair.h"

static void drop(struct pair *p, unsigned i, uint64_t page, uint64_t n)
{
	const struct region *r = &p->from.r[i];

	assert_return_code(fallocate(r->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				   (off_t)(page * PAGE_BYTES), (off_t)(n * PAGE_BYTES)),
		errno);
	bits_clear_range(p->dirty.set + r->first_chunk, page, n);
	bits_set_range(p->dirty.hole + r->first_chunk, page, n);
}

static void same(const struct pair *p)
{
	for (unsigned i = 0; i < p->from.n; i++)
		assert_memory_equal(p->from.r[i].base, p->to.r[i].base, p->from.r[i].bytes);
}

static bool is_hole(const struct region *r, uint64_t page)
{
	off_t at = (off_t)(page * PAGE_BYTES);

	return lseek(r->fd, at, SEEK_HOLE) == at;
}

// Region 3 in windows of 8 chunks, one of which is not registered.
static struct link_rdma_key window_key[PAIR_FLOWS][6];
static struct link_rdma_windows windows[PAIR_FLOWS][REGION_MAX];

static void in_windows(struct pair *p, unsigned i, struct fake_end *e)
{
	const struct region *r = &p->to.r[3];

	windows[i][3] = (struct link_rdma_windows){8, window_key[i]};
	for (unsigned w = 0; w < 6; w++) {
		uint64_t at = w * 8 * CHUNK_BYTES, left = r->bytes - at;
		struct ibv_mr *mr = verbs_fake.reg_mr(&e->pd, r->base + at,
			left < 8 * CHUNK_BYTES ? left : 8 * CHUNK_BYTES, IBV_ACCESS_REMOTE_WRITE);

		window_key[i][w] = (struct link_rdma_key){(uintptr_t)mr->addr, mr->rkey, w != 2};
	}
}

static void direct_flow(
	struct pair *p, unsigned i, struct fake_end e[2], struct link_rdma_key *keys)
{
	struct link *l[2];

	fake_links(e, l, RDMA_MESSAGE_BYTES);
	for (unsigned k = 0; k < p->to.n; k++) {
		struct ibv_mr *mr = verbs_fake.reg_mr(
			&e[1].pd, p->to.r[k].base, p->to.r[k].bytes, IBV_ACCESS_REMOTE_WRITE);

		// One region is not registered: its pages go to slots.
		keys[k] = (struct link_rdma_key){(uintptr_t)mr->addr, mr->rkey, k != 1};
	}
	keys[3].there = false;
	in_windows(p, i, &e[1]);
	link_rdma_direct(l[0], keys);
	link_rdma_windows(l[0], windows[i]);
	link_rdma_direct(l[1], NULL);
	assert_int_equal(flow_send_new(&p->send[i], &p->send_job, l[0], 1, -1, NULL), 0);
	assert_int_equal(flow_recv_new(&p->recv[i], &p->recv_job, l[1], 2, -1, NULL), 0);
}

// Pages are written to their place by the device; what becomes a hole meanwhile is zeros until it
// has let go, and a hole then, but where it got content again.
static void moves_direct(void **state)
{
	const uint64_t sizes[] = {1000, 64, 1, 3001};
	static struct link_rdma_key keys[PAIR_FLOWS][REGION_MAX];
	struct fake_end e[PAIR_FLOWS][2];
	struct seed s = {.state = 7};
	struct pair p;
	int rc;

	(void)state;
	pair_open(&p, sizes, 4, NULL, 1);
	for (unsigned i = 0; i < p.to.n; i++) {
		memset(p.to.r[i].base, 0, p.to.r[i].bytes);
		assert_int_equal(recv_job_pin(&p.recv_job, i, NULL), 0);
	}
	recv_job_populated(&p.recv_job);
	for (unsigned i = 0; i < PAIR_FLOWS; i++)
		direct_flow(&p, i, e[i], keys[i]);
	for (uint32_t pass = 0; pass < 4; pass++) {
		pair_fill(&p, &s);
		pair_populated(&p.from, p.dirty.set);
		if (pass == 1 || pass == 3) {
			drop(&p, 0, 60, 200); // whole chunks and parts of them
			drop(&p, 3, 2990, 11);
		}
		pair_publish(&p, pass);
		pair_run(&p, pass);
		pair_finish_pass(&p);
		same(&p);
		assert_false(is_hole(&p.to.r[0], 100));
	}
	while ((rc = recv_job_release(&p.recv_job, NULL)) == 0)
		sched_yield();
	assert_int_equal(rc, 1);
	assert_true(is_hole(&p.to.r[0], 60) && is_hole(&p.to.r[0], 259));
	assert_true(is_hole(&p.to.r[3], 3000));
	same(&p);
	pair_close(&p);
	for (unsigned i = 0; i < PAIR_FLOWS; i++) {
		fake_free(&e[i][0]);
		fake_free(&e[i][1]);
	}
}

static struct link_rdma_host host;
static struct link_rdma_domain domain[PAIR_FLOWS];
static struct link_rdma_memory *lent[PAIR_FLOWS];

// All is there but a hole of some pages in each region.
static int walk(int fd, uint64_t offset, uint64_t len,
	int (*run)(void *arg, uint64_t offset, uint64_t bytes), void *arg)
{
	const uint64_t hole = 130 * PAGE_BYTES, end = 150 * PAGE_BYTES;

	(void)fd;
	if (len <= end)
		return run(arg, offset, len < hole ? len : hole);
	return run(arg, offset, hole) + run(arg, end, len - end);
}

static void lend(struct pair *p, unsigned i, struct fake_end *e)
{
	int rc;

	host.v = &verbs_fake;
	host.info.most_mr = UINT64_MAX;
	domain[i] = (struct link_rdma_domain){.host = &host, .pd = &e->pd, .users = 1};
	assert_int_equal(link_rdma_memory_lend(&lent[i], &domain[i], &p->from, walk, NULL), 0);
	while ((rc = link_rdma_memory_ready(lent[i], NULL)) == 0)
		sched_yield();
	assert_int_equal(rc, 1);
}

// As a session ends: flows first, then what they read from.
static void take_back(struct pair *p)
{
	for (unsigned i = 0; i < PAIR_FLOWS; i++) {
		flow_free(p->send[i]);
		flow_free(p->recv[i]);
		p->send[i] = p->recv[i] = NULL;
		link_rdma_memory_end(lent[i]);
		while (!link_rdma_memory_ended(lent[i]))
			sched_yield();
		link_rdma_memory_free(lent[i]);
	}
	rdma_memory_reap(&host, true);
}

struct way {
	bool direct, gathers, careful;
	bool uncopied;
	uint32_t longest; // write
};

static void open_lent(struct pair *p, unsigned i, struct fake_end e[2], struct link_rdma_key *keys,
	const struct way *w)
{
	struct link *l[2];

	fake_links(e, l, RDMA_MESSAGE_BYTES);
	for (unsigned k = 0; k < p->to.n; k++) {
		struct ibv_mr *mr = verbs_fake.reg_mr(
			&e[1].pd, p->to.r[k].base, p->to.r[k].bytes, IBV_ACCESS_REMOTE_WRITE);

		keys[k] = (struct link_rdma_key){(uintptr_t)mr->addr, mr->rkey, w->direct};
	}
	link_rdma_direct(l[0], keys);
	link_rdma_direct(l[1], NULL);
	lend(p, i, &e[0]);
	link_rdma_read(l[0], lent[i]);
	rdma_of(l[0])->gathers = w->gathers;
	if (w->careful)
		link_rdma_careful(l[0]);
	assert_int_equal(flow_send_new(&p->send[i], &p->send_job, l[0], 1, -1, NULL), 0);
	assert_int_equal(flow_recv_new(&p->recv[i], &p->recv_job, l[1], 2, -1, NULL), 0);
}

// Pages are read where they lie, right to their place or through slots, by few large writes or by
// small ones; those of chunks with a hole are copied; what comes is the same.
static void moves_uncopied(void **state)
{
	static const struct way ways[] = {
		{.direct = true, .gathers = true, .uncopied = true, .longest = CHUNK_BYTES},
		{.direct = true, .uncopied = true, .longest = CHUNK_BYTES},
		{.direct = true, .careful = true, .uncopied = true, .longest = RDMA_PIECE_BYTES},
		{.gathers = true, .uncopied = true, .longest = RDMA_PIECE_BYTES},
		{.longest = RDMA_PIECE_BYTES},
	};
	const uint64_t sizes[] = {1000, 64, 1, 3001};
	static struct link_rdma_key keys[PAIR_FLOWS][REGION_MAX];

	(void)state;
	for (size_t w = 0; w < sizeof(ways) / sizeof(ways[0]); w++) {
		struct fake_end e[PAIR_FLOWS][2];
		struct seed s = {.state = 7 + w};
		uint64_t data = 0, uncopied = 0;
		struct pair p;

		pair_open(&p, sizes, 4, NULL, 1);
		for (unsigned i = 0; i < p.to.n; i++) {
			memset(p.to.r[i].base, 0, p.to.r[i].bytes);
			assert_int_equal(recv_job_pin(&p.recv_job, i, NULL), 0);
		}
		recv_job_populated(&p.recv_job);
		for (unsigned i = 0; i < PAIR_FLOWS; i++)
			open_lent(&p, i, e[i], keys[i], &ways[w]);
		for (uint32_t pass = 0; pass < 3; pass++) {
			pair_fill(&p, &s);
			pair_populated(&p.from, p.dirty.set);
			pair_publish(&p, pass);
			pair_run(&p, pass);
			pair_finish_pass(&p);
			same(&p);
		}
		for (unsigned i = 0; i < PAIR_FLOWS; i++) {
			data += stats_get(&p.send[i]->stats, STAT_pages_data);
			uncopied += stats_get(&p.send[i]->stats, STAT_pages_uncopied);
			assert_true(e[i][0].longest <= ways[w].longest);
			assert_int_equal(e[i][0].gathered > 0, !ways[w].direct && ways[w].uncopied);
		}
		assert_true(data > 0 && uncopied < data);
		assert_int_equal(uncopied > 0, ways[w].uncopied);
		take_back(&p);
		pair_close(&p);
		for (unsigned i = 0; i < PAIR_FLOWS; i++) {
			fake_free(&e[i][0]);
			fake_free(&e[i][1]);
		}
	}
}

// What the device reads where it lies is what is there when it reads. A page that is not all lent
// is as it was when it was taken.
static void device_reads_late(void **state)
{
	static struct link_rdma_key keys[REGION_MAX];
	const uint64_t sizes[] = {1000};

	(void)state;
	for (unsigned is_lent = 0; is_lent < 2; is_lent++) {
		uint32_t chunk = is_lent ? 4 : 2; // the longest run begins behind the hole
		struct link_tx t = {.hdr = {.type = FRAME_CHUNK,
					    .chunk = chunk,
					    .chunks = 1,
					    .data = UINT64_C(1) << 5,
					    .payload_bytes = PAGE_BYTES},
			.nseg = 1};
		uint64_t at = chunk * CHUNK_BYTES + 5 * PAGE_BYTES;
		struct fake_end e[2];
		struct link *l[2];
		struct ibv_mr *mr;
		struct pair p;

		pair_open(&p, sizes, 1, NULL, 1);
		fake_links(e, l, RDMA_MESSAGE_BYTES);
		mr = verbs_fake.reg_mr(
			&e[1].pd, p.to.r[0].base, p.to.r[0].bytes, IBV_ACCESS_REMOTE_WRITE);
		keys[0] = (struct link_rdma_key){(uintptr_t)mr->addr, mr->rkey, true};
		link_rdma_direct(l[0], keys);
		lend(&p, 0, &e[0]);
		link_rdma_read(l[0], lent[0]);
		t.seg[0] = (struct iovec){p.from.r[0].base + at, PAGE_BYTES};
		p.from.r[0].base[at] = 1;
		assert_int_equal(l[0]->ops->tx(l[0], &t, 1), 1);
		assert_int_equal(t.uncopied, is_lent);
		p.from.r[0].base[at] = 2;
		l[0]->ops->poll(l[0]);
		l[1]->ops->poll(l[1]);
		assert_int_equal(p.to.r[0].base[at], 1 + is_lent);
		l[0]->ops->close(l[0]);
		l[1]->ops->close(l[1]);
		link_rdma_memory_end(lent[0]);
		while (!link_rdma_memory_ended(lent[0]))
			sched_yield();
		link_rdma_memory_free(lent[0]);
		rdma_memory_reap(&host, true);
		pair_close(&p);
		fake_free(&e[0]);
		fake_free(&e[1]);
	}
}

// A key of another session's memory, on the same device, is none here.
static void other_domains_are_closed(void **state)
{
	static struct link_rdma_key keys[REGION_MAX];
	static uint8_t page[PAGE_BYTES], theirs[PAGE_BYTES];
	struct link_tx t = {
		.hdr = {.type = FRAME_CHUNK, .chunks = 1, .data = 1, .payload_bytes = PAGE_BYTES},
		.nseg = 1,
		.seg = {{page, PAGE_BYTES}}};
	struct fake_end e[2];
	struct link *l[2];
	struct ibv_mr *mr;
	struct ibv_pd *pd;

	(void)state;
	memset(page, 7, sizeof(page));
	fake_links(e, l, RDMA_MESSAGE_BYTES);
	pd = verbs_fake.alloc_pd((struct ibv_context *)&e[1]);
	mr = verbs_fake.reg_mr(pd, theirs, sizeof(theirs), IBV_ACCESS_REMOTE_WRITE);
	keys[0] = (struct link_rdma_key){(uintptr_t)theirs, mr->rkey, true};
	link_rdma_direct(l[0], keys);
	assert_int_equal(l[0]->ops->tx(l[0], &t, 1), 1);
	for (unsigned turns = 0; turns < 3; turns++)
		l[0]->ops->poll(l[0]);
	assert_int_equal(l[0]->error, EACCES);
	assert_int_equal(theirs[0], 0);
	verbs_fake.dealloc_pd(pd);
	for (unsigned i = 0; i < 2; i++) {
		l[i]->ops->close(l[i]);
		fake_free(&e[i]);
	}
}

// Pages that came where or when they must not end the flow: a region that is not the device's to
// write, another pass, a chunk that came before (law 5).
static void what_came_unasked_ends_the_flow(void **state)
{
	static const struct {
		uint16_t region;
		uint32_t pass;
		unsigned frames;
		int error;
	} rows[] = {{0, 0, 1, 0}, {1, 0, 1, EPROTO}, {0, 1, 1, EPROTO}, {0, 0, 2, EPROTO}};
	static struct link_rdma_key keys[REGION_MAX];
	static uint8_t page[PAGE_BYTES];
	const uint64_t sizes[] = {1000, 64};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct fake_end e[2];
		struct link *l[2];
		struct pair p;

		pair_open(&p, sizes, 2, NULL, 1);
		assert_int_equal(recv_job_pin(&p.recv_job, 0, NULL), 0);
		recv_job_populated(&p.recv_job);
		fake_links(e, l, RDMA_MESSAGE_BYTES);
		for (unsigned k = 0; k < 2; k++) {
			struct ibv_mr *mr = verbs_fake.reg_mr(
				&e[1].pd, p.to.r[k].base, p.to.r[k].bytes, IBV_ACCESS_REMOTE_WRITE);

			keys[k] = (struct link_rdma_key){(uintptr_t)mr->addr, mr->rkey, true};
		}
		link_rdma_direct(l[0], keys);
		link_rdma_direct(l[1], NULL);
		assert_int_equal(flow_recv_new(&p.recv[0], &p.recv_job, l[1], 2, -1, NULL), 0);
		for (unsigned n = 0; n < rows[i].frames; n++) {
			struct link_tx t = {.hdr = {.type = FRAME_CHUNK,
						    .region = rows[i].region,
						    .pass = rows[i].pass,
						    .chunks = 1,
						    .data = 1,
						    .payload_bytes = PAGE_BYTES},
				.nseg = 1,
				.seg = {{page, PAGE_BYTES}}};

			assert_int_equal(l[0]->ops->tx(l[0], &t, 1), 1);
			for (unsigned turns = 0; turns < 4; turns++) {
				l[0]->ops->poll(l[0]);
				flow_poll(p.recv[0]);
			}
		}
		assert_int_equal(atomic_load(&p.recv[0]->error), rows[i].error);
		l[0]->ops->close(l[0]);
		pair_close(&p);
		fake_free(&e[0]);
		fake_free(&e[1]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(moves_direct),
		cmocka_unit_test(moves_uncopied),
		cmocka_unit_test(device_reads_late),
		cmocka_unit_test(other_domains_are_closed),
		cmocka_unit_test(what_came_unasked_ends_the_flow),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
