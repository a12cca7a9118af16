// SPDX-License-Identifier: BSD-3-Clause
// The balloon's bitmap and the switch-over (law 4), by the source's own passes: while much of it
// has not left for the target, the guest is not paused; and once it is paused, nothing goes on
// before the last changes are on their way. The VMM and the control connection are played here.

#include "harness.h"

#include <sys/mman.h>

#include "clock.h"
#include "codec.h"
#include "session_impl.h"

#define CHUNKS 4u
#define MUCH   (8u << 20) /* that waits for a wire which is slow */

static struct event_base *base;
static struct session s;
static size_t backlog;
static uint64_t told[CHUNKS]; /* what the target knows of the balloon */

/* In place of conn.c's. */
size_t __wrap_conn_backlog(const struct conn *c);
int __wrap_conn_send_blob(struct conn *c, const void *data, size_t bytes);

size_t __wrap_conn_backlog(const struct conn *c)
{
	(void)c;
	return backlog;
}

int __wrap_conn_send_blob(struct conn *c, const void *data, size_t bytes)
{
	struct err e;

	(void)c;
	assert_int_equal(carry_take(data, bytes, told, CHUNKS, &e), 0);
	return 0;
}

/* The one request of the VMM that is under way. */
static struct {
	uint16_t type;
	vmm_fn done;
	void *arg;
} asked;

static void ask(
	struct vmm *v, uint16_t type, uint64_t a, uint64_t b, int fd, vmm_fn done, void *arg)
{
	(void)v;
	(void)a;
	(void)b;
	(void)fd;
	asked.type = type;
	asked.done = done;
	asked.arg = arg;
}

static const struct vmm_ops vmm_ops = {.name = "played", .ask = ask};
static struct vmm vmm;

static void answer(uint16_t type)
{
	struct vmm_answer a = {.fd = -1};

	assert_int_equal(asked.type, type);
	asked.type = 0;
	asked.done(asked.arg, &a);
}

