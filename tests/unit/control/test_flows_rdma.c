// SPDX-License-Identifier: BSD-3-Clause
// What a target agrees to over RDMA: a source that says it may write guest memory by itself is
// believed only where this side trusts the fabric, and nothing is sealed; and what is not written
// so is said. What a source lends.

#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "link_rdma_end.h"
#include "seal.h"
#include "session_impl.h"

static struct session s;
static struct vmm vmm;
static struct link_rdma_host device;
static struct session_host host = {.rdma = &device};

static struct ibv_pd pd;
static unsigned pds;

static struct ibv_pd *alloc_pd(struct ibv_context *ctx)
{
	(void)ctx;
	pds++;
	return &pd;
}

static int dealloc_pd(struct ibv_pd *of)
{
	assert_ptr_equal(of, &pd);
	pds--;
	return 0;
}

static struct ibv_mr mr;

static struct ibv_mr *reg_mr(struct ibv_pd *in, void *addr, size_t bytes, int access)
{
	assert_int_equal(access, IBV_ACCESS_ON_DEMAND);
	mr = (struct ibv_mr){.pd = in, .addr = addr, .length = bytes};
	return &mr;
}

static int dereg_mr(struct ibv_mr *of)
{
	assert_ptr_equal(of, &mr);
	return 0;
}

static int advise_mr(struct ibv_pd *in, enum ibv_advise_mr_advice advice, struct ibv_sge *sge)
{
	(void)in;
	(void)advice;
	(void)sge;
	return 0;
}

static const struct verbs verbs = {.alloc_pd = alloc_pd,
	.dealloc_pd = dealloc_pd,
	.reg_mr = reg_mr,
	.dereg_mr = dereg_mr,
	.advise_mr = advise_mr};

static int begin(void **state)
{
	(void)state;
	memset(&s, 0, sizeof(s));
	memset(&device, 0, sizeof(device));
	LIST_INIT(&s.watches);
	memset(&vmm, 0, sizeof(vmm));
	region_map_init(&vmm.map);
	assert_int_equal(region_add(&vmm.map, "low", -1, 4 * CHUNK_BYTES, PAGE_BYTES, NULL), 0);
	device.info.most_mr = UINT64_MAX;
	device.v = &verbs;
	s.host = &host;
	s.vmm = &vmm;
	s.nflows = 1;
	s.populate = true;
	return 0;
}

static int end(void **state)
{
	(void)state;
	flows_rdma_gone(&s);
	rdma_memory_reap(&device, true);
	assert_int_equal(pds, 0);
	region_map_close(&vmm.map);
	return 0;
}

static int accept_of(int version, bool direct, struct err *e)
{
	json_t *msg = json_pack("{s:{s:i, s:b}}", "rdma", "version", version, "direct", direct);
	int rc;

	flows_rdma_gone(&s);
	rc = flows_rdma_accept(&s, msg, e);
	json_decref(msg);
	// A session that is not refused has a domain of its own.
	assert_int_equal(pds, rc == 0);
	return rc;
}

static void writes_where_both_trust(void **state)
{
	static const struct {
		bool trusted, sealed, direct;
		int rc;
	} rows[] = {
		{false, false, false, 0},
		{false, false, true, -EACCES},
		{false, true, true, -EACCES},
		{true, false, false, 0},
		{true, false, true, 0},
		{true, true, false, 0},
		{true, true, true, -EACCES},
	};
	struct err e;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		device.info.trusted = rows[i].trusted;
		s.seal = rows[i].sealed ? &seal_openssl : NULL;
		assert_int_equal(accept_of((int)LINK_RDMA_VERSION, rows[i].direct, &e), rows[i].rc);
		if (rows[i].rc < 0)
			assert_non_null(strstr(e.text, "rdma-fabric"));
	}
	assert_int_equal(accept_of((int)LINK_RDMA_VERSION + 1, false, &e), -EPROTO);
	host.rdma = NULL;
	assert_int_equal(accept_of((int)LINK_RDMA_VERSION, false, &e), -ENODEV);
	host.rdma = &device;
}

static char said[512];

static void on_event(void *arg, json_t *event)
{
	const char *text = json_string_value(json_object_get(event, "text"));

	(void)arg;
	snprintf(said, sizeof(said), "%s", text != NULL ? text : "");
}

