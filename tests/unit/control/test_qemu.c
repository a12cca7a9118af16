// SPDX-License-Identifier: BSD-3-Clause
// qemu_views.c and qemu_about.c: what the human monitor prints, and the comparison of two machines.

#include "harness.h"

#include <errno.h>

#include "qemu.h"

static const char mtree[] =
	"FlatView #0\r\n AS \"memory\", root: system\r\n Root memory region: system\r\n"
	"  0000000000000000-00000000000bffff (prio 0, ram): ram01\r\n"
	"  00000000000c0000-00000000000c3fff (prio 1, rom): ram0 @00000000000c0000\r\n"
	"  0000000000100000-000000007fffffff (prio 0, ram): ram0 @0000000000100000 KVM\r\n"
	"  00000000fec00000-00000000fec00fff (prio 0, i/o): ioapic\r\n"
	"  0000000100000000-000000017fffffff (prio 0, ram): " QEMU_OBJECTS "/dimm1\n";

static void test_views(void **state)
{
	uint64_t gpa = 0, offset = 0;

	(void)state;
	assert_true(qemu_view_of(mtree, "ram0", &gpa, &offset));
	assert_int_equal(gpa, 0x100000);
	assert_int_equal(offset, 0x100000);
	assert_true(qemu_view_of(mtree, "ram01", &gpa, &offset));
	assert_int_equal(gpa, 0);
	assert_int_equal(offset, 0);
	assert_true(qemu_view_of(mtree, QEMU_OBJECTS "/dimm1", &gpa, &offset));
	assert_int_equal(gpa, UINT64_C(0x100000000));
	assert_false(qemu_view_of(mtree, "ram", &gpa, &offset));
	assert_false(qemu_view_of("", "ram0", &gpa, &offset));
}

static void test_addresses(void **state)
{
	(void)state;
	assert_int_equal(qemu_host_address("Host virtual address for 0x100000 (ram0) is "
					   "0x7fd4a80ff000\r\n"),
		UINT64_C(0x7fd4a80ff000));
	assert_int_equal(qemu_host_address("No memory is mapped at address 0x1"), 0);
	assert_true(qemu_register_has("CR0=80050033 CR4=000026f0\nEFER=0d01", "CR4", 1u << 13));
	assert_false(qemu_register_has("CR0=80050033 CR4=000006f0", "CR4", 1u << 13));
	/* Any CPU will do. */
	assert_true(qemu_register_has("CPU#0\nEFER=0d01\nCPU#1\nEFER=1d01", "EFER", 1u << 12));
}

static json_t *machine(const char *devices, const char *disks)
{
	char text[512];

	snprintf(text, sizeof(text),
		"{\"qemu\": \"7.2.22\", \"machine\": \"pc-q35-7.2-machine\", \"cpus\": 2, "
		"\"devices\": %s, \"disks\": %s}",
		devices, disks);
	return json_loads(text, 0, NULL);
}

static void test_compare(void **state)
{
	static const char disk[] = "{\"d\": [{\"name\": \"/a\", \"identity\": \"inode 1\"}]}";
	static const struct {
		const char *devices, *disks, *says;
	} rows[] = {
		{"[\"a\", \"b\"]", disk, NULL},
		{"[\"a\", \"b\"]",
			"{\"d\": [{\"name\": \"/elsewhere\", \"identity\": \"inode 1\"}]}", NULL},
		{"[\"a\"]", disk, "in a device: \"b\" at the source, none at the target"},
		{"[\"a\", \"b\", \"c\"]", disk, "none at the source, \"c\" at the target"},
		{"[\"a\", \"b\"]", "{\"d\": [{\"name\": \"/a\", \"identity\": \"inode 2\"}]}",
			"not the same image"},
		{"[\"a\", \"b\"]", "{\"d\": []}", "not the same image"},
		{"[\"a\", \"b\"]", "{}", "disk d is not there at the target"},
		{"7", "[]", "in a device"},
	};
	json_t *there = machine("[\"a\", \"b\"]", disk);
	struct err e;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		json_t *here = machine(rows[i].devices, rows[i].disks);

		assert_int_equal(qemu_compare(there, here, &e), rows[i].says ? -EINVAL : 0);
		if (rows[i].says != NULL)
			assert_has(e.text, rows[i].says);
		json_decref(here);
	}
	assert_int_equal(qemu_compare(NULL, there, &e), -EINVAL);
	assert_int_equal(qemu_compare(there, NULL, &e), -EINVAL);
	assert_has(e.text, "only one of the two sides is a QEMU");
	json_decref(there);
}

