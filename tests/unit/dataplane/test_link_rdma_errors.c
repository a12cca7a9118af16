// SPDX-License-Identifier: BSD-3-Clause
// What can go wrong on a queue pair: each completion status, a device that takes no work or no
// memory, a peer that lies, one that left. Each ends the link for good with a sentence that says
// what failed and what to do.

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "clock.h"
#include "fake_verbs.h"

static struct fake_end e[2];
static struct link *l[2];

static int open_both(void **state)
{
	(void)state;
	fake_links(e, l, RDMA_MESSAGE_BYTES);
	return 0;
}

static int close_both(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		l[i]->ops->close(l[i]);
		fake_free(&e[i]);
	}
	return 0;
}

static void poll_both(unsigned turns)
{
	struct link_rx x;

	for (unsigned i = 0; i < turns; i++) {
		l[0]->ops->poll(l[0]);
		l[1]->ops->poll(l[1]);
		l[1]->ops->rx(l[1], &x, 1);
	}
}

static void expect_broken(struct link *k, int errnum, const char *text)
{
	struct link_tx t = {.hdr = {.type = FRAME_ZERO, .chunks = 1}};
	struct link_rx x;

	assert_int_equal(k->error, errnum);
	if (strstr(k->why.text, text) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", k->why.text, text);
	// A broken link stays broken and does no harm.
	assert_int_equal(k->ops->poll(k), -errnum);
	assert_int_equal(k->ops->tx(k, &t, 1), 0);
	assert_int_equal(k->ops->rx(k, &x, 1), 0);
}

// What was flushed is no reason by itself: the real one has some time to be told.
static void poll_until_broken(struct link *k)
{
	for (uint64_t t0 = clock_ns(); k->error == 0 && clock_ns() - t0 < 60 * NS_PER_S;)
		poll_both(1);
}

static void queue_zero(void)
{
	struct link_tx t = {.hdr = {.type = FRAME_ZERO, .chunks = 1}};

	assert_int_equal(l[0]->ops->tx(l[0], &t, 1), 1);
}

static void queue_page(void)
{
	static uint8_t page[PAGE_BYTES];
	struct link_tx t = {
		.hdr = {.type = FRAME_CHUNK, .chunks = 1, .data = 1, .payload_bytes = PAGE_BYTES},
		.nseg = 1,
		.seg = {{page, PAGE_BYTES}}};

	assert_int_equal(l[0]->ops->tx(l[0], &t, 1), 1);
}

static void each_status_has_its_words(void **state)
{
	char seen[IBV_WC_TM_RNDV_INCOMPLETE + 1][ERR_TEXT_BYTES];

	(void)state;
	for (int bad = IBV_WC_SUCCESS + 1; bad <= IBV_WC_TM_RNDV_INCOMPLETE; bad++) {
		char status[32];

		snprintf(status, sizeof(status), "(status %d): ", bad);
		for (int page = 0; page < 2; page++) {
			open_both(NULL);
			e[0].bad = (enum ibv_wc_status)bad;
			if (page == 1)
				queue_page();
			else
				queue_zero();
			poll_until_broken(l[0]);
			expect_broken(l[0], l[0]->error, status);
			assert_int_not_equal(l[0]->error, 0);
			assert_non_null(strstr(l[0]->why.text,
				page == 1 ? "writing a frame to a slot" : "sending a frame"));
			strcpy(seen[bad], l[0]->why.text);
			close_both(NULL);
		}
		open_both(NULL);
		fake_receive(&e[1], NULL, 0, IBV_WC_RECV, 0, (enum ibv_wc_status)bad);
		poll_until_broken(l[1]);
		expect_broken(l[1], l[1]->error, "receiving a frame");
		close_both(NULL);
	}
	// What is to be done differs where it can.
	assert_null(strstr(seen[IBV_WC_RETRY_EXC_ERR], "kernel's log"));
	assert_non_null(strstr(seen[IBV_WC_RETRY_EXC_ERR], "cables"));
	assert_non_null(strstr(seen[IBV_WC_REM_ACCESS_ERR], "not registered"));
}

static void what_was_posted_is_flushed(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 20; i++)
		queue_zero();
	e[0].bad = IBV_WC_RETRY_EXC_ERR;
	poll_both(5);
	// The first status is the reason; those that follow say nothing new.
	expect_broken(l[0], ETIMEDOUT, "did not answer");
}

