// SPDX-License-Identifier: BSD-3-Clause
// doctor: what it says of hosts that this one is not, from a made-up /sys.

#include "harness.h"

#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "doctor.h"
#include "report.h"

static char root[] = "/tmp/godwit-doctor-XXXXXX";

static void make_parents(const char *path)
{
	char part[PATH_MAX];

	for (size_t i = strlen(root) + 1; path[i] != '\0'; i++) {
		if (path[i] != '/')
			continue;
		snprintf(part, sizeof(part), "%.*s", (int)i, path);
		mkdir(part, 0700);
	}
}

static void put(const char *name, const char *text)
{
	char path[PATH_MAX];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", root, name);
	make_parents(path);
	f = fopen(path, "w");
	assert_non_null(f);
	fprintf(f, "%s\n", text);
	fclose(f);
}

static void put_link(const char *name, const char *target)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", root, name);
	make_parents(path);
	assert_int_equal(symlink(target, path), 0);
}

/* A card of 100 Gbit/s on node 1, and its twin that was given to DPDK. */
static int make_host(void **state)
{
	(void)state;
	assert_non_null(mkdtemp(root));
	put("devices/system/cpu/online", "0-7");
	put("devices/system/cpu/isolated", "6-7");
	put("devices/system/cpu/nohz_full", "6-7");
	put("devices/system/cpu/cpu6/cpufreq/scaling_governor", "powersave");
	put("devices/system/cpu/cpu7/cpufreq/scaling_governor", "performance");
	put("devices/system/node/node0/cpulist", "0-3");
	put("devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages", "0");
	put("devices/system/node/node1/cpulist", "4-7");
	put("devices/system/node/node1/hugepages/hugepages-1048576kB/nr_hugepages", "16");
	put("devices/system/node/node1/hugepages/hugepages-1048576kB/free_hugepages", "4");
	put("devices/pci0/0000:41:00.0/numa_node", "1");
	put("devices/pci0/0000:41:00.0/class", "0x020000");
	put("devices/pci0/0000:41:00.0/net/ens1/mtu", "1500");
	put("devices/pci0/0000:41:00.0/net/ens1/speed", "100000");
	put("devices/pci0/0000:41:00.0/net/ens1/operstate", "up");
	put_link("devices/pci0/0000:41:00.0/driver", "../../bus/pci/drivers/mlx5_core");
	put_link("devices/pci0/0000:41:00.0/net/ens1/device", "../..");
	put_link("class/net/ens1", "../../devices/pci0/0000:41:00.0/net/ens1");
	put_link("bus/pci/devices/0000:41:00.0", "../../../devices/pci0/0000:41:00.0");
	put("devices/pci0/0000:41:00.1/numa_node", "1");
	put("devices/pci0/0000:41:00.1/class", "0x020000");
	put("devices/pci0/0000:41:00.1/vendor", "0x8086");
	put("devices/pci0/0000:41:00.1/device", "0x1592");
	put_link("devices/pci0/0000:41:00.1/driver", "../../bus/pci/drivers/vfio-pci");
	put_link("bus/pci/devices/0000:41:00.1", "../../../devices/pci0/0000:41:00.1");
	put("class/infiniband/mlx5_0/node_type", "1: CA");
	put("class/infiniband/mlx5_0/ports/1/state", "4: ACTIVE");
	put("class/infiniband/mlx5_0/ports/1/link_layer", "Ethernet");
	put("class/infiniband/mlx5_0/ports/1/rate", "100 Gb/sec (4X EDR)");
	put("class/infiniband/mlx5_0/ports/1/gid_attrs/ndevs/0", "ens1");
	put("class/infiniband/mlx5_0/ports/1/gids/0", "fe80:0000:0000:0000:5054:00ff:fe00:0001");
	put("class/infiniband/mlx5_0/ports/1/gids/1", "0000:0000:0000:0000:0000:ffff:0a4d:0001");
	put("class/infiniband/mlx5_0/ports/1/gids/2", "0000:0000:0000:0000:0000:0000:0000:0000");
	put("class/infiniband/mlx5_0/ports/1/gid_attrs/types/1", "RoCE v2");
	put("class/infiniband/mlx5_0/ports/1/gid_attrs/ndevs/1", "ens1");
	put("class/infiniband/mlx5_0/ports/2/state", "1: DOWN");
	put("class/infiniband/mlx5_0/ports/2/link_layer", "InfiniBand");
	put("class/infiniband/siw0/node_type", "4: RNIC");
	put("kernel/iommu_groups/0/type", "DMA");
	return 0;
}

