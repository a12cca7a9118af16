// SPDX-License-Identifier: BSD-3-Clause
// qemu_check.c against a monitor that answers by a table: each refusal that a QEMU's own words lead
// to, by its name, with its cure; and none where nothing is wrong. What stands against the process
// itself is in tests/kvm/test_attach_refuse.c; this test's own process stands for the QEMU.

#include "harness.h"

#include <signal.h>
#include <sys/mman.h>

#include "qemu.h"
#include "script_qmp.h"

#define SOON_MS 10000

static const struct script_row good[] = {
	{"qmp_capabilities", "", "{}"},
	{"query-migrate-capabilities", "",
		"[{\"capability\": \"xbzrle\", \"state\": false},"
		" {\"capability\": \"x-ignore-shared\", \"state\": false}]"},
	{"query-migrate", "", "{}"},
	{"query-named-block-nodes", "", "[]"},
	{"qom-list", "", "[{\"name\": \"net0\", \"type\": \"child<virtio-net-pci>\"}]"},
	{"human-monitor-command", "info network", "\"net0: index=0,type=tap,ifname=tap0\\r\\n\""},
	{"human-monitor-command", "info registers",
		"\"CPU#0\\nCR0=80050033 CR4=000006f0\\nEFER=0000000000000d01\\n\""},
	{NULL, NULL, NULL},
};

static struct script script;

static bool is_of_words(const char *name)
{
	static const char *const process[] = {
		"kernel", "ptrace", "fds", "traced", "direct-io", "io-uring"};

	for (size_t i = 0; i < sizeof(process) / sizeof(process[0]); i++)
		if (strcmp(name, process[i]) == 0)
			return false;
	return true;
}

/* Asks a QEMU that says this first, and looks for the finding; NULL: there is none. */
static void check(const struct script_row *first, struct qemu *u, const char *name,
	const char *text, const char *cure)
{
	static struct findings found;
	const struct vmm_where where = {.driver = VMM_QEMU};
	struct err e = {0};
	unsigned n = 0;

	memset(&found, 0, sizeof(found));
	script.first = first;
	assert_int_equal(qmp_open(&u->qmp, script.path, SOON_MS, -1, &e), 0);
	u->pid = getpid();
	if (qemu_check(u, &where, &found, &e) < 0)
		fail_msg("%s", e.text);
	qmp_close(u->qmp);
	for (unsigned i = 0; i < found.n; i++) {
		if (!is_of_words(found.f[i].name))
			continue;
		if (name == NULL || strcmp(found.f[i].name, name) != 0)
			fail_msg("found %s: %s", found.f[i].name, found.f[i].text);
		assert_has(found.f[i].text, text);
		assert_has(found.f[i].cure, cure);
		n++;
	}
	assert_int_equal(n, name != NULL ? 1 : 0);
}

/* A QEMU with one backend, a file of this process. */
static struct qemu machine(void)
{
	static struct attach_file none;
	struct qemu u = {.nram = 1, .running = true, .files = &none};

	strcpy(u.status, "running");
	strcpy(u.ram[0].id, "ram0");
	strcpy(u.ram[0].type, "memory-backend-file");
	u.ram[0].share = true;
	return u;
}

/* The file of the backend is a memfd that this test maps. */
static struct qemu mapped(struct attach_file *files, unsigned n)
{
	struct qemu u = machine();

	u.files = files;
	u.ram[0].file = -1;
	for (unsigned i = 0; i < n; i++)
		if (strcmp(files[i].path, "/memfd:ram") == 0)
			u.ram[0].file = (int)i;
	assert_true(u.ram[0].file >= 0);
	return u;
}

static struct attach_file *files;
static unsigned nfiles;

static void test_words(void **state)
{
	static const struct {
		const char *name, *text, *cure;
		struct script_row row;
	} rows[] = {
		{NULL, NULL, NULL, {NULL, NULL, NULL}},
		{"no-ignore-shared", "x-ignore-shared", "QEMU 4.0",
			{"query-migrate-capabilities", "", "[]"}},
		{"migrating", "(active)", "cancel it",
			{"query-migrate", "", "{\"status\": \"active\"}"}},
		{NULL, NULL, NULL, {"query-migrate", "", "{\"status\": \"failed\"}"}},
		{"blocked", "no way", "remove",
			{"query-migrate", "", "{\"blocked-reasons\": [\"no way\"]}"}},
		{"disk-driver", "block node b0: driver nvme", "another driver",
			{"query-named-block-nodes", "",
				"[{\"node-name\": \"b0\", \"drv\": \"nvme\", \"file\": \"x\"}]"}},
		{"disk-driver", "driver virtio-blk-vhost-vdpa", "another driver",
			{"query-named-block-nodes", "",
				"[{\"drv\": \"virtio-blk-vhost-vdpa\", \"file\": \"x\"}]"}},
		{"disk-direct", "disk web.img bypasses", "--disk-cache writeback",
			{"query-named-block-nodes", "",
				"[{\"drv\": \"file\", \"file\": \"web.img\", \"cache\": "
				"{\"direct\": true}}]"}},
		{"netdev", "type=vhost-user", "vhost=off",
			{"human-monitor-command", "info network",
				"\"net0: index=0,type=nic\\r\\n \\\\ n0: "
				"index=0,type=vhost-user\""}},
		{"netdev", "type=vhost-vdpa", "vhost=off",
			{"human-monitor-command", "info network",
				"\"n0: index=0,type=vhost-vdpa\""}},
		{"confidential", "(" QEMU_OBJECTS "/sev0", "own migration protocol",
			{"qom-get", "confidential-guest-support", "\"" QEMU_OBJECTS "/sev0\""}},
		{NULL, NULL, NULL, {"qom-get", "confidential-guest-support", "\"\""}},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct script_row first[] = {rows[i].row, {NULL, NULL, NULL}};
		struct qemu u = mapped(files, nfiles);

		check(first, &u, rows[i].name, rows[i].text, rows[i].cure);
	}
}

