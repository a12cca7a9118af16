// SPDX-License-Identifier: BSD-3-Clause
// What daemons say to each other of memory that is registered by turns: a target that may not lock
// all of a guest refuses, or serves, by what the source says that it can; and each side believes of
// the other one's words what can be.

#include "harness.h"

#include <errno.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "link_rdma_end.h"
#include "locked.h"
#include "session_impl.h"

#define WINDOW_BYTES (LINK_RDMA_POOL_CHUNK * CHUNK_BYTES)
#define REGION_BYTES (20 * WINDOW_BYTES)

static struct vmm vmm;
static struct link_rdma_host device;
static struct session_host host = {.rdma = &device};
static struct session *s;
static struct ibv_pd pd;
static int far_end;

static struct ibv_pd *alloc_pd(struct ibv_context *ctx)
{
	(void)ctx;
	return &pd;
}

static int dealloc_pd(struct ibv_pd *of)
{
	(void)of;
	return 0;
}

static struct ibv_mr mr[32];
static int reg_errno;

static struct ibv_mr *reg_mr(struct ibv_pd *in, void *addr, size_t bytes, int access)
{
	for (unsigned i = 0; reg_errno == 0 && i < 32; i++)
		if (mr[i].addr == NULL) {
			(void)access;
			mr[i] = (struct ibv_mr){
				.pd = in, .addr = addr, .length = bytes, .rkey = 0x100 + i};
			return &mr[i];
		}
	errno = reg_errno;
	return NULL;
}

static int dereg_mr(struct ibv_mr *of)
{
	of->addr = NULL;
	return 0;
}

static const struct verbs verbs = {
	.alloc_pd = alloc_pd, .dealloc_pd = dealloc_pd, .reg_mr = reg_mr, .dereg_mr = dereg_mr};

static struct session *session_of(bool source, const char *stage)
{
	const struct vmm_where where = {.driver = VMM_AGENT};
	struct session *of = session_new(&host, source ? "source" : "target", &where, source, NULL);
	int sv[2];

	assert_non_null(of);
	assert_return_code(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, sv), errno);
	of->conn = conn_new(host.base, sv[0], NULL, NULL);
	far_end = sv[1];
	of->vmm = &vmm;
	of->begun = of->populate = of->rdma.on = of->rdma.direct = true;
	of->nflows = of->flows_up = of->opt.flows = 2;
	of->opt.codec = &codec_raw;
	of->stage = stage_find(stage);
	of->state = stage_table[of->stage].state;
	link_rdma_host_info(&device, &of->rdma.info);
	return of;
}

static int begin(void **state)
{
	struct region *r;

	(void)state;
	if (host.base == NULL)
		host.base = event_base_new();
	memset(&device, 0, sizeof(device));
	memset(mr, 0, sizeof(mr));
	reg_errno = 0;
	device.info.most_mr = UINT64_MAX;
	device.info.trusted = true;
	device.v = &verbs;
	memset(&vmm, 0, sizeof(vmm));
	region_map_init(&vmm.map);
	assert_int_equal(region_add(&vmm.map, "ram", memfd_create("ram", MFD_CLOEXEC), REGION_BYTES,
				 PAGE_BYTES, NULL),
		0);
	r = &vmm.map.r[0];
	assert_return_code(ftruncate(r->fd, (off_t)r->bytes), errno);
	return region_mmap(r, true, NULL);
}

// The session leaves its list with the test program.
static int end(void **state)
{
	(void)state;
	flows_rdma_gone(s);
	rdma_memory_reap(&device, true);
	for (unsigned i = 0; i < 32; i++)
		assert_null(mr[i].addr);
	conn_free(s->conn);
	s->conn = NULL;
	close(far_end);
	s->vmm = NULL;
	s->state = SESSION_ENDED;
	region_map_close(&vmm.map);
	return 0;
}

// What this process may lock.
static uint64_t left_bytes;
uint64_t __wrap_locked_left_bytes(const char *root, enum locked_by by);
uint64_t __wrap_locked_left_bytes(const char *root, enum locked_by by)
{
	assert_string_equal(root, "");
	assert_int_equal(by, LOCKED_BY_RDMA);
	return left_bytes;
}

static int accept_of(const char *windows, uint64_t limit_bytes, struct err *e)
{
	char text[128];
	json_t *msg;
	int rc;

	snprintf(text, sizeof(text), "{\"rdma\": {\"version\": %u, \"direct\": true%s}}",
		LINK_RDMA_VERSION, windows);
	msg = json_loads(text, 0, NULL);
	flows_rdma_gone(s);
	left_bytes = limit_bytes;
	rc = flows_rdma_accept(s, msg, e);
	json_decref(msg);
	return rc;
}

