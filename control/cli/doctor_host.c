// SPDX-License-Identifier: BSD-3-Clause
// The doctor's checks of the daemon, the CPUs, the memory and the kernel of this host. Each reads,
// and changes nothing. Run by godwit's only thread.

#include "doctor.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cores.h"
#include "probe.h"
#include "report.h"
#include "sysfs.h"
#include "unit.h"

static void daemon_port(struct doctor *d, const json_t *port)
{
	const char *cure = NULL;
	enum doctor_verdict v = DOCTOR_GOOD;

	if (!json_is_true(json_object_get(port, "up"))) {
		v = DOCTOR_PROBLEM;
		cure = "look at the cable, the switch, or the device's other end";
	}
	doctor_row(d, v, report_text(port, "name"), cure, "port: %s", report_text(port, "about"));
}

void doctor_daemon(struct doctor *d)
{
	char cpus[CORES_TEXT] = "";
	json_t *ports, *cores, *item;
	cpu_set_t set;
	size_t i;

	if (d->daemon == NULL) {
		doctor_row(d, DOCTOR_ADVICE, "godwitd",
			"start it, or name its socket with --api; the rest holds without it",
			"does not run, or its API socket is another one");
		return;
	}
	CPU_ZERO(&set);
	cores = json_object_get(d->daemon, "cores");
	json_array_foreach(cores, i, item)
	{
		unsigned cpu = (unsigned)report_number(item, "cpu");

		if (cpu < CPU_SETSIZE)
			CPU_SET(cpu, &set);
	}
	cores_print(&set, cpus);
	doctor_row(d, DOCTOR_GOOD, "godwitd", NULL, "runs, version %s, pid %.0f, on %s; CPU %s; %s",
		report_text(d->daemon, "version"), report_number(d->daemon, "pid"),
		report_text(d->daemon, "listen"), cpus, report_text(d->daemon, "memory"));
	ports = json_object_get(d->daemon, "ports");
	if (json_array_size(ports) == 0)
		doctor_row(d, DOCTOR_NOTE, "ports", NULL,
			"none: pages go over kernel TCP; godwit.conf(5) tells how to give it one");
	json_array_foreach(ports, i, item)
	{
		daemon_port(d, item);
	}
}

/* CPUs that the scheduler leaves alone are the ones to poll on. */
static void isolation(struct doctor *d, const cpu_set_t *online)
{
	char list[CORES_TEXT], ticks[SYSFS_TEXT];
	cpu_set_t alone;

	sysfs_cpus(&alone, "%s/devices/system/cpu/isolated", d->sys);
	CPU_AND(&alone, &alone, online);
	if (CPU_COUNT(online) == 1) {
		doctor_row(d, DOCTOR_ADVICE, "isolated",
			"use idle = yield, and expect slow migrations",
			"one CPU: guests, VMMs and the data path share it");
		return;
	}
	if (CPU_COUNT(&alone) == 0) {
		doctor_row(d, DOCTOR_ADVICE, "isolated",
			"boot with isolcpus=LIST nohz_full=LIST rcu_nocbs=LIST for the CPUs that "
			"move pages, and keep guests off them",
			"no CPU is kept free of other work");
		return;
	}
	cores_print(&alone, list);
	sysfs_text(ticks, "%s/devices/system/cpu/nohz_full", d->sys);
	if (ticks[0] == '\0' || ticks[0] == '(')
		doctor_row(d, DOCTOR_ADVICE, "isolated",
			"add nohz_full= and rcu_nocbs= with the same list",
			"CPU %s; they still get timer ticks", list);
	else
		doctor_row(d, DOCTOR_GOOD, "isolated", NULL, "CPU %s, without ticks on %s", list,
			ticks);
}

static void governor(struct doctor *d, const cpu_set_t *online)
{
	char name[SYSFS_TEXT];
	unsigned slow = 0, known = 0;

	for (int i = 0; i < CPU_SETSIZE; i++) {
		if (!CPU_ISSET(i, online) ||
			sysfs_text(name, "%s/devices/system/cpu/cpu%d/cpufreq/scaling_governor",
				d->sys, i) < 0)
			continue;
		known++;
		slow += strcmp(name, "performance") != 0;
	}
	if (slow > 0)
		doctor_row(d, DOCTOR_ADVICE, "frequency",
			"cpupower frequency-set -g performance, for the CPUs that move pages",
			"%u of %u CPUs slow down when they are not busy", slow, known);
}

/* Flags of the first CPU in cpuinfo that the data path makes use of. */
static void flags(struct doctor *d)
{
	static const char *const wanted[] = {"avx2", "avx512bw", "vaes"};
	char path[SYSFS_TEXT], line[8192], text[SYSFS_TEXT] = "";
	size_t len = 0;
	FILE *f;

	snprintf(path, sizeof(path), "%s/cpuinfo", d->proc);
	f = fopen(path, "re");
	if (f == NULL)
		return;
	while (fgets(line, sizeof(line), f) != NULL) {
		if (strncmp(line, "flags", 5) != 0)
			continue;
		line[strcspn(line, "\n")] = ' ';
		for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
			char word[32];

			snprintf(word, sizeof(word), " %s ", wanted[i]);
			if (strstr(line, word) != NULL)
				len += (size_t)snprintf(
					text + len, sizeof(text) - len, " %s", wanted[i]);
		}
		break;
	}
	fclose(f);
	if (text[0] != '\0')
		doctor_row(d, DOCTOR_NOTE, "flags", NULL, "of use here:%s", text);
}

