// SPDX-License-Identifier: BSD-3-Clause
// offer.c: which ports of two hosts meet, and what is said where none do; affinity.c beside it.

#include "harness.h"

#include <errno.h>
#include <sys/mman.h>

#include "affinity.h"
#include "config.h"
#include "offer.h"
#include "stub_port.h"

static struct port stub[PORTS_MOST];

/* Ports as a configuration file says, open and up, with MTU 9000. */
static void host(struct ports *p, const char *text)
{
	struct option_set o;
	struct err e;

	memset(p, 0, sizeof(*p));
	option_init(&o, option_godwitd, OPTION_FILE);
	assert_int_equal(config_parse(&o, p, "f", text, strlen(text), &e), 0);
	for (unsigned i = 0; i < p->n; i++) {
		struct port_info *info = &stub[i].info;
		struct sockaddr_in *s4 = (void *)&info->ipv4;
		struct sockaddr_in6 *s6 = (void *)&info->ipv6;
		char address[64];

		memset(info, 0, sizeof(*info));
		info->mtu = 9000;
		info->link_up = true;
		info->steering = "rss";
		snprintf(info->name, sizeof(info->name), "%s", p->one[i].name);
		snprintf(address, sizeof(address), "%s", option_text(&p->one[i].options, "ipv4"));
		address[strcspn(address, "/")] = 0;
		if (inet_pton(AF_INET, address, &s4->sin_addr) == 1)
			s4->sin_family = AF_INET;
		snprintf(address, sizeof(address), "%s", option_text(&p->one[i].options, "ipv6"));
		address[strcspn(address, "/")] = 0;
		if (inet_pton(AF_INET6, address, &s6->sin6_addr) == 1)
			s6->sin6_family = AF_INET6;
		p->one[i].port = &stub[i];
	}
}

static int choose(struct offer_choice *c, const struct ports *p, const char *theirs, struct err *e)
{
	json_t *offer = json_loads(theirs, 0, NULL);
	int rc;

	e->text[0] = 0;
	rc = offer_choose(c, p, offer, e);
	json_decref(offer);
	return rc;
}

#define PORT_A "[port a]\ndevice = x\nipv4 = 192.0.2.1/24\n"
#define PORT_B "[port b]\ndevice = y\nipv6 = 2001:db8::1/57\nipv4 = 198.51.100.1/25\n"

static void test_pairs(void **state)
{
	static const struct {
		const char *here, *theirs, *name, *there, *reached;
		unsigned mtu;
	} rows[] = {
		{PORT_A, "[{\"name\":\"t\",\"up\":true,\"mtu\":1500,\"ipv4\":\"192.0.2.9\"}]", "a",
			"t", "192.0.2.9", 1500},
		{PORT_A PORT_B,
			"[{\"name\":\"t\",\"up\":true,\"mtu\":9600,\"ipv4\":\"203.0.113.1\","
			"\"ipv6\":\"2001:db8:0:7f::2\"}]",
			"b", "t", "2001:db8:0:7f::2", 9000},
		{PORT_B,
			"[{\"name\":\"t\",\"up\":false,\"mtu\":1500,\"ipv4\":\"198.51.100.2\"},"
			"{\"name\":\"u\",\"up\":true,\"mtu\":1500,\"ipv4\":\"198.51.100.127\"}]",
			"b", "u", "198.51.100.127", 1500},
		{PORT_A "ipv4-gateway = 192.0.2.254\n",
			"[{\"name\":\"t\",\"up\":true,\"mtu\":1500,\"ipv4\":\"203.0.113.7\"}]", "a",
			"t", "203.0.113.7", 1500},
	};
	struct offer_choice c;
	struct ports p;
	struct err e;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		host(&p, rows[i].here);
		if (choose(&c, &p, rows[i].theirs, &e) != 0)
			fail_msg("row %zu: %s", i, e.text);
		assert_string_equal(c.name, rows[i].name);
		assert_string_equal(c.there, rows[i].there);
		assert_string_equal(c.reached, rows[i].reached);
		assert_int_equal(c.mtu, rows[i].mtu);
		assert_true(c.address[0] != 0);
	}
}