static int remove_host(void **state)
{
	char command[64];

	(void)state;
	snprintf(command, sizeof(command), "rm -r %s", root);
	return system(command);
}

/* The row of a subject, whose text has says. */
static const json_t *row_of(const struct doctor *d, const char *subject, const char *says)
{
	json_t *row;
	size_t i;

	json_array_foreach(d->rows, i, row)
	{
		if (strcmp(report_text(row, "subject"), subject) == 0 &&
			strstr(report_text(row, "text"), says) != NULL)
			return row;
	}
	fail_msg("no row of %s says '%s'", subject, says);
	return NULL;
}

static void expect(const struct doctor *d, const char *subject, const char *verdict,
	const char *says, const char *cure)
{
	const json_t *row = row_of(d, subject, says);

	assert_string_equal(report_text(row, "verdict"), verdict);
	assert_has(report_text(row, "cure"), cure);
}

static void test_host(void **state)
{
	struct doctor d = {.sys = root, .proc = root};

	(void)state;
	doctor_run(&d);
	expect(&d, "godwitd", "advice", "does not run", "start it");
	expect(&d, "node1", "note", "CPU 4-7", "");
	expect(&d, "isolated", "good", "CPU 6,7, without ticks on 6-7", "");
	expect(&d, "frequency", "advice", "1 of 2 CPUs", "performance");
	expect(&d, "node0", "advice", "no huge pages of 2.00 MiB", "nr_hugepages");
	expect(&d, "node1", "good", "4 of 16 huge pages of 1.00 GiB are free", "");
	expect(&d, "ens1", "advice", "mlx5_core at 0000:41:00.0, node 1, up, 100 Gbit/s, MTU 1500",
		"device = 0000:41:00.0");
	expect(&d, "0000:41:00.1", "good", "vfio-pci), node 1, id 8086:1592", "");
	expect(&d, "mlx5_0/1", "good", "RoCE on ens1, 100 Gb/sec (4X EDR), 4: ACTIVE", "");
	expect(&d, "mlx5_0/1", "note", "GID 0 is fe80::5054:ff:fe00:1 on ens1", "");
	expect(&d, "mlx5_0/1", "note", "GID 1 is 10.77.0.1, RoCE v2 on ens1", "");
	expect(&d, "mlx5_0/2", "note", "InfiniBand, rate unknown, 1: DOWN", "cable");
	expect(&d, "siw0", "note", "neither InfiniBand nor RoCE", "");
	expect(&d, "rdma_cm", "problem", "not loaded", "modprobe rdma_ucm");
	expect(&d, "IOMMU", "good", "1 groups", "");
	json_decref(d.rows);
}

/* Nothing there, and a daemon with a port that is down: rows, no crash. */
static void test_bare(void **state)
{
	struct doctor d = {.sys = "/nonexistent", .proc = "/nonexistent"};

	(void)state;
	d.daemon = json_pack("{s:s, s:f, s:[{s:s, s:b, s:s}], s:[{s:i}, {s:s}, i]}", "version", "9",
		"pid", 7.0, "ports", "name", "data0", "up", 0, "about", "net_memif", "cores", "cpu",
		3, "cpu", "x", 5);
	doctor_run(&d);
	expect(&d, "godwitd", "good", "version 9, pid 7", "");
	expect(&d, "data0", "problem", "port: net_memif", "cable");
	assert_int_equal(d.count[DOCTOR_PROBLEM] >= 1, true);
	json_decref(d.rows);
	json_decref(d.daemon);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_host, make_host, remove_host),
		cmocka_unit_test(test_bare),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
