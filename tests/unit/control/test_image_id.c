// SPDX-License-Identifier: BSD-3-Clause
// image_id.c on names, on files, and on block devices that a /sys of its own describes. Device
// nodes are those of the host's loop devices or made here; nothing is read from them.

#include "harness.h"

#include <fcntl.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "err.h"
#include "image_id.h"

#define MAJOR 240 /* for local use: no driver answers */

static char folder[] = "/tmp/godwit-image-id-XXXXXX";

static void put(const char *text, const char *fmt, ...)
{
	char path[512], *slash;
	va_list ap;
	FILE *f;

	va_start(ap, fmt);
	vsnprintf(path, sizeof(path), fmt, ap);
	va_end(ap);
	for (slash = path + 1; (slash = strchr(slash, '/')) != NULL; slash++) {
		*slash = '\0';
		mkdir(path, 0700);
		*slash = '/';
	}
	f = fopen(path, "w");
	assert_non_null(f);
	fprintf(f, "%s\n", text);
	fclose(f);
}

/* Node of that number; -1: this user may make none. */
static int node(unsigned nr)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/node%u", folder, nr);
	if (mknod(path, S_IFBLK | 0600, makedev(MAJOR, nr)) < 0)
		return -1;
	fd = open(path, O_PATH | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static void test_names(void **state)
{
	static const struct {
		const char *name;
		enum image_id is;
	} rows[] = {
		{"nbd://storage/web", IMAGE_ID_NAME},
		{"rbd:pool/web", IMAGE_ID_NAME},
		{"iscsi://h/iqn/0", IMAGE_ID_NAME},
		{"null-co://", IMAGE_ID_NAME},
		/* Each host has its own. */
		{"nbd+unix:///web?socket=/run/nbd", IMAGE_ID_NONE},
		{"nbd:unix:/run/nbd", IMAGE_ID_NONE},
		{"nbd://localhost:10809/web", IMAGE_ID_NONE},
		{"nbd:127.0.0.1:10809", IMAGE_ID_NONE},
		{"/dev/vg0/web", IMAGE_ID_NONE},
		{"/dev/fdset/2", IMAGE_ID_NONE},
		{"json:{\"driver\": \"raw\"}", IMAGE_ID_NONE},
	};
	char id[IMAGE_ID_BYTES];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(image_id_name(rows[i].name, id), rows[i].is);
		assert_int_equal(image_id_reach(id), rows[i].is);
	}
}

static void test_files(void **state)
{
	_cleanup_(close_fd) int first = -1, other = -1, again = -1, ageless = -1;
	char path[128], a[IMAGE_ID_BYTES], b[IMAGE_ID_BYTES];
	struct statx sx;

	(void)state;
	put("", "%s/first", folder);
	put("", "%s/other", folder);
	snprintf(path, sizeof(path), "%s/first", folder);
	first = open(path, O_PATH);
	again = open(path, O_PATH);
	snprintf(path, sizeof(path), "%s/other", folder);
	other = open(path, O_PATH);
	/* Without the time that it was made its number is one of many. */
	ageless = open("/proc/version", O_PATH);
	assert_int_equal(image_id_file(ageless, "/sys", a), IMAGE_ID_NONE);
	assert_int_equal(statx(first, "", AT_EMPTY_PATH, STATX_BTIME, &sx), 0);
	if ((sx.stx_mask & STATX_BTIME) == 0) {
		print_message("the file system of /tmp does not keep when files were made\n");
		skip();
	}
	assert_int_equal(image_id_file(first, "/sys", a), IMAGE_ID_ITSELF);
	snprintf(path, sizeof(path), ".%09u", sx.stx_btime.tv_nsec);
	assert_non_null(strstr(a, path));
	assert_int_equal(image_id_reach(a), IMAGE_ID_ITSELF);
	assert_int_equal(image_id_file(again, "/sys", b), IMAGE_ID_ITSELF);
	assert_string_equal(a, b);
	assert_int_equal(image_id_file(other, "/sys", b), IMAGE_ID_ITSELF);
	assert_string_not_equal(a, b);
	assert_int_equal(image_id_file(-1, "/sys", a), IMAGE_ID_NONE);
	assert_int_equal(image_id_reach(a), IMAGE_ID_NONE);
}

