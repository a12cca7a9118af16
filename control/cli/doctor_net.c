// SPDX-License-Identifier: BSD-3-Clause
// The doctor's check of the network: the kernel's interfaces, and PCI devices that were given to
// DPDK. Reads /sys only: a card is never touched. Run by godwit's only thread.

#include "doctor.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sysfs.h"

#define CLASS_ETHERNET 0x0200 /* upper 16 bits of a PCI class */
#define FAST_MBIT      10000  /* from here on the way through the kernel is the bottleneck */
#define JUMBO          9000

/* Drivers of the kernel whose cards a poll-mode driver of DPDK can take, by the manual of DPDK's
 * network drivers. shared: it works beside the kernel's, which keeps the card. */
static const struct {
	const char *kernel, *pmd;
	bool shared;
} drivers[] = {
	{"mlx5_core", "mlx5", true},
	{"mlx4_core", "mlx4", true},
	{"mana", "mana", true},
	{"ice", "ice", false},
	{"i40e", "i40e", false},
	{"iavf", "iavf", false},
	{"ixgbe", "ixgbe", false},
	{"igb", "igb", false},
	{"igc", "igc", false},
	{"e1000e", "e1000e", false},
	{"ena", "ena", false},
	{"bnxt_en", "bnxt", false},
	{"qede", "qede", false},
	{"cxgb4", "cxgbe", false},
	{"sfc", "sfc", false},
	{"enic", "enic", false},
	{"nfp", "nfp", false},
	{"hns3", "hns3", false},
	{"hinic", "hinic", false},
	{"atlantic", "atlantic", false},
	{"gve", "gve", false},
	{"vmxnet3", "vmxnet3", false},
	{"virtio_net", "virtio", false},
};

/* Of the devices on the way to an interface's, the last that has a PCI address. */
static void pci_of(const struct doctor *d, const char *name, char pci[16])
{
	char path[PATH_MAX], real[PATH_MAX], *save = NULL;
	unsigned domain, bus, device, function;

	pci[0] = '\0';
	snprintf(path, sizeof(path), "%s/class/net/%s/device", d->sys, name);
	if (realpath(path, real) == NULL)
		return;
	for (char *at = strtok_r(real, "/", &save); at != NULL; at = strtok_r(NULL, "/", &save))
		if (strlen(at) < 16 &&
			sscanf(at, "%x:%x:%x.%x", &domain, &bus, &device, &function) == 4)
			strcpy(pci, at);
}

static void speed_of(const struct doctor *d, const char *name, char text[32], long long *mbit)
{
	*mbit = sysfs_number(-1, "%s/class/net/%s/speed", d->sys, name);
	if (*mbit <= 0)
		snprintf(text, 32, "speed unknown");
	else if (*mbit % 1000 == 0)
		snprintf(text, 32, "%lld Gbit/s", *mbit / 1000);
	else
		snprintf(text, 32, "%lld Mbit/s", *mbit);
}

/* What would make an interface faster, in the order of what it brings; NULL: nothing known. */
static const char *advise(
	const char *driver, const char *pci, bool up, long long mbit, long long mtu, char buf[300])
{
	for (size_t i = 0; i < sizeof(drivers) / sizeof(drivers[0]); i++) {
		if (mbit < FAST_MBIT || pci[0] == '\0' || strcmp(drivers[i].kernel, driver) != 0)
			continue;
		if (drivers[i].shared)
			snprintf(buf, 300,
				"a port on %s (DPDK's %s, beside the kernel) is faster than TCP: "
				"[port NAME], device = %s",
				pci, drivers[i].pmd, pci);
		else
			snprintf(buf, 300,
				"a port on this card (DPDK's %s) is faster than TCP, but takes it "
				"from the kernel: driverctl set-override %s vfio-pci, then "
				"[port NAME], device = %s",
				drivers[i].pmd, pci, pci);
		return buf;
	}
	if (up && mbit >= FAST_MBIT && mtu < JUMBO) {
		snprintf(buf, 300, "MTU %d or more, here and on the way, saves CPU time", JUMBO);
		return buf;
	}
	return NULL;
}