// A source of before windows, or one that does not offer them, is refused by name; one that can is
// served where some fit, and as ever where all do.
static void serves_who_can(void **state)
{
	// Two flows, twice: those of before linger after a cut; and what a driver locks.
	const uint64_t rings = 2 * 2 * (link_rdma_locked_bytes() + (512u << 10));
	struct err e;

	(void)state;
	s = session_of(false, "preflight");
	assert_int_equal(accept_of("", rings + 5 * WINDOW_BYTES, &e), -ENOMEM);
	assert_has(e.text, "RLIMIT_MEMLOCK");
	assert_int_equal(accept_of(", \"windows\": false", rings + 5 * WINDOW_BYTES, &e), -ENOMEM);
	assert_int_equal(accept_of(", \"windows\": true", rings + 5 * WINDOW_BYTES, &e), 0);
	assert_int_equal(s->rdma.turns.most, 5);
	assert_int_equal(s->rdma.turns.window_bytes, WINDOW_BYTES);
	assert_int_equal(accept_of(", \"windows\": true", rings + 3 * WINDOW_BYTES, &e), -ENOMEM);
	assert_has(e.text, "the guest's memory");
	assert_int_equal(accept_of(", \"windows\": true", rings + REGION_BYTES, &e), 0);
	assert_int_equal(s->rdma.turns.most, 0);
}

static void target_by_turns(void)
{
	s = session_of(false, "flows");
	s->rdma.turns = (struct session_turns){.window_bytes = WINDOW_BYTES, .most = 4};
	assert_int_equal(link_rdma_domain_new(&s->rdma.domain, &device, NULL), 0);
	assert_int_equal(link_rdma_memory_turns(&s->rdma.memory, s->rdma.domain, &vmm.map,
				 (const bool[REGION_MAX]){true}, WINDOW_BYTES, 4, NULL),
		0);
}

static void say(const char *text)
{
	json_t *msg = json_loads(text, 0, NULL);

	assert_non_null(msg);
	peer_ops.json(s, msg);
	json_decref(msg);
}

// The next message that went to the other side.
static json_t *heard(void)
{
	uint8_t buf[4096];
	ssize_t n;

	harness_turn(host.base, 20);
	n = read(far_end, buf, sizeof(buf));
	return n <= 8 ? NULL
		      : json_loadb((char *)buf + 8, (size_t)n - 8, JSON_DISABLE_EOF_CHECK, NULL);
}

static void keys_are_told(void **state)
{
	json_t *msg, *keys;

	(void)state;
	target_by_turns();
	say("{\"op\": \"rdma_windows\", \"drop\": [], \"want\": [3, 19]}");
	while (flows_rdma_say_windows(s))
		sched_yield();
	msg = heard();
	assert_string_equal(json_string_value(json_object_get(msg, "op")), "rdma_keys");
	keys = json_object_get(msg, "keys");
	assert_int_equal(json_integer_value(json_array_get(json_array_get(keys, 0), 0)), 3);
	assert_string_equal(
		json_string_value(json_array_get(json_array_get(keys, 0), 1)), "00000100");
	json_decref(msg);
	reg_errno = ENOMEM;
	say("{\"op\": \"rdma_windows\", \"drop\": [3], \"want\": [5]}");
	while (flows_rdma_say_windows(s))
		sched_yield();
	msg = heard();
	keys = json_array_get(json_object_get(msg, "keys"), 0);
	assert_int_equal(json_integer_value(json_array_get(keys, 0)), 5);
	assert_true(json_is_null(json_array_get(keys, 1)));
	json_decref(msg);
	assert_int_equal(s->state, SESSION_PREPARING);
	assert_int_equal(s->rdma.turns.asked, 3);
	assert_int_equal(s->rdma.turns.dropped, 1);
	assert_int_equal(s->rdma.turns.refused, 1);
}

