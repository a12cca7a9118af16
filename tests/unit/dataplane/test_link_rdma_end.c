// SPDX-License-Identifier: BSD-3-Clause
// Connections of the rdma link as they are made and ended, with a connection manager that is none:
// what it is asked for, that each step has a deadline, that whoever shows no token is let in
// nowhere, that both ends agree on their packets, and that a device that fails leaves nobody
// waiting.

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "clock.h"
#include "fake_cm.h"

static const uint8_t token[LINK_RDMA_TOKEN_BYTES] = "of a session";
static struct fake_end e[2];
static struct ibv_context ctx;
static struct rdma_cm_id listener;
static struct link_rdma_host h;
static struct link_rdma_domain domain;
static struct link_rdma_end *end;
static struct link *got;
static struct err why;
static unsigned ups;
static uint8_t hello[RDMA_HELLO_BYTES];

static void on_up(void *arg, struct link *l, const struct err *reason)
{
	(void)arg;
	ups++;
	got = l;
	if (reason != NULL)
		why = *reason;
}

static bool asked(void *arg, const struct link_rdma_ask *ask, struct link_rdma_welcome *w)
{
	(void)arg;
	w->domain = &domain;
	w->up = on_up;
	w->end = &end;
	return ask->flow == 3 && memcmp(ask->token, token, sizeof(token)) == 0;
}

static int begin(void **state)
{
	(void)state;
	fake_pair(&e[0], &e[1]);
	fake_cm_begin(&e[0]);
	listener = (struct rdma_cm_id){.verbs = &ctx, .port_num = 1};
	h = (struct link_rdma_host){.v = &verbs_fake,
		.cfg = {.traffic_class = 0x68, .asked = asked},
		.info = {.device = "fake0", .address = "10.0.0.1", .mtu = 4096, .node = -1},
		.listener = &listener};
	domain = (struct link_rdma_domain){.host = &h, .pd = &e[0].pd, .users = 1};
	end = NULL;
	got = NULL;
	why = (struct err){0};
	ups = 0;
	return 0;
}

static int finish(void **state)
{
	(void)state;
	while (!LIST_EMPTY(&h.ends))
		rdma_end_free(LIST_FIRST(&h.ends));
	assert_int_equal(cm.ids, 0);
	assert_int_equal(domain.users, 1);
	fake_free(&e[0]);
	fake_free(&e[1]);
	return 0;
}

