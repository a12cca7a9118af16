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
	link_rdma_direct(l[0], keys);
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
		cmocka_unit_test(what_came_unasked_ends_the_flow),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