// Nothing is registered, and why is said.
static void expect_slots(const char *why)
{
	json_t *msg = json_object();

	said[0] = '\0';
	assert_int_equal(flows_rdma_register(&s, NULL), 1);
	assert_null(s.rdma.memory);
	if (strstr(said, why) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", said, why);
	flows_rdma_tell_keys(&s, msg);
	assert_int_equal(json_array_size(json_object_get(msg, "rdma_keys")), 0);
	json_decref(msg);
}

static void goes_through_slots(void **state)
{
	struct session_watch *w = session_watch(&s, on_event, NULL);
	struct err e;

	(void)state;
	device.info.trusted = true;
	assert_int_equal(accept_of((int)LINK_RDMA_VERSION, true, &e), 0);
	s.populate = false;
	expect_slots("--reserve populate");
	s.recv.kept[0] = true;
	expect_slots("--reserve populate");
	session_unwatch(w);
}

#define KEY "00007f0000000000 00000077"

static int take(const char *keys, struct err *e)
{
	char text[512];
	json_t *msg;
	int rc;

	snprintf(text, sizeof(text), "{\"rdma_register_ns\": 5, \"rdma_keys\": [%s]}", keys);
	msg = json_loads(text, 0, NULL);
	assert_non_null(msg);
	s.rdma.direct = true;
	s.rdma.figures.bytes = 0;
	rc = flows_rdma_take_keys(&s, msg, e);
	json_decref(msg);
	return rc;
}

// A region has one key, or one for each of its windows, and no chunk is left without an answer.
static void keys_cover_regions(void **state)
{
	static const char *const bad[] = {
		"5",
		"\"00007f0000000000 0000007\"",
		"\"" KEY "\", null",
		"{}",
		"{\"window\": 262144}",
		"{\"window\": 262144, \"keys\": [null, null, null]}",
		"{\"window\": 262144, \"keys\": [null, null, null, null, null]}",
		"{\"window\": 262144, \"keys\": [null, null, null, 7]}",
		"{\"window\": 0, \"keys\": []}",
		"{\"window\": -262144, \"keys\": [null, null, null, null]}",
		"{\"window\": 262145, \"keys\": [null, null, null, null]}",
		"{\"window\": 9223372036854775807, \"keys\": [null]}",
	};
	struct err e;

	(void)state;
	assert_int_equal(take("null", &e), 0);
	assert_false(s.rdma.keys[0].there);
	assert_int_equal(take("\"" KEY "\"", &e), 0);
	assert_true(s.rdma.keys[0].there);
	assert_int_equal(s.rdma.figures.bytes, 4 * CHUNK_BYTES);
	// The last one is shorter.
	assert_int_equal(take("{\"window\": 786432, \"keys\": [null, \"" KEY "\"]}", &e), 0);
	assert_false(s.rdma.keys[0].there);
	assert_int_equal(s.rdma.windows[0].chunks, 3);
	assert_false(s.rdma.windows[0].key[0].there);
	assert_true(s.rdma.windows[0].key[1].there);
	assert_int_equal(s.rdma.windows[0].key[1].rkey, 0x77);
	assert_int_equal(s.rdma.figures.bytes, CHUNK_BYTES);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (take(bad[i], &e) != -EPROTO)
			fail_msg("%s was taken", bad[i]);
}

static void begin_source(void)
{
	struct region *r = &vmm.map.r[0];

	s.source = s.rdma.on = true;
	s.opt.codec = &codec_raw;
	s.rdma.info.on_demand = device.cfg.on_demand = true;
	assert_int_equal(link_rdma_domain_new(&s.rdma.domain, &device, NULL), 0);
	r->fd = memfd_create("low", MFD_CLOEXEC);
	assert_return_code(ftruncate(r->fd, (off_t)r->bytes), errno);
	assert_int_equal(region_mmap(r, true, NULL), 0);
	memset(r->base, 1, r->bytes);
}

static json_int_t lent_bytes(void)
{
	json_t *report = flows_rdma_report(&s);
	json_int_t n = json_integer_value(json_object_get(report, "lent_bytes"));

	json_decref(report);
	return n;
}

// Law 11: a device fills holes that a balloon just made, with pages on demand too.
static void only_kept_memory_is_lent(void **state)
{
	(void)state;
	begin_source();
	flows_rdma_lend(&s);
	assert_null(s.rdma.memory);
	assert_non_null(strstr(s.rdma.copied, "gives no memory back"));
	assert_int_equal(lent_bytes(), 0);
	s.rdma.copied[0] = '\0';
	vmm.hint_flags = AGENT_HINT_KEEPS;
	flows_rdma_lend(&s);
	assert_non_null(s.rdma.memory);
	assert_string_equal(s.rdma.copied, "");
	while (link_rdma_memory_ready(s.rdma.memory, NULL) == 0)
		sched_yield();
	assert_int_equal(lent_bytes(), vmm.map.bytes);
	// The report of a session that has ended too.
	flows_rdma_gone(&s);
	assert_int_equal(lent_bytes(), vmm.map.bytes);
}

// A session that waits to begin has no flow that tells of a removal, and the removal waits for it.
// One that copies is told; past its commit the guest's owner is not for this to choose.
static void removal_ends_who_waits(void **state)
{
	static const struct {
		enum session_state state;
		bool source, on, fails;
	} rows[] = {
		{SESSION_READY, true, true, true},
		{SESSION_PREPARING, false, true, true},
		{SESSION_RECONNECTING, false, true, true},
		{SESSION_PREPARING, false, false, false},
		{SESSION_WAITING, false, false, false},
		{SESSION_COPYING, true, true, false},
		{SESSION_COMMITTING, true, true, false},
		{SESSION_UNDECIDED, true, true, false},
		{SESSION_COMMITTING, false, true, false},
	};
	const struct vmm_where where = {.driver = VMM_AGENT};
	enum { ROWS = sizeof(rows) / sizeof(rows[0]) };
	struct session *of[ROWS];

	(void)state;
	host.base = event_base_new();
	for (int i = 0; i < ROWS; i++) {
		const char name[] = {(char)('a' + i), '\0'};

		of[i] = session_new(&host, name, &where, rows[i].source, NULL);
		of[i]->state = rows[i].state;
		of[i]->stage = stage_find("prepare");
		of[i]->rdma.on = rows[i].on;
		strcpy(of[i]->rdma.info.device, "rxe7");
	}
	flows_rdma_removed(NULL);
	for (int i = 0; i < ROWS; i++) {
		assert_int_equal(of[i]->state, rows[i].fails ? SESSION_ENDING : rows[i].state);
		assert_int_equal(of[i]->result, rows[i].fails ? RESULT_FAILED : RESULT_NONE);
		if (rows[i].fails)
			assert_non_null(strstr(of[i]->why.text, "device rxe7 was removed"));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(writes_where_both_trust, begin, end),
		cmocka_unit_test_setup_teardown(goes_through_slots, begin, end),
		cmocka_unit_test_setup_teardown(keys_cover_regions, begin, end),
		cmocka_unit_test_setup_teardown(only_kept_memory_is_lent, begin, end),
		cmocka_unit_test_setup_teardown(removal_ends_who_waits, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