// The same where another queue's flushed requests come first, or the control loop hears of it later
// than the completion queue; and what came before is handed out.
static void what_is_flushed_hides_no_reason(void **state)
{
	struct link_rx x;

	(void)state;
	rdma_of(l[0])->why_cycles = UINT64_MAX; // however long this process is kept from its CPU
	fake_receive(&e[0], NULL, 0, IBV_WC_RECV, 0, IBV_WC_WR_FLUSH_ERR);
	poll_both(3);
	assert_int_equal(l[0]->error, 0);
	fake_receive(&e[0], NULL, 0, IBV_WC_RECV, 0, IBV_WC_REM_ACCESS_ERR);
	poll_both(1);
	expect_broken(l[0], EACCES, "not registered for this key");

	close_both(NULL);
	open_both(NULL);
	rdma_of(l[0])->why_cycles = rdma_of(l[1])->why_cycles = UINT64_MAX;
	queue_zero();
	l[0]->ops->poll(l[0]);
	fake_receive(&e[0], NULL, 0, IBV_WC_RECV, 0, IBV_WC_WR_FLUSH_ERR);
	l[1]->ops->poll(l[1]);
	fake_receive(&e[1], NULL, 0, IBV_WC_RECV, 0, IBV_WC_WR_FLUSH_ERR);
	for (unsigned i = 0; i < 2; i++) {
		atomic_store(&rdma_of(l[i])->gone, i == 0 ? ENETDOWN : ENODEV);
		l[i]->ops->poll(l[i]);
	}
	expect_broken(l[0], ENETDOWN, "port went down");
	assert_int_equal(l[1]->error, 0);
	assert_int_equal(l[1]->ops->rx(l[1], &x, 1), 1);
	l[1]->ops->poll(l[1]);
	expect_broken(l[1], ENODEV, "was removed");
}

static void device_takes_no_work(void **state)
{
	(void)state;
	queue_zero();
	e[0].post_errno = EINVAL;
	poll_both(1);
	expect_broken(l[0], EINVAL, "takes no more work (send");
}

// Nothing is under way, so nothing will make room: that is no full queue.
static void device_that_is_full_of_nothing(void **state)
{
	(void)state;
	queue_zero();
	e[0].post_errno = ENOMEM;
	poll_both(1);
	expect_broken(l[0], ENOMEM, "takes no more work");
}

static void full_queue_goes_on(void **state)
{
	(void)state;
	queue_zero();
	e[0].stuck = true;
	l[0]->ops->poll(l[0]);
	for (unsigned i = 0; i < 5; i++)
		queue_zero();
	e[0].post_errno = ENOMEM;
	l[0]->ops->poll(l[0]);
	e[0].post_errno = 0;
	e[0].stuck = false;
	poll_both(10);
	assert_int_equal(l[0]->error, 0);
	assert_int_equal(l[1]->next_seq, 6);
}

static void no_memory_is_registered(void **state)
{
	struct rlimit before, low = {1 << 20, 1 << 20};
	struct fake_end a, b;
	struct link *k;
	struct err why;

	(void)state;
	assert_return_code(getrlimit(RLIMIT_MEMLOCK, &before), errno);
	low.rlim_max = before.rlim_max;
	low.rlim_cur = before.rlim_max < low.rlim_cur ? before.rlim_max : low.rlim_cur;
	fake_pair(&a, &b);
	a.reg_errno = ENOMEM;
	assert_return_code(setrlimit(RLIMIT_MEMLOCK, &low), errno);
	assert_int_equal(fake_link(&k, &a, true, 0, &why), -ENOMEM);
	assert_return_code(setrlimit(RLIMIT_MEMLOCK, &before), errno);
	assert_non_null(strstr(why.text, "RLIMIT_MEMLOCK"));
	assert_non_null(strstr(why.text, "LimitMEMLOCK="));
	a.reg_errno = EIO;
	assert_int_equal(fake_link(&k, &a, true, 0, &why), -EIO);
	assert_non_null(strstr(why.text, "can't register"));
	fake_free(&a);
	fake_free(&b);
}

static void other_slots_are_refused(void **state)
{
	struct rdma_hello_accept a;
	struct err why;

	(void)state;
	link_rdma_offer(l[1], &a);
	a.slot_bytes++;
	assert_int_equal(link_rdma_meet(l[0], &a, &why), -EPROTO);
	assert_non_null(strstr(why.text, "same version"));
	a.slot_bytes--;
	a.addr = UINT64_MAX - 5;
	assert_int_equal(link_rdma_meet(l[0], &a, &why), -EPROTO);
}