/* What /sys has of a device, and what it is known by; NULL: nothing. */
static const struct {
	const char *file, *text, *id;
} devices[] = {
	{"dm/uuid", "LVM-n3PvWZ8nCB2B", "block LVM-n3PvWZ8nCB2B"},
	{"dm/uuid", "mpath-3600a0980", "block mpath-3600a0980"},
	{"dm/uuid", "part2-mpath-3600a0980", "block part2-mpath-3600a0980"},
	{"dm/uuid", "CRYPT-LUKS2-1f2e-web", "block CRYPT-LUKS2-1f2e-web"},
	/* A name only. */
	{"dm/uuid", "CRYPT-PLAIN-web", NULL},
	{"dm/uuid", "part1-devnode_7:0_Wh5pYvM", NULL},
	{"dm/uuid", "", NULL},
	{"device/wwid", "naa.600508b1001c", "block naa.600508b1001c part 0"},
	{"wwid", "eui.0025388b91", "block eui.0025388b91 part 0"},
	/* Every virtual disk of some makers has the same. */
	{"device/wwid", "t10.ATA     QEMU HARDDISK  QM00001", NULL},
	{"serial", "web", NULL},
	{"loop/backing_file", "gone (deleted)", NULL},
};

static void test_devices(void **state)
{
	(void)state;
	for (unsigned i = 0; i < sizeof(devices) / sizeof(devices[0]); i++) {
		_cleanup_(close_fd) int fd = node(i);
		char id[IMAGE_ID_BYTES], sys[128];

		if (fd < 0) {
			print_message("this user may make no device nodes\n");
			skip();
		}
		snprintf(sys, sizeof(sys), "%s/sys", folder);
		put(devices[i].text, "%s/dev/block/%u:%u/%s", sys, MAJOR, i, devices[i].file);
		assert_int_equal(image_id_file(fd, sys, id),
			devices[i].id != NULL ? IMAGE_ID_ITSELF : IMAGE_ID_NONE);
		if (devices[i].id != NULL)
			assert_string_equal(id, devices[i].id);
		assert_int_equal(image_id_reach(id),
			devices[i].id != NULL ? IMAGE_ID_ITSELF : IMAGE_ID_NONE);
	}
}

/* A partition goes by its disk, which is the folder above it. */
static void test_partition(void **state)
{
	_cleanup_(close_fd) int fd = node(100);
	char id[IMAGE_ID_BYTES], sys[128], link[256];

	(void)state;
	if (fd < 0) {
		print_message("this user may make no device nodes\n");
		skip();
	}
	snprintf(sys, sizeof(sys), "%s/sys", folder);
	put("3", "%s/devices/sda/sda3/partition", sys);
	put("naa.5000c5", "%s/devices/sda/device/wwid", sys);
	put("", "%s/dev/block/none", sys);
	snprintf(link, sizeof(link), "%s/dev/block/%u:100", sys, MAJOR);
	assert_int_equal(symlink("../../devices/sda/sda3", link), 0);
	assert_int_equal(image_id_file(fd, sys, id), IMAGE_ID_ITSELF);
	assert_string_equal(id, "block naa.5000c5 part 3");
}

/* A loop device goes by its file, and from where on it shows it. */
static void test_loop(void **state)
{
	char id[3][IMAGE_ID_BYTES], sys[128], path[128];
	static const char *const offsets[] = {"0", "0", "4096"};

	(void)state;
	snprintf(sys, sizeof(sys), "%s/sys", folder);
	snprintf(path, sizeof(path), "%s/behind", folder);
	put("", "%s", path);
	for (unsigned i = 0; i < 3; i++) {
		_cleanup_(close_fd) int fd = node(200 + i);

		if (fd < 0) {
			print_message("this user may make no device nodes\n");
			skip();
		}
		put(path, "%s/dev/block/%u:%u/loop/backing_file", sys, MAJOR, 200 + i);
		put(offsets[i], "%s/dev/block/%u:%u/loop/offset", sys, MAJOR, 200 + i);
		assert_int_equal(image_id_file(fd, sys, id[i]), IMAGE_ID_ITSELF);
	}
	assert_string_equal(id[0], id[1]);
	assert_string_not_equal(id[0], id[2]);
}

static int make_folder(void **state)
{
	(void)state;
	return mkdtemp(folder) != NULL ? 0 : -1;
}

static int remove_folder(void **state)
{
	char line[128];

	(void)state;
	snprintf(line, sizeof(line), "rm -rf %s", folder);
	return system(line);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_files),
		cmocka_unit_test(test_devices),
		cmocka_unit_test(test_partition),
		cmocka_unit_test(test_loop),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
