// SPDX-License-Identifier: BSD-3-Clause
// What a target agrees to over RDMA: a source that says it may write guest memory by itself is
// believed only where this side trusts the fabric, and nothing is sealed; and what is not written
// so is said.

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

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

static const struct verbs verbs = {.alloc_pd = alloc_pd, .dealloc_pd = dealloc_pd};

static int begin(void **state)
{
	(void)state;
	memset(&s, 0, sizeof(s));
	memset(&device, 0, sizeof(device));
	LIST_INIT(&s.watches);
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
	assert_int_equal(pds, 0);
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
	device.info.most_mr = 4 * CHUNK_BYTES - 1;
	assert_int_equal(accept_of((int)LINK_RDMA_VERSION, true, &e), 0);
	expect_slots("region low go through slots");
	s.populate = false;
	expect_slots("--reserve populate");
	s.recv.kept[0] = true;
	expect_slots("--reserve populate");
	session_unwatch(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(writes_where_both_trust, begin, end),
		cmocka_unit_test_setup_teardown(goes_through_slots, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