static uint64_t *planes(const char *name, int *fd)
{
	uint64_t *p;

	*fd = memfd_create(name, MFD_CLOEXEC);
	assert_true(*fd >= 0);
	assert_int_equal(ftruncate(*fd, 2 * CHUNKS * sizeof(*p)), 0);
	p = mmap(NULL, 2 * CHUNKS * sizeof(*p), PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
	assert_true(p != MAP_FAILED);
	return p;
}

static void on_event(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
}

static int begin(void **state)
{
	int ram = memfd_create("ram", MFD_CLOEXEC);
	struct err e;

	(void)state;
	memset(&vmm, 0, sizeof(vmm));
	memset(told, 0, sizeof(told));
	backlog = 0;
	base = event_base_new();
	vmm.ops = &vmm_ops;
	region_map_init(&vmm.map);
	assert_int_equal(ftruncate(ram, CHUNKS * CHUNK_BYTES), 0);
	assert_int_equal(region_add(&vmm.map, "ram", ram, CHUNKS * CHUNK_BYTES, 4096, &e), 0);
	assert_int_equal(region_mmap(&vmm.map.r[0], false, &e), 0);
	vmm.out = planes("planes", &vmm.planes_fd);
	vmm.in = vmm.out + CHUNKS;
	vmm.hints = planes("hints", &vmm.hints_fd);
	vmm.hint_flags = AGENT_HINT_BALLOON;

	s = (struct session){.name = "guest",
		.source = true,
		.vmm = &vmm,
		.conn = (struct conn *)&vmm, /* nobody looks into it */
		.tick = event_new(base, -1, 0, on_event, NULL),
		.deadline = event_new(base, -1, 0, on_event, NULL),
		.peer_timeout_ns = 3600 * NS_PER_S,
		.live_passes = 1,
		.next_pass = 1,
		.stage = stage_find("copy"),
		.state = SESSION_COPYING,
		.throttle = {.percent = 100},
		.throttle_least = 100};
	s.opt.codec = &codec_raw;
	s.opt.skip_balloon = true;
	s.opt.throttle_percent = 100;
	s.opt.limits.downtime_ns = 300 * NS_PER_MS;
	s.fig.passes = json_array();
	assert_int_equal(precopy_init(&s, &e), 0);
	return 0;
}

static int end(void **state)
{
	(void)state;
	precopy_fini(&s);
	event_free(s.tick);
	event_free(s.deadline);
	json_decref(s.fig.passes);
	munmap(vmm.out, 2 * CHUNKS * sizeof(uint64_t));
	munmap(vmm.hints, 2 * CHUNKS * sizeof(uint64_t));
	close(vmm.planes_fd);
	close(vmm.hints_fd);
	region_map_close(&vmm.map);
	event_base_free(base);
	return 0;
}

/* The pass under way ends, and the next one asks the VMM to look. */
static void next_pass(void)
{
	uint32_t pass = s.next_pass;

	for (int i = 0; i < 10000 && asked.type != AGENT_LOOK; i++) {
		precopy_tick(&s);
		usleep(100);
	}
	assert_int_equal(asked.type, AGENT_LOOK);
	assert_int_equal(s.next_pass, pass + 1);
}

/* The guest gives up pages; with them the bitmap is as told again only when it has left. */
static void inflate(unsigned chunk, uint64_t pages)
{
	__atomic_store_n(&vmm.hints[chunk], pages, __ATOMIC_RELEASE);
}

static void test_switches(void **state)
{
	(void)state;
	inflate(1, 0xf0);
	precopy_live(&s);
	answer(AGENT_LOOK);
	assert_int_equal(asked.type, AGENT_PAUSE);
	assert_int_equal(told[1], 0xf0);
}

static void test_waits_until_told(void **state)
{
	(void)state;
	inflate(1, 0xf0);
	backlog = MUCH;
	precopy_live(&s);
	answer(AGENT_LOOK);
	assert_int_equal(asked.type, 0);
	assert_int_equal(s.state, SESSION_COPYING);
	assert_int_equal(told[1], 0);
	next_pass();
	answer(AGENT_LOOK);
	assert_int_equal(asked.type, 0);
	next_pass();
	/* The last moments: the wire has taken what there was, and the guest gives up more. */
	backlog = 0;
	inflate(2, 0xff);
	answer(AGENT_LOOK);
	assert_int_equal(asked.type, AGENT_PAUSE);
	assert_int_equal(told[1], 0xf0);
	assert_int_equal(told[2], 0xff);
}

/* A little may be on its way when the guest is paused. */
static void test_a_little_may_wait(void **state)
{
	(void)state;
	inflate(1, 0xf0);
	backlog = 64u << 10;
	precopy_live(&s);
	answer(AGENT_LOOK);
	assert_int_equal(asked.type, AGENT_PAUSE);
	assert_int_equal(told[1], 0xf0);
}

/* Saving the state comes after the last changes, however long the wire takes. */
static void test_paused(void **state)
{
	(void)state;
	s.stage = stage_find("last");
	s.state = SESSION_SWITCHING;
	s.paused = true;
	inflate(3, 1);
	backlog = MUCH;
	precopy_last(&s);
	answer(AGENT_LOOK);
	for (int i = 0; i < 100; i++)
		precopy_tick(&s);
	assert_int_equal(asked.type, 0);
	assert_int_equal(s.next_pass, 1);
	backlog = 0;
	precopy_tick(&s);
	assert_int_equal(asked.type, AGENT_SAVE);
	assert_int_equal(told[3], 1);
}

/* A live pass that has nothing to send begins, and is over when this returns. It began so long ago.
 */
static void pass_of(uint64_t age_ns)
{
	uint32_t pass = s.next_pass;

	precopy_live(&s);
	answer(AGENT_LOOK);
	s.fig.pass_began_ns -= age_ns;
	while (s.next_pass == pass)
		precopy_tick(&s);
}

/* Looks at an idle guest do not come one upon another, where no pause is short enough. */
static void test_floor(void **state)
{
	uint64_t began;

	(void)state;
	s.opt.limits.downtime_ns = 1;
	began = clock_ns();
	pass_of(0);
	while (asked.type != AGENT_LOOK)
		precopy_tick(&s);
	assert_true(clock_ns() - began >= 4 * NS_PER_MS);
	assert_int_equal(s.live_passes, 2);
}

/* What the guest wrote in a long one is looked at without delay. */
static void test_no_rest_after_a_long_pass(void **state)
{
	(void)state;
	s.opt.limits.downtime_ns = 1;
	pass_of(NS_PER_S);
	assert_int_equal(asked.type, AGENT_LOOK);
}

/* The operator's wait costs the guest little, whether or not a pause would be short enough. */
static void test_rests_while_held(void **state)
{
	uint64_t before = clock_ns();

	(void)state;
	s.opt.hold = true;
	s.opt.limits.downtime_ns = 1;
	pass_of(NS_PER_S);
	assert_int_equal(asked.type, 0);
	assert_int_equal(s.state, SESSION_COPYING);
	assert_true(s.rest_until_ns >= before + 100 * NS_PER_MS);
}

/* The operator may take days to decide, and nothing is looked at meanwhile. */
static void test_undecided_does_not_tick(void **state)
{
	(void)state;
	precopy_tick(&s);
	assert_true(event_pending(s.tick, EV_TIMEOUT, NULL));
	event_del(s.tick);
	s.state = SESSION_UNDECIDED;
	precopy_tick(&s);
	assert_false(event_pending(s.tick, EV_TIMEOUT, NULL));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, begin, end)
	const struct CMUnitTest tests[] = {
		T(test_switches),
		T(test_waits_until_told),
		T(test_a_little_may_wait),
		T(test_paused),
		T(test_floor),
		T(test_no_rest_after_a_long_pass),
		T(test_rests_while_held),
		T(test_undecided_does_not_tick),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