// The target's memory is no longer there for this key.
static void bad_key(void **state)
{
	struct rdma_hello_accept a;

	(void)state;
	link_rdma_offer(l[1], &a);
	a.rkey++;
	assert_int_equal(link_rdma_meet(l[0], &a, NULL), 0);
	queue_page();
	poll_both(2);
	expect_broken(l[0], EACCES, "writing a frame to a slot of the target failed");
	assert_non_null(strstr(l[0]->why.text, "not registered for this key"));
}

// The same of the guest's own memory there.
static void bad_key_of_the_guest(void **state)
{
	const struct link_rdma_key keys[REGION_MAX] = {{0x1000, 0xbad, true}};

	(void)state;
	link_rdma_direct(l[0], keys);
	queue_page();
	poll_both(2);
	expect_broken(l[0], EACCES, "writing pages to their place at the target failed");
	assert_non_null(strstr(l[0]->why.text, "not registered for this key"));
}

// Where a new queue pair may do better, the session makes one.
static void fabric_is_the_network(void **state)
{
	static const int errnums[IBV_WC_TM_RNDV_INCOMPLETE + 1] = {
		[IBV_WC_LOC_QP_OP_ERR] = ECONNRESET,
		[IBV_WC_BAD_RESP_ERR] = ECONNRESET,
		[IBV_WC_REM_OP_ERR] = ECONNRESET,
		[IBV_WC_REM_INV_REQ_ERR] = ECONNRESET,
		[IBV_WC_RETRY_EXC_ERR] = ETIMEDOUT,
		[IBV_WC_RESP_TIMEOUT_ERR] = ETIMEDOUT,
		[IBV_WC_FATAL_ERR] = EIO,
		[IBV_WC_REM_ACCESS_ERR] = EACCES,
	};

	(void)state;
	for (int bad = IBV_WC_SUCCESS + 1; bad <= IBV_WC_TM_RNDV_INCOMPLETE; bad++) {
		if (errnums[bad] == 0)
			continue;
		open_both(NULL);
		e[0].bad = (enum ibv_wc_status)bad;
		queue_zero();
		poll_both(3);
		assert_int_equal(l[0]->error, errnums[bad]);
		close_both(NULL);
	}
}

static uint8_t *some_header(uint8_t type, uint64_t seq)
{
	static uint8_t buf[RDMA_MESSAGE_BYTES];
	struct frame f = {.type = type, .seq = seq};

	if (type == FRAME_ZERO)
		f.chunks = 1;
	frame_encode(&f, buf);
	return buf;
}

// A peer that lies to the target; each lie on a link of its own.
static void lie_to_target(
	const void *data, uint32_t bytes, enum ibv_wc_opcode op, uint32_t imm, const char *text)
{
	open_both(NULL);
	fake_receive(&e[1], data, bytes, op, imm, IBV_WC_SUCCESS);
	poll_both(3);
	expect_broken(l[1], EPROTO, text);
	close_both(NULL);
}

static void lies_to_the_target(void **state)
{
	const uint8_t *zero = some_header(FRAME_ZERO, 0);

	(void)state;
	lie_to_target(zero, FRAME_HDR_BYTES - 1, IBV_WC_RECV, 0, "length");
	lie_to_target(zero, FRAME_HDR_BYTES + 1, IBV_WC_RECV, 0, "length");
	lie_to_target(zero, UINT32_MAX, IBV_WC_RECV, 0, "length");
	lie_to_target(NULL, FRAME_HDR_BYTES, IBV_WC_RECV_RDMA_WITH_IMM, 1, "length");
	lie_to_target(NULL, FRAME_HDR_BYTES, IBV_WC_RECV_RDMA_WITH_IMM, UINT32_MAX, "length");
	lie_to_target(NULL, RDMA_SLOT_BYTES + 1, IBV_WC_RECV_RDMA_WITH_IMM, 0, "length");
	lie_to_target(NULL, FRAME_HDR_BYTES, IBV_WC_RECV_RDMA_WITH_IMM, 0, "peer");
	lie_to_target(some_header(FRAME_ZERO, 1), FRAME_HDR_BYTES, IBV_WC_RECV, 0, "peer");
}

static void lie_to_source(uint8_t type, uint64_t seq, uint32_t bytes)
{
	open_both(NULL);
	queue_zero();
	fake_receive(&e[0], some_header(type, seq), bytes, IBV_WC_RECV, 0, IBV_WC_SUCCESS);
	poll_both(2);
	expect_broken(l[0], EPROTO, "peer or the wire is faulty");
	close_both(NULL);
}