/* Where RAM is in the guest, and how much: as each side's QEMU tells. */
static void test_compare_backends(void **state)
{
	static const char one[] = "\"ram0 at 0x0, 2147483648 bytes\"";
	static const struct {
		const char *backends, *says;
	} rows[] = {
		{"[\"ram0 at 0x0, 2147483648 bytes\"]", NULL},
		{"[\"ram0 at 0x100000000, 2147483648 bytes\"]",
			"in a memory backend: \"ram0 at 0x0, 2147483648 bytes\" at the source, "
			"\"ram0 "
			"at 0x100000000, 2147483648 bytes\" at the target"},
		{"[\"ram0 at 0x0, 2147483648 bytes\", \"dimm1 at 0x1, 4096 bytes\"]",
			"none at the source, \"dimm1 at 0x1, 4096 bytes\" at the target"},
		{"[]", "none at the target"},
	};
	json_t *there = machine("[]", "{}");
	struct err e;

	(void)state;
	json_object_set_new(
		there, "backends", json_pack("[o]", json_loads(one, JSON_DECODE_ANY, NULL)));
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		json_t *here = machine("[]", "{}");

		json_object_set_new(here, "backends", json_loads(rows[i].backends, 0, NULL));
		assert_int_equal(qemu_compare(there, here, &e), rows[i].says ? -EINVAL : 0);
		if (rows[i].says != NULL)
			assert_has(e.text, rows[i].says);
		json_decref(here);
	}
	json_decref(there);
}

/* A device is no other one of that name: the guest's disk is at stake. */
static void test_compare_images(void **state)
{
#define IMAGE(name, id) "{\"d\": [{\"name\": \"" name "\", \"identity\": \"" id "\"}]}"
	static const struct {
		const char *there, *here, *says; /* says: without --shared-disks */
		bool given;                      /* with it the two are taken for the same */
	} rows[] = {
		{IMAGE("/dev/a", "block naa.1 part 0"), IMAGE("/dev/b", "block naa.1 part 0"), NULL,
			true},
		{IMAGE("/dev/a", "block naa.1 part 0"), IMAGE("/dev/a", "block naa.2 part 0"),
			"not the same image", false},
		{IMAGE("/dev/a", "block naa.1 part 0"), IMAGE("/dev/a", "can't be told"),
			"not the same image", false},
		{IMAGE("/dev/a", "can't be told"), IMAGE("/dev/a", "can't be told"),
			"say --shared-disks", true},
		{IMAGE("/dev/a", "can't be told"), IMAGE("/dev/b", "can't be told"),
			"not the same image", false},
		/* As a daemon before this one said it. */
		{IMAGE("/dev/a", "a device"), IMAGE("/dev/a", "a device"), "say --shared-disks",
			true},
		{IMAGE("nbd://h/a", "by its name"), IMAGE("nbd://h/a", "by its name"), NULL, true},
		{IMAGE("nbd://h/a", "by its name"), IMAGE("nbd://h/b", "by its name"),
			"not the same image", false},
		{"{\"d\": [{}]}", "{\"d\": [{}]}", "say --shared-disks", true},
	};
	struct err e;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		json_t *there = machine("[]", rows[i].there), *here = machine("[]", rows[i].here);

		assert_int_equal(qemu_compare(there, here, &e), rows[i].says ? -EINVAL : 0);
		if (rows[i].says != NULL)
			assert_has(e.text, rows[i].says);
		json_object_set_new(there, "shared_disks", json_true());
		assert_int_equal(qemu_compare(there, here, &e), rows[i].given ? 0 : -EINVAL);
		json_decref(there);
		json_decref(here);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_views),
		cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_compare),
		cmocka_unit_test(test_compare_backends),
		cmocka_unit_test(test_compare_images),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