void doctor_cores(struct doctor *d)
{
	char **nodes, list[SYSFS_TEXT];
	cpu_set_t online;
	unsigned n;

	sysfs_cpus(&online, "%s/devices/system/cpu/online", d->sys);
	n = sysfs_names(&nodes, "%s/devices/system/node", d->sys);
	for (unsigned i = 0; i < n; i++)
		if (strncmp(nodes[i], "node", 4) == 0 &&
			sysfs_text(list, "%s/devices/system/node/%s/cpulist", d->sys, nodes[i]) ==
				0)
			doctor_row(d, DOCTOR_NOTE, nodes[i], NULL, "CPU %s",
				list[0] ? list : "none, only memory");
	sysfs_names_free(nodes, n);
	isolation(d, &online);
	governor(d, &online);
	flags(d);
}

/* Huge pages of one size on one node. */
static void huge(struct doctor *d, const char *node, const char *kind)
{
	long long all = sysfs_number(-1, "%s/devices/system/node/%s/hugepages/%s/nr_hugepages",
			  d->sys, node, kind),
		  idle = sysfs_number(0, "%s/devices/system/node/%s/hugepages/%s/free_hugepages",
			  d->sys, node, kind);
	unsigned long long kib = 0;
	char size[UNIT_TEXT];

	if (all < 0 || sscanf(kind, "hugepages-%llukB", &kib) != 1)
		return;
	unit_put_bytes(kib << 10, size);
	if (all == 0 && kib == 2048)
		doctor_row(d, DOCTOR_ADVICE, node,
			"reserve some for godwitd (its `memory`) and the guests: nr_hugepages of "
			"this node",
			"no huge pages of %s", size);
	else if (all > 0)
		doctor_row(d, idle > 0 ? DOCTOR_GOOD : DOCTOR_NOTE, node, NULL,
			"%lld of %lld huge pages of %s are free", idle, all, size);
}

void doctor_memory(struct doctor *d)
{
	char **nodes, **kinds;
	unsigned n = sysfs_names(&nodes, "%s/devices/system/node", d->sys);

	for (unsigned i = 0; i < n; i++) {
		unsigned nkinds = sysfs_names(
			&kinds, "%s/devices/system/node/%s/hugepages", d->sys, nodes[i]);

		for (unsigned k = 0; k < nkinds; k++)
			huge(d, nodes[i], kinds[k]);
		sysfs_names_free(kinds, nkinds);
	}
	sysfs_names_free(nodes, n);
}

static void kvm(struct doctor *d)
{
	struct probe_kvm p;
	int rc = probe_kvm(&p);

	if (rc == -ENOTTY) {
		doctor_row(d, DOCTOR_PROBLEM, "KVM", "make the host's own /dev/kvm visible here",
			"/dev/kvm is not KVM: another file lies over it");
		return;
	}
	if (rc < 0) {
		doctor_row(d, DOCTOR_PROBLEM, "KVM",
			rc == -EACCES
				? "add this user to the group of /dev/kvm"
				: "load kvm_intel or kvm_amd, and switch virtualisation on in "
				  "the firmware",
			"/dev/kvm can't be opened: %s", strerror(-rc));
		return;
	}
	if (p.manual_protect == 0)
		doctor_row(d, DOCTOR_ADVICE, "KVM", "Linux 5.7 or newer",
			"no manual dirty-log protection: every look re-protects all memory");
	else
		doctor_row(d, DOCTOR_GOOD, "KVM", NULL,
			"dirty log with manual protection (%d)%s; %d slots a guest",
			p.manual_protect, p.ring_bytes > 0 ? ", dirty ring" : "", p.memslots);
}

void doctor_kernel(struct doctor *d)
{
	int rc;

	kvm(d);
	rc = probe_uffd();
	if (rc == 0)
		doctor_row(d, DOCTOR_GOOD, "userfaultfd", NULL,
			"asynchronous write protection, huge pages too");
	else
		doctor_row(d, DOCTOR_ADVICE, "userfaultfd",
			rc == -EPERM ? "set vm.unprivileged_userfaultfd, or give the VMM access to "
				       "/dev/userfaultfd"
				     : "Linux 6.7 or newer, where writers other than KVM's vCPUs "
				       "are to be seen",
			"can't be used: %s", strerror(-rc));
	rc = probe_pagemap();
	if (rc == 0)
		doctor_row(d, DOCTOR_GOOD, "PAGEMAP_SCAN", NULL, "is there");
	else
		doctor_row(d, DOCTOR_ADVICE, "PAGEMAP_SCAN", "Linux 6.7 or newer",
			"can't be used: %s", strerror(-rc));
}