// Each ends the session, and says who is wrong.
static void hostile_sources_end(void **state)
{
	static const char *const bad[] = {
		"{\"op\": \"rdma_windows\"}",
		"{\"op\": \"rdma_windows\", \"drop\": {}, \"want\": []}",
		"{\"op\": \"rdma_windows\", \"drop\": [], \"want\": [20]}",
		"{\"op\": \"rdma_windows\", \"drop\": [], \"want\": [-1]}",
		"{\"op\": \"rdma_windows\", \"drop\": [], \"want\": [\"1\"]}",
		"{\"op\": \"rdma_windows\", \"drop\": [0], \"want\": []}",
		"{\"op\": \"rdma_windows\", \"drop\": [], \"want\": [1, 1]}",
		"{\"op\": \"rdma_windows\", \"drop\": [], \"want\": [1, 2, 3, 4, 5]}",
		"{\"op\": \"rdma_windows\", \"drop\": [1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1], "
		"\"want\": []}",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		begin(NULL);
		target_by_turns();
		say(bad[i]);
		if (s->result != RESULT_FAILED || strstr(s->why.text, "windows") == NULL)
			fail_msg("%s was taken", bad[i]);
		end(NULL);
	}
	// Before flows, and where all is registered, nobody may ask.
	for (unsigned i = 0; i < 2; i++) {
		begin(NULL);
		target_by_turns();
		if (i == 0)
			s->flows_up = 1;
		else
			s->rdma.turns.most = 0;
		say("{\"op\": \"rdma_windows\", \"drop\": [], \"want\": []}");
		assert_int_equal(s->result, RESULT_FAILED);
		if (i == 0)
			end(NULL);
	}
}

#define PLAN "{\"window\": 4194304, \"most\": 4, \"base\": [\"00007f0000000000\"]}"

static int take(const char *plan, struct err *e)
{
	json_t *told = json_loads(plan, JSON_DECODE_ANY, NULL), *msg;
	int rc;

	assert_non_null(told);
	msg = json_pack("{s:[], s:o}", "rdma_keys", "rdma_windows", told);
	rc = flows_rdma_take_keys(s, msg, e);
	json_decref(msg);
	return rc;
}

static void plans_are_read(void **state)
{
	static const char *const bad[] = {
		"{}",
		"[]",
		"{\"window\": 4194304, \"most\": 4}",
		"{\"window\": 4194304, \"most\": 4, \"base\": []}",
		"{\"window\": 4194304, \"most\": 4, \"base\": [\"7f00000000000\"]}",
		"{\"window\": 4194304, \"most\": 4, \"base\": [7]}",
		"{\"window\": 4194304, \"most\": 4, \"base\": [null]}",
		"{\"window\": 4194304, \"most\": 4, \"base\": [\"ffffffffffffffff\"]}",
		"{\"window\": 4194305, \"most\": 4, \"base\": [\"00007f0000000000\"]}",
		"{\"window\": 4194304, \"most\": 3, \"base\": [\"00007f0000000000\"]}",
		"{\"window\": 4194304, \"most\": 4294967296, \"base\": [\"00007f0000000000\"]}",
		"{\"window\": -4194304, \"most\": 4, \"base\": [\"00007f0000000000\"]}",
	};
	struct err e;

	(void)state;
	s = session_of(true, "prepare");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (take(bad[i], &e) != -EPROTO || s->rdma.pool != NULL)
			fail_msg("%s was taken", bad[i]);
	assert_int_equal(take(PLAN, &e), 0);
	assert_true(s->rdma.pool->n == 20 && s->rdma.pool->most == 4);
	// Who does not write directly hears nothing of it.
	s->rdma.direct = false;
	flows_rdma_forget_keys(s);
	assert_int_equal(take(PLAN, &e), 0);
	assert_null(s->rdma.pool);
}

static void source_asks(void)
{
	struct span span = {.nchunks = SPAN_CHUNKS};
	struct err e;
	json_t *msg;

	s = session_of(true, "copy");
	assert_int_equal(claim_init(&s->claim, 1), 0);
	assert_int_equal(take(PLAN, &e), 0);
	for (unsigned i = 0; i < 5; i++, span.chunk += SPAN_CHUNKS)
		assert_int_equal(claim_publish(&s->claim, 0, &span, 1), 1);
	flows_rdma_near(s);
	msg = heard();
	assert_string_equal(json_string_value(json_object_get(msg, "op")), "rdma_windows");
	assert_int_equal(json_array_size(json_object_get(msg, "want")), 2);
	json_decref(msg);
	claim_fini(&s->claim);
	memset(&s->claim, 0, sizeof(s->claim));
}

