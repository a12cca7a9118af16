// SPDX-License-Identifier: BSD-3-Clause
// The doctor's check of RDMA: which devices there are, and whether the rdma link can use them.
// Reads /sys, and what the daemon says of the one that it has. Run by godwit's only thread.

#include "doctor.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "link_rdma.h"
#include "report.h"
#include "sysfs.h"

#define DEVICES      16         /* that are asked what they can do */
#define GIDS         16         /* of a port, that are shown */
#define NODE_TYPE_CA 1          /* InfiniBand and RoCE; iWARP has another */
#define LOCKED_LEAST (64 << 20) /* what a daemon with some flows wants to lock */

/* As people write the address that it is; false: an entry that is empty. */
static bool gid_text(const char *gid, char text[INET6_ADDRSTRLEN])
{
	struct in6_addr a;

	if (inet_pton(AF_INET6, gid, &a) != 1 || IN6_IS_ADDR_UNSPECIFIED(&a))
		return false;
	if (IN6_IS_ADDR_V4MAPPED(&a))
		return inet_ntop(AF_INET, &a.s6_addr[12], text, INET6_ADDRSTRLEN) != NULL;
	return inet_ntop(AF_INET6, &a, text, INET6_ADDRSTRLEN) != NULL;
}

/* The addresses by which --rdma finds this port: each is one of its GIDs. */
static void gids(struct doctor *d, const char *device, const char *number, const char *subject)
{
	char gid[SYSFS_TEXT], type[SYSFS_TEXT], netdev[SYSFS_TEXT], text[INET6_ADDRSTRLEN];
	char **names;
	unsigned n =
		sysfs_names(&names, "%s/class/infiniband/%s/ports/%s/gids", d->sys, device, number);

	for (unsigned i = 0, shown = 0; i < n && shown < GIDS; i++) {
		sysfs_text(gid, "%s/class/infiniband/%s/ports/%s/gids/%s", d->sys, device, number,
			names[i]);
		if (!gid_text(gid, text))
			continue;
		sysfs_text(type, "%s/class/infiniband/%s/ports/%s/gid_attrs/types/%s", d->sys,
			device, number, names[i]);
		sysfs_text(netdev, "%s/class/infiniband/%s/ports/%s/gid_attrs/ndevs/%s", d->sys,
			device, number, names[i]);
		doctor_row(d, DOCTOR_NOTE, subject, NULL, "GID %s is %s%s%s%s%s", names[i], text,
			type[0] ? ", " : "", type, netdev[0] ? " on " : "", netdev);
		shown++;
	}
	sysfs_names_free(names, n);
}

static void port(struct doctor *d, const char *device, const char *number, unsigned mtu)
{
	char packets[32] = "", state[SYSFS_TEXT], layer[SYSFS_TEXT], rate[SYSFS_TEXT],
	     netdev[SYSFS_TEXT];
	char subject[64];
	bool up;

	snprintf(subject, sizeof(subject), "%.40s/%.10s", device, number);
	sysfs_text(state, "%s/class/infiniband/%s/ports/%s/state", d->sys, device, number);
	sysfs_text(layer, "%s/class/infiniband/%s/ports/%s/link_layer", d->sys, device, number);
	sysfs_text(rate, "%s/class/infiniband/%s/ports/%s/rate", d->sys, device, number);
	sysfs_text(netdev, "%s/class/infiniband/%s/ports/%s/gid_attrs/ndevs/0", d->sys, device,
		number);
	up = strstr(state, "ACTIVE") != NULL;
	if (mtu != 0)
		snprintf(packets, sizeof(packets), ", packets of %u bytes", mtu);
	doctor_row(d, up ? DOCTOR_GOOD : DOCTOR_NOTE, subject,
		up ? NULL : "bring its network interface up, or look at its cable",
		"%s%s%s, %s, %s%s", strcmp(layer, "Ethernet") == 0 ? "RoCE" : layer,
		netdev[0] ? " on " : "", netdev, rate[0] ? rate : "rate unknown",
		state[0] ? state : "state unknown", packets);
	gids(d, device, number, subject);
}

/* In units that people read. */
static const char *size(uint64_t bytes, char text[32])
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	unsigned u = 0;

	for (; u + 1 < sizeof(units) / sizeof(units[0]) && bytes >= 1024; u++)
		bytes >>= 10;
	snprintf(text, 32, "%llu %s", (unsigned long long)bytes, units[u]);
	return text;
}

