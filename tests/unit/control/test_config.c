// SPDX-License-Identifier: BSD-3-Clause
// config.c: the file, and what it says about mistakes.

#include "harness.h"

#include <errno.h>

#include "config.h"

static struct option_set o;
static struct ports ports;

static int parse(const char *text, struct err *e)
{
	option_init(&o, option_godwitd, OPTION_FILE);
	ports.n = 0;
	return config_parse(&o, &ports, "godwit.conf", text, strlen(text), e);
}

static void test_good(void **state)
{
	struct err e;

	(void)state;
	assert_int_equal(parse("", &e), 0);
	assert_string_equal(option_text(&o, "listen"), ":4646");
	assert_int_equal(parse("# a comment\n\n listen = [::1]:5000 # mine\r\nmemory=1G\n"
			       "idle =poll\nlog-level = debug",
				 &e),
		0);
	assert_string_equal(option_text(&o, "listen"), "[::1]:5000");
	assert_int_equal(option_number(&o, "memory"), UINT64_C(1) << 30);
	assert_string_equal(option_text(&o, "idle"), "poll");
	assert_true(option_given(&o, "log-level"));
	assert_false(option_given(&o, "cores"));
}

static void test_mistakes(void **state)
{
	static const struct {
		const char *text, *says;
	} rows[] = {
		{"listen\n", "godwit.conf:1: 'listen': write KEY = VALUE"},
		{"\n\nlisen = x\n", "godwit.conf:3: unknown key 'lisen'"},
		{"config = x\n", "unknown key 'config'"},
		{"idle = never\n", "is not one of auto|poll|yield"},
		{"memory = 1\n", "is not from 16777216"},
		{"memory = lots\n", "is not a size such as"},
		{"listen =\n", "the value is empty"},
		{"[port a\n", "the closing ] is missing"},
		{"[ports a]\n", "the only sections are [port NAME]"},
		{"[port]\n", "the only sections are [port NAME]"},
		{"[]\n", "the only sections are [port NAME]"},
		{"[port  ]\n", "the only sections are [port NAME]"},
		{"[port a b]\n", "'a b' is no name of a port"},
		{"[port a]\n[port a]\n", "godwit.conf:2: a port of the name a was there before"},
		{"[port a]\nlisten = :1\n", "godwit.conf:2: unknown key 'listen' of a port"},
		{"[port a]\nmtu = 100\n", "is not from 1280"},
		{"[port a]\nvlan = 0\n", "is not from 1 to 4094"},
		{"[port a]\nzero-copy = perhaps\n", "is not one of auto|yes|no"},
	};
	char longest[600];
	struct err e;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(parse(rows[i].text, &e), -EINVAL);
		assert_has(e.text, rows[i].says);
	}
	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	assert_int_equal(parse(longest, &e), -EINVAL);
	assert_int_equal(config_parse(&o, &ports, "f", "a\0b", 3, &e), -EINVAL);
	assert_int_equal(config_read(&o, &ports, "/proc/no-such-file", &e), -ENOENT);
	assert_true(config_read(&o, &ports, "/dev/zero", &e) < 0);
}

static void test_ports(void **state)
{
	struct eal_config c = {0};
	struct err e;

	(void)state;
	assert_int_equal(
		parse("cores = 1\n[ port  data0 ] # fast\ndevice = 0000:81:00.0,x=1\n"
		      "ipv4=192.0.2.7/24\n[port b]\ndevice = virtio_user0,path=/x\nvlan=7\n"
		      "ipv6 = 2001:db8::7/64",
			&e),
		0);
	assert_int_equal(ports.n, 2);
	assert_string_equal(ports.one[0].name, "data0");
	assert_string_equal(option_text(&ports.one[0].options, "ipv4"), "192.0.2.7/24");
	assert_int_equal(option_number(&ports.one[0].options, "mtu"), 1500);
	assert_false(option_given(&ports.one[0].options, "vlan"));
	assert_int_equal(option_number(&ports.one[1].options, "vlan"), 7);
	assert_int_equal(ports_check(&ports, &e), 0);
	ports_need(&ports, &c);
	assert_string_equal(c.pci[0], "0000:81:00.0,x=1");
	assert_null(c.pci[1]);
	assert_true(c.mem_mb > 2 * 64);
	assert_int_equal(parse("", &e), 0);
	c.mem_mb = 32;
	ports_need(&ports, &c);
	assert_null(c.pci[0]);
	assert_int_equal(c.mem_mb, 32);
}

static void test_wrong_ports(void **state)
{
	static const struct {
		const char *text, *says;
	} rows[] = {
		{"[port a]\nipv4 = 192.0.2.7/24\n", "port a: device is missing"},
		{"[port a]\ndevice = net_memif0\n", "port a: "},
		{"[port a]\ndevice = net_memif0,role=client,zero-copy=yes\nipv4=192.0.2.7/24\n",
			"port a: leave zero-copy out of"},
		{"[port a]\ndevice=x0\nipv4=192.0.2.7/24\n[port b]\ndevice=x0\n",
			"ports a and b are the same device"},
	};
	struct err e;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(parse(rows[i].text, &e), 0);
		assert_int_equal(ports_check(&ports, &e), -EINVAL);
		assert_has(e.text, rows[i].says);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_mistakes),
		cmocka_unit_test(test_ports),
		cmocka_unit_test(test_wrong_ports),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