static void keys_are_taken(void **state)
{
	uint32_t rkey;
	uint64_t to;

	(void)state;
	source_asks();
	say("{\"op\": \"rdma_keys\", \"keys\": [[0, \"00000077\"], [1, null]]}");
	assert_int_equal(s->result, RESULT_NONE);
	assert_true(link_rdma_pool_key(s->rdma.pool, 0, 3, &to, &rkey));
	assert_int_equal(rkey, 0x77);
	assert_int_equal(to, UINT64_C(0x7f0000000000) + 3 * CHUNK_BYTES);
	assert_false(link_rdma_pool_key(s->rdma.pool, 0, SPAN_CHUNKS, &to, &rkey));
	flows_rdma_count_turns(s);
	assert_int_equal(s->rdma.turns.asked, 2);
	assert_int_equal(s->rdma.turns.refused, 1);
	assert_int_equal(s->rdma.figures.bytes, WINDOW_BYTES);
}

// Registering would be waited for. A window that was to go still goes, the others stay.
static void a_paused_guest_waits_for_none(void **state)
{
	struct link_rdma_pool_seen seen = {0};
	struct span span = {.chunk = 2 * SPAN_CHUNKS, .nchunks = SPAN_CHUNKS};
	uint32_t rkey, keyed = 0;
	json_t *msg;
	uint64_t to;

	(void)state;
	source_asks();
	say("{\"op\": \"rdma_keys\", \"keys\": [[0, \"00000077\"], [1, \"00000078\"]]}");
	assert_int_equal(claim_init(&s->claim, 1), 0);
	for (unsigned i = 0; i < 3; i++, span.chunk += SPAN_CHUNKS)
		assert_int_equal(claim_publish(&s->claim, 0, &span, 1), 1);
	s->paused = true;
	flows_rdma_near(s);
	assert_null(heard());
	s->paused = false;
	flows_rdma_near(s);
	json_decref(heard()); // wants two; the oldest is to go
	s->paused = true;
	for (unsigned i = 0; i < s->opt.flows; i++)
		link_rdma_pool_pass(s->rdma.pool, i, &seen, 0, 0);
	flows_rdma_near(s);
	msg = heard();
	assert_int_equal(json_array_size(json_object_get(msg, "drop")), 1);
	assert_int_equal(json_array_size(json_object_get(msg, "want")), 0);
	json_decref(msg);
	for (uint32_t i = 0; i < 2; i++)
		keyed += link_rdma_pool_key(s->rdma.pool, 0, i * SPAN_CHUNKS, &to, &rkey);
	assert_int_equal(keyed, 1);
	claim_fini(&s->claim);
	memset(&s->claim, 0, sizeof(s->claim));
}

static void hostile_targets_end(void **state)
{
	static const char *const bad[] = {
		"{\"op\": \"rdma_keys\"}",
		"{\"op\": \"rdma_keys\", \"keys\": []}",
		"{\"op\": \"rdma_keys\", \"keys\": [[2, \"00000077\"]]}",
		"{\"op\": \"rdma_keys\", \"keys\": [[-1, null]]}",
		"{\"op\": \"rdma_keys\", \"keys\": [[0, \"00000077\"], [0, \"00000077\"]]}",
		"{\"op\": \"rdma_keys\", \"keys\": [[0, null], [0, null]]}",
		"{\"op\": \"rdma_keys\", \"keys\": [[0]]}",
		"{\"op\": \"rdma_keys\", \"keys\": [[0, \"0x000077\"]]}",
		"{\"op\": \"rdma_keys\", \"keys\": [[0, 77]]}",
		"{\"op\": \"rdma_keys\", \"keys\": [\"00000077\"]}",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		begin(NULL);
		source_asks();
		say(bad[i]);
		if (s->result != RESULT_FAILED || strstr(s->why.text, "key") == NULL)
			fail_msg("%s was taken", bad[i]);
		end(NULL);
	}
	begin(NULL);
	s = session_of(true, "copy"); // without windows
	say("{\"op\": \"rdma_keys\", \"keys\": [[0, \"00000077\"]]}");
	assert_int_equal(s->result, RESULT_FAILED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(serves_who_can, begin, end),
		cmocka_unit_test_setup_teardown(keys_are_told, begin, end),
		cmocka_unit_test_teardown(hostile_sources_end, end),
		cmocka_unit_test_setup_teardown(plans_are_read, begin, end),
		cmocka_unit_test_setup_teardown(keys_are_taken, begin, end),
		cmocka_unit_test_setup_teardown(a_paused_guest_waits_for_none, begin, end),
		cmocka_unit_test_teardown(hostile_targets_end, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