static void interface(struct doctor *d, const char *name)
{
	char driver[SYSFS_TEXT], state[SYSFS_TEXT], speed[32], pci[16], node[24] = "?", buf[300];
	long long mtu, mbit, n;
	const char *cure;
	bool up;

	sysfs_link(driver, "%s/class/net/%s/device/driver", d->sys, name);
	sysfs_text(state, "%s/class/net/%s/operstate", d->sys, name);
	speed_of(d, name, speed, &mbit);
	pci_of(d, name, pci);
	mtu = sysfs_number(0, "%s/class/net/%s/mtu", d->sys, name);
	n = pci[0] ? sysfs_number(-1, "%s/bus/pci/devices/%s/numa_node", d->sys, pci) : -1;
	if (n >= 0)
		snprintf(node, sizeof(node), "%lld", n);
	up = strcmp(state, "up") == 0;
	cure = advise(driver, pci, up, mbit, mtu, buf);
	doctor_row(d,
		cure != NULL           ? DOCTOR_ADVICE
		: up && driver[0] != 0 ? DOCTOR_GOOD
				       : DOCTOR_NOTE,
		name, cure, "%s%s%s, node %s, %s, %s, MTU %lld", driver[0] ? driver : "virtual",
		pci[0] ? " at " : "", pci, node, state[0] ? state : "state unknown", speed, mtu);
}

/* Cards that the kernel's network does not see. */
static void given_away(struct doctor *d, const char *pci)
{
	static const char *const takers[] = {"vfio-pci", "uio_pci_generic", "igb_uio"};
	long long class = sysfs_number(0, "%s/bus/pci/devices/%s/class", d->sys, pci);
	char driver[SYSFS_TEXT], **netdevs;
	unsigned n;

	if (class >> 8 != CLASS_ETHERNET)
		return;
	n = sysfs_names(&netdevs, "%s/bus/pci/devices/%s/net", d->sys, pci);
	sysfs_names_free(netdevs, n);
	sysfs_link(driver, "%s/bus/pci/devices/%s/driver", d->sys, pci);
	for (size_t i = 0; i < sizeof(takers) / sizeof(takers[0]); i++)
		if (strcmp(driver, takers[i]) == 0)
			doctor_row(d, DOCTOR_GOOD, pci, NULL,
				"a DPDK device (%s), node %lld, id %04llx:%04llx: free for "
				"[port NAME], device = %s",
				driver,
				(long long)sysfs_number(
					-1, "%s/bus/pci/devices/%s/numa_node", d->sys, pci),
				(long long)sysfs_number(
					0, "%s/bus/pci/devices/%s/vendor", d->sys, pci),
				(long long)sysfs_number(
					0, "%s/bus/pci/devices/%s/device", d->sys, pci),
				pci);
	if (driver[0] == '\0' && n == 0)
		doctor_row(d, DOCTOR_NOTE, pci, NULL, "a network card without a driver");
}

static void iommu(struct doctor *d)
{
	char **groups;
	unsigned n = sysfs_names(&groups, "%s/kernel/iommu_groups", d->sys);

	sysfs_names_free(groups, n);
	if (n == 0)
		doctor_row(d, DOCTOR_NOTE, "IOMMU", NULL,
			"none: a PCI card can be given to DPDK only in vfio's no-IOMMU mode");
	else
		doctor_row(d, DOCTOR_GOOD, "IOMMU", NULL, "%u groups", n);
}

void doctor_net(struct doctor *d)
{
	char **names;
	unsigned n = sysfs_names(&names, "%s/class/net", d->sys);

	for (unsigned i = 0; i < n; i++)
		if (strcmp(names[i], "lo") != 0)
			interface(d, names[i]);
	sysfs_names_free(names, n);
	n = sysfs_names(&names, "%s/bus/pci/devices", d->sys);
	for (unsigned i = 0; i < n; i++)
		given_away(d, names[i]);
	sysfs_names_free(names, n);
	iommu(d);
}