static void test_none(void **state)
{
	static const struct {
		const char *here, *theirs, *says;
		int rc;
	} rows[] = {
		{"", "[]", "this daemon has no network port", -ENODEV},
		{PORT_A, "[]", "the target's daemon has no network port", -ENODEV},
		{PORT_A, "7", "the target's daemon has no network port", -ENODEV},
		{PORT_A, "[7, {}, {\"ipv4\": 5}]", "no port here reaches", -EHOSTUNREACH},
		{PORT_A, "[{\"name\":\"t\",\"up\":true,\"mtu\":1500,\"ipv4\":\"192.0.3.9\"}]",
			"no port here reaches", -EHOSTUNREACH},
		{PORT_B,
			"[{\"name\":\"t\",\"up\":true,\"mtu\":1500,\"ipv6\":\"2001:db8:0:80::2\"}]",
			"no port here reaches", -EHOSTUNREACH},
		{PORT_B, "[{\"name\":\"t\",\"up\":true,\"mtu\":1500,\"ipv4\":\"198.51.100.128\"}]",
			"no port here reaches", -EHOSTUNREACH},
		{PORT_A, "[{\"name\":\"t\",\"up\":false,\"mtu\":1500,\"ipv4\":\"192.0.2.9\"}]",
			"port t of the target has no link", -EHOSTUNREACH},
		{PORT_A, "[{\"name\":\"t\",\"up\":true,\"mtu\":15,\"ipv4\":\"192.0.2.9\"}]",
			"can't be", -EPROTO},
		{PORT_A, "[{\"name\":\"\",\"up\":true,\"mtu\":1500,\"ipv4\":\"192.0.2.9\"}]",
			"can't be", -EPROTO},
		{PORT_A, "[{\"up\":true,\"mtu\":1500,\"ipv4\":\"not an address\"}]",
			"no port here reaches", -EHOSTUNREACH},
	};
	struct offer_choice c;
	struct ports p;
	struct err e;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		host(&p, rows[i].here);
		assert_int_equal(choose(&c, &p, rows[i].theirs, &e), rows[i].rc);
		assert_has(e.text, rows[i].says);
	}
	host(&p, PORT_A);
	stub[0].info.link_up = false;
	assert_int_equal(
		choose(&c, &p, "[{\"name\":\"t\",\"up\":true,\"mtu\":1500,\"ipv4\":\"192.0.2.9\"}]",
			&e),
		-EHOSTUNREACH);
	assert_has(e.text, "port a here has no link");
}

/* What one makes the other can read. */
static void test_both_ways(void **state)
{
	struct offer_choice c;
	struct ports p;
	json_t *offer;
	struct err e;

	(void)state;
	host(&p, PORT_A PORT_B);
	offer = offer_make(&p);
	assert_int_equal(json_array_size(offer), 2);
	assert_int_equal(json_object_size(json_array_get(offer, 0)), 5);
	assert_int_equal(offer_choose(&c, &p, offer, &e), 0);
	assert_string_equal(c.reached, "192.0.2.1");
	json_decref(offer);
}

static void test_nodes(void **state)
{
	static struct region_map map;
	static const int wanted[] = {0, 0, 0, 1};
	static const uint64_t gib[] = {6, 1, 2};
	static const int node[] = {0, -1, 1};

	(void)state;
	region_map_init(&map);
	assert_int_equal(affinity_node(&map, 0, 4), -1);
	for (unsigned i = 0; i < 3; i++) {
		char name[8];
		struct err e;

		snprintf(name, sizeof(name), "r%u", i);
		assert_int_equal(region_add(&map, name, -1, gib[i] << 30, 4096, &e), i);
		map.r[i].node = node[i];
	}
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(affinity_node(&map, i, 4), wanted[i]);
}

/* What is told of a device's spreading comes out as it went in, and lies are refused. */
static void test_spread(void **state)
{
	static const char *const lies[] = {"7", "{}", "{\"key\": \"00\", \"queues\": \"0\"}",
		"{\"key\": 7, \"queues\": \"0\"}"};
	struct port_rss r = {.key_bytes = 52, .entries = PORT_RETA}, back;
	json_t *told, *lie;
	struct err e;

	(void)state;
	for (unsigned i = 0; i < r.key_bytes; i++)
		r.key[i] = (uint8_t)(37 * i);
	for (unsigned i = 0; i < r.entries; i++)
		r.queue[i] = (uint8_t)(i % PORT_QUEUES);
	r.udp4 = r.udp6 = true;
	assert_null(offer_make_spread(NULL));
	told = offer_make_spread(&r);
	assert_int_equal(offer_read_spread(&back, told, &e), 0);
	assert_memory_equal(&back, &r, sizeof(r));
	json_object_set_new(told, "queues", json_string(""));
	assert_int_equal(offer_read_spread(&back, told, &e), -EPROTO);
	json_object_set_new(told, "queues", json_string("0123/"));
	assert_int_equal(offer_read_spread(&back, told, &e), -EPROTO);
	json_object_set_new(told, "queues", json_sprintf("%02049d", 0));
	assert_int_equal(offer_read_spread(&back, told, &e), -EPROTO);
	json_object_set_new(told, "queues", json_string("01"));
	json_object_set_new(told, "key", json_sprintf("%0130d", 0));
	assert_int_equal(offer_read_spread(&back, told, &e), -EPROTO);
	json_decref(told);
	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		lie = json_loads(lies[i], JSON_DECODE_ANY, NULL);
		assert_int_equal(offer_read_spread(&back, lie, &e), -EPROTO);
		json_decref(lie);
	}
}

static void test_meeting(void **state)
{
	char text[AFFINITY_TEXT] = "";
	cpu_set_t cpus;

	(void)state;
	assert_int_equal(sched_getaffinity(0, sizeof(cpus), &cpus), 0);
	assert_true(affinity_meets(getpid(), &cpus, text));
	assert_has(text, "may run on CPU");
	CPU_ZERO(&cpus);
	assert_false(affinity_meets(getpid(), &cpus, text));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pairs),
		cmocka_unit_test(test_none),
		cmocka_unit_test(test_both_ways),
		cmocka_unit_test(test_nodes),
		cmocka_unit_test(test_spread),
		cmocka_unit_test(test_meeting),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