/* Each kind of device that writes unseen, wherever in the machine it is. */
static void test_devices(void **state)
{
	static const struct {
		const char *type, *cure; /* cure NULL: it is seen */
	} rows[] = {
		{"virtio-blk-pci", NULL},
		{"pc-dimm", NULL},
		{"vhost-vsock-pci", NULL}, /* found by the process's /dev/vhost-vsock */
		{"vfio-pci", "unplug"},
		{"vfio-ap", "unplug"},
		{"vhost-user-blk-pci", "emulates"},
		{"vhost-user-fs-pci", "emulates"},
		{"vhost-scsi-pci", "virtio-scsi"},
		{"vhost-vdpa-device-pci", "virtio-net"},
		{"vfio-user-pci", "unplug"},
		{"x-pci-proxy-dev", "emulates"},
		{"scsi-block", "scsi-hd"},
		{"ivshmem-plain", "unplug"},
		{"pvrdma", "virtio-net"},
		{"cxl-type3", "without it"},
		{"nvdimm", "without it"},
		{"virtio-pmem-pci", "without it"},
		{"virtio-mem-pci", "pc-dimm"},
		{"sgx-epc", "without it"},
	};
	static const char *const folders[] = {
		QEMU_MACHINE "/peripheral\"", QEMU_MACHINE "/peripheral-anon", "/unattached"};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char answer[128], text[96];
		const struct script_row first[] = {
			{"qom-list", folders[i % 3], answer}, {NULL, NULL, NULL}};
		struct qemu u = mapped(files, nfiles);

		snprintf(answer, sizeof(answer), "[{\"name\": \"d0\", \"type\": \"child<%s>\"}]",
			rows[i].type);
		snprintf(text, sizeof(text), "device d0 (%s)", rows[i].type);
		check(first, &u, rows[i].cure != NULL ? "device" : NULL, text, rows[i].cure);
	}
}

static void test_states(void **state)
{
	static const struct {
		const char *status, *name;
	} rows[] = {{"running", NULL}, {"paused", NULL}, {"prelaunch", NULL}, {"inmigrate", NULL},
		{"postmigrate", "moved"}, {"shutdown", "state"}, {"suspended", "state"},
		{"guest-panicked", "state"}, {"io-error", "state"}};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		bool moved = rows[i].name != NULL && strcmp(rows[i].name, "moved") == 0;
		struct qemu u = mapped(files, nfiles);

		strcpy(u.status, rows[i].status);
		check(NULL, &u, rows[i].name, moved ? "migrated from here" : rows[i].status,
			moved ? "say cont" : "resume");
	}
}

static void test_nested(void **state)
{
	static const struct {
		const char *registers;
		bool nested;
	} rows[] = {{"\"CR4=000006f0\\nEFER=0000000000000d01\"", false},
		{"\"CPU#0\\nCR4=000006f0\\nCPU#1\\nCR4=000026f0\"", true},
		{"\"CR4=000006f0\\nEFER=0000000000001d01\"", true}};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct script_row first[] = {
			{"human-monitor-command", "info registers", rows[i].registers},
			{NULL, NULL, NULL}};
		struct qemu u = mapped(files, nfiles);

		u.kvm = true;
		check(first, &u, rows[i].nested ? "nested" : NULL, "guests of its own", "unload");
		/* Without KVM nobody but QEMU itself writes there. */
		u = mapped(files, nfiles);
		check(first, &u, NULL, NULL, NULL);
	}
}

static void test_ram(void **state)
{
	struct qemu u = machine();

	(void)state;
	u.nram = 0;
	check(NULL, &u, "ram-unknown", "names no memory backend", "memory-backend=ID");
	u = machine();
	u.ram[0].file = -1;
	check(NULL, &u, "ram-hidden", "RAM ram0 is not mapped", "--pid");
	u.ram[0].share = false;
	check(NULL, &u, "ram-private", "RAM ram0 (memory-backend-file)", "share=on");
	u = mapped(files, nfiles);
	strcpy(u.ram[0].type, "memory-backend-memfd");
	check(NULL, &u, NULL, NULL, NULL);
	script.major = 8; /* 8.2 */
	check(NULL, &u, "ram-unnamed", "leaves only files out", "memory-backend-file");
	script.major = 7;
}

static int start(void **state)
{
	int fd = memfd_create("ram", MFD_CLOEXEC);
	struct err e;

	(void)state;
	signal(SIGPIPE, SIG_IGN);
	if (fd < 0 || ftruncate(fd, 4 << 20) < 0 ||
		mmap(NULL, 4 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED ||
		attach_files(NULL, getpid(), &files, &nfiles, &e) < 0)
		return -1;
	script.major = 7;
	script.then = good;
	script_start(&script);
	return 0;
}

static int end(void **state)
{
	(void)state;
	script_end(&script);
	free(files);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_devices),
		cmocka_unit_test(test_states),
		cmocka_unit_test(test_nested),
		cmocka_unit_test(test_ram),
	};

	return cmocka_run_group_tests(tests, start, end);
}