/* What it says of itself, used or not. */
static struct link_rdma_can abilities(struct doctor *d, const char *name)
{
	struct link_rdma_can can[DEVICES];
	unsigned n = link_rdma_probe(can, DEVICES);
	char text[32];

	for (unsigned i = 0; i < n; i++) {
		if (strcmp(can[i].device, name) != 0)
			continue;
		doctor_row(d, DOCTOR_NOTE, name, NULL,
			"registers regions of up to %s, %u of them; %u queue pairs, %u "
			"requests each; pages on demand: %s",
			size(can[i].most_mr_bytes, text), can[i].most_mrs, can[i].most_queues,
			can[i].most_requests, can[i].odp ? "yes" : "no");
		return can[i];
	}
	return (struct link_rdma_can){0};
}

static void device(struct doctor *d, const char *name)
{
	long long type = sysfs_number(0, "%s/class/infiniband/%s/node_type", d->sys, name);
	long long node = sysfs_number(-1, "%s/class/infiniband/%s/device/numa_node", d->sys, name);
	struct link_rdma_can can;
	char **ports;
	unsigned n;

	if (type != NODE_TYPE_CA) {
		doctor_row(d, DOCTOR_NOTE, name, NULL,
			"an RDMA device that is neither InfiniBand nor RoCE (iWARP has no writes "
			"with immediate data): the rdma link can't use it");
		return;
	}
	if (node >= 0)
		doctor_row(d, DOCTOR_NOTE, name, NULL, "on NUMA node %lld", node);
	can = abilities(d, name);
	n = sysfs_names(&ports, "%s/class/infiniband/%s/ports", d->sys, name);
	for (unsigned i = 0; i < n; i++) {
		unsigned at = (unsigned)strtoul(ports[i], NULL, 10) - 1;

		port(d, name, ports[i], at < LINK_RDMA_PORTS ? can.mtu[at] : 0);
	}
	sysfs_names_free(ports, n);
}

/* Of this shell; a service has its own. */
static void locked(struct doctor *d)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY ||
		limit.rlim_cur >= LOCKED_LEAST)
		return;
	doctor_row(d, DOCTOR_ADVICE, "locked memory",
		"LimitMEMLOCK=infinity for the service, or ulimit -l unlimited",
		"%llu KiB for programs started here; each flow locks some 4 MiB, and a target on a "
		"trusted fabric at least 4 windows of the guest, of 4 MiB or a huge page each",
		(unsigned long long)limit.rlim_cur >> 10);
}

static void in_use(struct doctor *d)
{
	const json_t *has = json_object_get(d->daemon, "rdma");

	if (d->daemon == NULL)
		return;
	if (!json_is_object(has)) {
		doctor_row(d, DOCTOR_ADVICE, "godwitd", "godwitd --rdma ADDRESS of the device",
			"has no RDMA device: --link rdma is not there");
		return;
	}
	doctor_row(d, DOCTOR_GOOD, "godwitd", NULL,
		"%s at %s port %lld, packets of %lld bytes%s, fabric %s",
		report_text(has, "device"), report_text(has, "address"),
		(long long)json_integer_value(json_object_get(has, "port")),
		(long long)json_integer_value(json_object_get(has, "mtu")),
		json_is_true(json_object_get(has, "odp")) ? ", pages on demand" : "",
		json_is_true(json_object_get(has, "trusted")) ? "trusted" : "untrusted");
}

void doctor_rdma(struct doctor *d)
{
	char **names;
	unsigned n = sysfs_names(&names, "%s/class/infiniband", d->sys);

	for (unsigned i = 0; i < n; i++)
		device(d, names[i]);
	sysfs_names_free(names, n);
	if (n == 0) {
		doctor_row(d, DOCTOR_NOTE, "devices", NULL, "no RDMA device");
		return;
	}
	if (sysfs_number(-1, "%s/class/infiniband_cm/abi_version", d->sys) < 0 &&
		sysfs_number(-1, "%s/class/misc/rdma_cm/abi_version", d->sys) < 0)
		doctor_row(d, DOCTOR_PROBLEM, "rdma_cm", "modprobe rdma_ucm",
			"the connection manager's module is not loaded: no --link rdma");
	locked(d);
	in_use(d);
}