static void expect_told(int errnum, const char *text)
{
	assert_int_equal(ups, 1);
	assert_null(got);
	assert_null(end);
	assert_int_equal(why.errnum, errnum);
	if (strstr(why.text, text) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", why.text, text);
	assert_true(LIST_EMPTY(&h.ends));
	assert_int_equal(cm.ids, 0);
	ups = 0;
}

static void dial(void)
{
	struct err reason;

	if (link_rdma_dial(
		    &domain, &end, "10.0.0.2", 7, token, 3, NS_PER_S, on_up, NULL, &reason) != 0)
		fail_msg("%s", reason.text);
	end->id->verbs = &ctx;
}

static void say(enum rdma_cm_event_type type)
{
	fake_cm_say(end->id, type, NULL, 0);
	link_rdma_host_poll(&h);
}

static void say_accept(uint32_t mtu)
{
	const struct rdma_hello_accept a = {
		RDMA_SLOTS, RDMA_SLOT_BYTES, RDMA_FRAMES, 5, 0x1000, mtu};

	rdma_hello_put_accept(hello, &a);
	fake_cm_say(end->id, RDMA_CM_EVENT_CONNECT_RESPONSE, hello, sizeof(hello));
	link_rdma_host_poll(&h);
}

enum { ADDRESS, ROUTE, CONNECT, ACCEPT, UP, STEPS };

static void ask(const uint8_t *shown, uint32_t flow, uint32_t mtu)
{
	struct rdma_hello_ask a = {.flow = flow, .mtu = mtu};

	memcpy(a.token, shown, sizeof(a.token));
	rdma_hello_put_ask(hello, &a);
	fake_cm_say(fake_cm_caller(&ctx), RDMA_CM_EVENT_CONNECT_REQUEST, hello, sizeof(hello));
	link_rdma_host_poll(&h);
}

// To where it waits for the next event.
static void come_to(int step)
{
	if (step == ACCEPT) {
		ask(token, 3, 4096);
		return;
	}
	dial();
	if (step >= ROUTE)
		say(RDMA_CM_EVENT_ADDR_RESOLVED);
	if (step >= CONNECT)
		say(RDMA_CM_EVENT_ROUTE_RESOLVED);
	if (step == UP)
		say_accept(4096);
}

static void expect_param(void)
{
	// 7 is no end for some devices; and a peer that is silent must be noticed.
	assert_in_range(cm.param.retry_count, 1, 6);
	assert_in_range(cm.param.rnr_retry_count, 1, 6);
	assert_int_equal(cm.param.qp_num, 77);
	assert_int_equal(cm.param.srq, 0);
	// 4.096 µs times 2 to its power: no less than 50 ms, no more than 1 s; 0 is for ever.
	assert_in_range(cm.ack_timeout, 14, 17);
}

static void dials(void **state)
{
	struct rdma_hello_ask a;

	(void)state;
	dial();
	assert_int_equal(cm.tos, 0x68);
	assert_int_equal(cm.resolves, 1);
	assert_in_range(cm.resolve_ms, 1, 10000);
	say(RDMA_CM_EVENT_ADDR_RESOLVED);
	assert_int_equal(cm.routes, 1);
	assert_in_range(cm.route_ms, 1, 10000);
	assert_int_equal(cm.state, IBV_QPS_INIT);
	say(RDMA_CM_EVENT_ROUTE_RESOLVED);
	assert_int_equal(cm.connects, 1);
	expect_param();
	assert_int_equal(rdma_hello_get_ask(&a, cm.data, RDMA_HELLO_BYTES), 0);
	assert_int_equal(a.mtu, 4096);
	assert_int_equal(a.flow, 3);
	assert_memory_equal(a.token, token, sizeof(token));
	say_accept(1024);
	assert_int_equal(cm.establishes, 1);
	assert_int_equal(cm.state, IBV_QPS_RTS);
	assert_int_equal(cm.mtu, IBV_MTU_1024);
	assert_int_equal(ups, 1);
	assert_non_null(got);
	assert_null(end);
	assert_int_equal(link_rdma_mtu(got), 1024);
}

static void leaves(void **state)
{
	struct link_rdma_end *d;

	(void)state;
	come_to(UP);
	d = LIST_FIRST(&h.ends);
	got->ops->close(got);
	assert_int_equal(cm.state, IBV_QPS_ERR);
	assert_int_equal(cm.leaves, 1);
	assert_int_not_equal(d->until_ns, 0);
	fake_cm_say(d->id, RDMA_CM_EVENT_DISCONNECTED, NULL, 0);
	link_rdma_host_poll(&h);
	assert_true(link_rdma_host_idle(&h));
}

// A queue pair that can't be shut may write nothing either.
static void leaves_at_once(void **state)
{
	(void)state;
	come_to(UP);
	cm.modify_errno = EIO;
	got->ops->close(got);
	assert_true(link_rdma_host_idle(&h));
	assert_int_equal(cm.state, IBV_QPS_UNKNOWN);
}

// Nobody waits for ever, wherever it stands.
static void each_step_has_its_deadline(void **state)
{
	(void)state;
	for (int step = ADDRESS; step < UP; step++) {
		come_to(step);
		assert_int_not_equal(end->until_ns, 0);
		assert_in_range(end->until_ns, 1, clock_ns() + 15 * NS_PER_S);
		end->until_ns = 1;
		link_rdma_host_poll(&h);
		expect_told(ETIMEDOUT, "was made in time");
	}
	// The goodbye too.
	come_to(UP);
	got->ops->close(got);
	assert_in_range(LIST_FIRST(&h.ends)->until_ns, clock_ns() + 1, clock_ns() + 15 * NS_PER_S);
	LIST_FIRST(&h.ends)->until_ns = 1;
	link_rdma_host_poll(&h);
	assert_true(link_rdma_host_idle(&h));
}

static void each_refusal_has_its_words(void **state)
{
	static const struct {
		int step;
		enum rdma_cm_event_type type;
		int errnum;
		const char *text;
	} rows[] = {
		{ADDRESS, RDMA_CM_EVENT_ADDR_ERROR, EHOSTUNREACH, "no device of this host reaches"},
		{ROUTE, RDMA_CM_EVENT_ROUTE_ERROR, EHOSTUNREACH, "no route"},
		{CONNECT, RDMA_CM_EVENT_REJECTED, ECONNREFUSED, "refused the connection"},
		{CONNECT, RDMA_CM_EVENT_UNREACHABLE, EHOSTUNREACH, "does not answer"},
		{CONNECT, RDMA_CM_EVENT_CONNECT_ERROR, EHOSTUNREACH, "does not answer"},
		{CONNECT, RDMA_CM_EVENT_DISCONNECTED, EHOSTUNREACH, "does not answer"},
		{ADDRESS, RDMA_CM_EVENT_DEVICE_REMOVAL, ENODEV, "device fake0 was removed"},
		{ACCEPT, RDMA_CM_EVENT_REJECTED, ECONNREFUSED, "refused the connection"},
		{ACCEPT, RDMA_CM_EVENT_DEVICE_REMOVAL, ENODEV, "device fake0 was removed"},
		{ACCEPT, RDMA_CM_EVENT_UNREACHABLE, EHOSTUNREACH, "does not answer"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		come_to(rows[i].step);
		say(rows[i].type);
		expect_told(rows[i].errnum, rows[i].text);
	}
}

static void lets_in_who_is_waited_for(void **state)
{
	uint8_t other[LINK_RDMA_TOKEN_BYTES] = "of nobody";
	struct rdma_hello_accept a;

	(void)state;
	ask(other, 3, 4096);
	ask(token, 4, 4096);
	assert_int_equal(cm.rejects, 2);
	hello[2]++; // another version, and one cut short
	fake_cm_say(fake_cm_caller(&ctx), RDMA_CM_EVENT_CONNECT_REQUEST, hello, sizeof(hello));
	fake_cm_say(fake_cm_caller(&ctx), RDMA_CM_EVENT_CONNECT_REQUEST, hello, 5);
	fake_cm_say(fake_cm_caller(&ctx), RDMA_CM_EVENT_CONNECT_REQUEST, NULL, 0);
	link_rdma_host_poll(&h);
	assert_int_equal(cm.rejects, 5);
	assert_int_equal(cm.ids, 0);
	assert_true(link_rdma_host_idle(&h));
	assert_int_equal(ups, 0);
	ask(token, 3, 2048);
	assert_int_equal(cm.accepts, 1);
	expect_param();
	assert_int_equal(cm.tos, 0x68);
	assert_int_equal(rdma_hello_get_accept(&a, cm.data, RDMA_HELLO_BYTES), 0);
	assert_int_equal(a.mtu, 2048);
	assert_int_equal(cm.state, IBV_QPS_RTS);
	say(RDMA_CM_EVENT_ESTABLISHED);
	assert_non_null(got);
	assert_int_equal(link_rdma_mtu(got), 2048);
}

// The least of what the source takes, the target takes, and the path.
static void agree_on_packets(void **state)
{
	static const struct {
		uint32_t asked, own;
		enum ibv_mtu path;
		uint32_t agreed;
	} rows[] = {
		{4096, 4096, IBV_MTU_4096, 4096},
		{1024, 4096, IBV_MTU_4096, 1024},
		{4096, 512, IBV_MTU_4096, 512},
		{4096, 4096, IBV_MTU_2048, 2048},
		{256, 512, IBV_MTU_1024, 256},
	};
	struct rdma_hello_accept a;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		h.info.mtu = rows[i].own;
		cm.path_mtu = rows[i].path;
		ask(token, 3, rows[i].asked);
		assert_int_equal(rdma_hello_get_accept(&a, cm.data, RDMA_HELLO_BYTES), 0);
		assert_int_equal(a.mtu, rows[i].agreed);
		assert_int_equal(128u << cm.mtu, rows[i].agreed);
		link_rdma_cancel(end);
	}
}

// A target that does not keep to it.
static void refuses_other_packets(void **state)
{
	(void)state;
	h.info.mtu = 1024;
	come_to(CONNECT);
	say_accept(2048);
	expect_told(EPROTO, "the path takes 1024");
	cm.path_mtu = IBV_MTU_512;
	come_to(CONNECT);
	say_accept(1024);
	expect_told(EPROTO, "the path takes 512");
	come_to(CONNECT);
	fake_cm_say(end->id, RDMA_CM_EVENT_CONNECT_RESPONSE, hello, 7);
	link_rdma_host_poll(&h);
	expect_told(EPROTO, "no godwitd");
	assert_int_equal(cm.establishes, 0);
}

static void queue_pair_can_not_be(void **state)
{
	struct link_rdma_end *d;

	(void)state;
	dial();
	cm.modify_errno = EINVAL;
	say(RDMA_CM_EVENT_ADDR_RESOLVED);
	expect_told(EINVAL, "cannot make a queue pair on device fake0");
	ask(token, 3, 4096);
	assert_int_equal(cm.rejects, 1);
	expect_told(EINVAL, "queue pair on device fake0");
	cm.modify_errno = 0;
	come_to(CONNECT);
	cm.modify_errno = EINVAL;
	say_accept(4096);
	expect_told(EINVAL, "cannot connect a queue pair on device fake0");
	cm.modify_errno = 0;
	dial();
	d = end;
	d->id->verbs = NULL; // reached by another device
	say(RDMA_CM_EVENT_ADDR_RESOLVED);
	expect_told(EHOSTUNREACH, "not reached by device fake0");
}

static void expect_no_dial(int errnum, const char *text)
{
	assert_int_equal(
		link_rdma_dial(&domain, &end, "10.0.0.2", 7, token, 3, 1, on_up, NULL, &why),
		-errnum);
	if (strstr(why.text, text) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", why.text, text);
	assert_int_equal(cm.ids, 0);
}

// What is being made is told at once, and nothing is made any more.
static void device_fails(void **state)
{
	(void)state;
	for (int step = ADDRESS; step < UP; step++) {
		h.gone = false;
		come_to(step);
		fake_cm_device(IBV_EVENT_DEVICE_FATAL, 0);
		link_rdma_host_poll(&h);
		expect_told(ENODEV, "device fake0 was removed or has failed");
		expect_no_dial(ENODEV, "device fake0 was removed or has failed");
		ask(token, 3, 4096);
		expect_told(ENODEV, "device fake0 was removed or has failed");
	}
	assert_int_equal(cm.rejects, (unsigned)UP);
	// The removal, and that it is up, in one turn.
	h.gone = false;
	come_to(ACCEPT);
	fake_cm_say(&listener, RDMA_CM_EVENT_DEVICE_REMOVAL, NULL, 0);
	say(RDMA_CM_EVENT_ESTABLISHED);
	expect_told(ENODEV, "device fake0 was removed or has failed");
	// What is up hears of it from its link.
	h.gone = false;
	come_to(UP);
	fake_cm_device(IBV_EVENT_DEVICE_FATAL, 0);
	link_rdma_host_poll(&h);
	assert_int_equal(got->ops->poll(got), -ENODEV);
}

// A port may come back: what is being made keeps its time, but does not come up meanwhile.
static void port_goes_down(void **state)
{
	(void)state;
	come_to(CONNECT);
	fake_cm_device(IBV_EVENT_PORT_ERR, 2); // another one
	fake_cm_device(IBV_EVENT_PORT_ERR, 1);
	link_rdma_host_poll(&h);
	assert_int_equal(ups, 0);
	say_accept(4096);
	expect_told(ENETDOWN, "port of device fake0 at 10.0.0.1 is down");
	expect_no_dial(ENETDOWN, "port of device fake0 at 10.0.0.1 is down");
	ask(token, 3, 4096);
	expect_told(ENETDOWN, "port of device fake0 at 10.0.0.1 is down");
	fake_cm_device(IBV_EVENT_PORT_ACTIVE, 2);
	link_rdma_host_poll(&h);
	expect_no_dial(ENETDOWN, "is down");
	fake_cm_device(IBV_EVENT_PORT_ACTIVE, 1);
	link_rdma_host_poll(&h);
	come_to(UP);
	assert_non_null(got);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, finish)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(dials),
		TEST(leaves),
		TEST(leaves_at_once),
		TEST(each_step_has_its_deadline),
		TEST(each_refusal_has_its_words),
		TEST(lets_in_who_is_waited_for),
		TEST(agree_on_packets),
		TEST(refuses_other_packets),
		TEST(queue_pair_can_not_be),
		TEST(device_fails),
		TEST(port_goes_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