static void lies_to_the_source(void **state)
{
	(void)state;
	lie_to_source(FRAME_ACK, 2, FRAME_HDR_BYTES); // of a frame that was not sent
	lie_to_source(FRAME_TORN, 1, FRAME_HDR_BYTES);
	lie_to_source(FRAME_BARRIER_ACK, 0, FRAME_HDR_BYTES);
	lie_to_source(FRAME_ZERO, 0, FRAME_HDR_BYTES);
	lie_to_source(FRAME_ACK, 1, FRAME_HDR_BYTES - 1);
	lie_to_source(FRAME_ACK, 1, 0);
}

// What came before the peer left is still handed out.
static void peer_left(void **state)
{
	struct link_rx x;

	(void)state;
	queue_zero();
	l[0]->ops->poll(l[0]);
	l[1]->ops->poll(l[1]);
	atomic_store(&rdma_of(l[1])->gone, EPIPE);
	l[1]->ops->poll(l[1]);
	assert_int_equal(l[1]->error, 0);
	assert_int_equal(l[1]->ops->rx(l[1], &x, 1), 1);
	poll_both(2);
	expect_broken(l[1], EPIPE, "the peer closed the connection");
	atomic_store(&rdma_of(l[0])->gone, ENODEV);
	poll_both(3);
	expect_broken(l[0], ENODEV, "the device was removed");
}

static void hello_is_checked(void **state)
{
	struct rdma_hello_ask a = {.flow = 7, .token = {1, 2, 3}, .mtu = 4096}, b;
	struct rdma_hello_accept c = {16, 4096, 128, 77, 0x123456789, 256}, d;
	static const uint32_t wrong[] = {0, 1, 128, 255, 1000, 8192, UINT32_MAX};
	uint8_t buf[RDMA_HELLO_BYTES + 24] = {0}, again[RDMA_HELLO_BYTES];

	(void)state;
	rdma_hello_put_ask(buf, &a);
	assert_int_equal(rdma_hello_get_ask(&b, buf, sizeof(buf)), 0);
	assert_int_equal(b.flow, 7);
	assert_int_equal(b.mtu, 4096);
	assert_memory_equal(a.token, b.token, sizeof(a.token));
	assert_int_equal(rdma_hello_get_accept(&d, buf, sizeof(buf)), -EPROTO);
	buf[sizeof(buf) - 1] = 1;
	assert_int_equal(rdma_hello_get_ask(&b, buf, sizeof(buf)), -EPROTO);
	assert_int_equal(rdma_hello_get_ask(&b, buf, 23), -EPROTO);
	assert_int_equal(rdma_hello_get_ask(&b, NULL, 56), -EPROTO);
	buf[2]++;
	assert_int_equal(rdma_hello_get_ask(&b, buf, RDMA_HELLO_BYTES), -EPROTONOSUPPORT);
	rdma_hello_put_accept(buf, &c);
	assert_int_equal(rdma_hello_get_accept(&d, buf, RDMA_HELLO_BYTES), 0);
	rdma_hello_put_accept(again, &d); // its padding may be anything
	assert_memory_equal(again, buf, RDMA_HELLO_BYTES);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		a.mtu = c.mtu = wrong[i];
		rdma_hello_put_ask(buf, &a);
		assert_int_equal(rdma_hello_get_ask(&b, buf, RDMA_HELLO_BYTES), -EPROTO);
		rdma_hello_put_accept(buf, &c);
		assert_int_equal(rdma_hello_get_accept(&d, buf, RDMA_HELLO_BYTES), -EPROTO);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_status_has_its_words),
		cmocka_unit_test_setup_teardown(what_was_posted_is_flushed, open_both, close_both),
		cmocka_unit_test_setup_teardown(
			what_is_flushed_hides_no_reason, open_both, close_both),
		cmocka_unit_test_setup_teardown(device_takes_no_work, open_both, close_both),
		cmocka_unit_test_setup_teardown(
			device_that_is_full_of_nothing, open_both, close_both),
		cmocka_unit_test_setup_teardown(full_queue_goes_on, open_both, close_both),
		cmocka_unit_test(no_memory_is_registered),
		cmocka_unit_test_setup_teardown(other_slots_are_refused, open_both, close_both),
		cmocka_unit_test_setup_teardown(bad_key, open_both, close_both),
		cmocka_unit_test_setup_teardown(bad_key_of_the_guest, open_both, close_both),
		cmocka_unit_test(fabric_is_the_network),
		cmocka_unit_test(lies_to_the_target),
		cmocka_unit_test(lies_to_the_source),
		cmocka_unit_test_setup_teardown(peer_left, open_both, close_both),
		cmocka_unit_test(hello_is_checked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
