// SPDX-License-Identifier: BSD-3-Clause
// Starts DPDK's EAL: worker lcores on the CPUs asked for, memory on huge pages where there are
// some. Run once, by the thread that then runs the control loop.
//
// The main lcore does no work, so it may float over all CPUs that the process may use.

#include "lcore.h"

#include "cpulist.h"
#include "eal_sweep.h"
#include "lcore_main.h"
#include "plant.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_log.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EAL_MEM_MB 64u
#define EAL_ARGS   (20u + 2 * EAL_PCI)

static bool started;    // EAL starts once a process
static bool own_folder; // its runtime folder is this process's alone

// Free huge pages of 2 MiB, by the kernel's word: they must hold all of it.
static bool huge_free(unsigned mem_mb, unsigned long *pages)
{
	FILE *f = fopen("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "re");

	*pages = 0;
	if (f == NULL)
		return false;
	if (fscanf(f, "%lu", pages) != 1)
		*pages = 0;
	fclose(f);
	return *pages >= (mem_mb + 1) / 2;
}

// "0@(0,1),1@1,2@0": lcore 0 floats over all, workers are pinned.
static char *lcore_map(const cpu_set_t *all, const unsigned *cpu, unsigned n)
{
	char *text = NULL;
	size_t bytes;
	FILE *f = open_memstream(&text, &bytes);
	const char *comma = "";

	if (f == NULL)
		return NULL;
	fputs("--lcores=0@(", f);
	for (unsigned i = 0; i < CPU_SETSIZE; i++)
		if (CPU_ISSET(i, all)) {
			fprintf(f, "%s%u", comma, i);
			comma = ",";
		}
	fputs(")", f);
	for (unsigned i = 0; i < n; i++)
		fprintf(f, ",%u@%u", i + 1, cpu[i]);
	return fclose(f) == 0 ? text : NULL;
}

static int choose_memory(
	const struct eal_config *c, unsigned mem_mb, struct eal_info *info, struct err *e)
{
	unsigned long pages;

	info->huge = huge_free(mem_mb, &pages) && !c->no_huge;
	if (!info->huge && c->huge && !plant(PLANT_LAW8_NOT_HUGE))
		return err_set(e, ENOMEM,
			"huge pages were asked for, but only %lu of 2 MiB are free and %u are "
			"needed: write more to /proc/sys/vm/nr_hugepages, or do not ask for them",
			pages, (mem_mb + 1) / 2);
	info->page_bytes = info->huge ? 2u << 20 : 4096;
	if (info->huge)
		snprintf(info->chose, sizeof(info->chose),
			"%u MiB on huge pages of 2 MiB (%lu were free)", mem_mb, pages);
	else
		snprintf(info->chose, sizeof(info->chose),
			"%u MiB on pages of 4 KiB (%lu huge pages were free, %u are needed)",
			mem_mb, pages, (mem_mb + 1) / 2);
	return 0;
}

static const char *prefix_of(const struct eal_config *c)
{
	return c->prefix != NULL ? c->prefix : "godwit";
}

static int init(char *lcores, const struct eal_config *c, unsigned mem_mb, bool huge)
{
	char mem[16], prefix[64];
	char *argv[EAL_ARGS];
	int argc = 0;

	snprintf(mem, sizeof(mem), "%u", mem_mb);
	// All share the one folder that EAL makes under this name, as none keeps anything there; a
	// socket of telemetry is kept there.
	snprintf(prefix, sizeof(prefix), "--file-prefix=%s", prefix_of(c));
	if (c->telemetry)
		snprintf(prefix + strlen(prefix), sizeof(prefix) - strlen(prefix), "-%d",
			(int)getpid());
	argv[argc++] = (char *)"godwit";
	argv[argc++] = lcores;
	argv[argc++] = (char *)"--main-lcore=0";
	for (unsigned i = 0; c->pci != NULL && c->pci[i] != NULL && i < EAL_PCI; i++) {
		argv[argc++] = (char *)"-a";
		argv[argc++] = (char *)c->pci[i];
	}
	if (c->pci == NULL || c->pci[0] == NULL)
		argv[argc++] = (char *)"--no-pci";
	argv[argc++] = (char *)"--iova-mode=va";
	if (!c->telemetry)
		argv[argc++] = (char *)"--no-telemetry";
	argv[argc++] = (char *)"--log-level=*:error";
	// Nothing is left behind in a file system, however this process ends.
	argv[argc++] = huge ? (char *)"--in-memory" : (char *)"--no-huge";
	// Huge: virtio_user shares EAL's memory with its other side, one file at a time.
	argv[argc++] = huge ? (char *)"--single-file-segments" : (char *)"--no-shconf";
	argv[argc++] = prefix;
	argv[argc++] = (char *)"-m";
	argv[argc++] = mem;
	argv[argc] = NULL;
	return rte_eal_init(argc, argv) < 0 ? -rte_errno : 0;
}

// Folders of their own that killed processes left beside ours.
static void sweep_runtime_dirs(const char *prefix)
{
	const char *path = rte_eal_get_runtime_dir();
	_cleanup_(free_ptr) char *base = path != NULL ? strdup(path) : NULL;
	char *slash = base != NULL ? strrchr(base, '/') : NULL;

	if (slash == NULL)
		return;
	*slash = '\0';
	(void)eal_sweep(base, prefix);
}

int eal_start(const struct eal_config *c, struct eal_info *info, struct err *e)
{
	unsigned mem_mb = c->mem_mb > 0 ? c->mem_mb : EAL_MEM_MB;
	_cleanup_(free_ptr) char *lcores = NULL;
	unsigned cpu[CPULIST_MAX];
	cpu_set_t all;
	int n, rc;

	memset(info, 0, sizeof(*info));
	if (started)
		return err_set(e, EALREADY, "DPDK's EAL was started before in this process");
	n = cpulist_parse(c->cores, cpu, e);
	if (n < 0)
		return n;
	rc = choose_memory(c, mem_mb, info, e);
	if (rc < 0)
		return rc;
	pthread_getaffinity_np(pthread_self(), sizeof(all), &all);
	lcores = lcore_map(&all, cpu, (unsigned)n);
	if (lcores == NULL)
		return err_set(e, ENOMEM, "no memory to start DPDK's EAL");
	started = true;
	own_folder = c->telemetry;
	rc = init(lcores, c, mem_mb, info->huge);
	pthread_setaffinity_np(pthread_self(), sizeof(all), &all);
	if (rc < 0)
		return err_sys(e, -rc,
			"DPDK's EAL does not start on cores %s with %s; see its lines above",
			c->cores, info->chose);
	rc = lcore_setup(cpu, (unsigned)n, c->idle, e);
	if (rc < 0) {
		rte_eal_cleanup();
		return rc;
	}
	info->nlcores = (unsigned)n;
	sweep_runtime_dirs(prefix_of(c));
	return 0;
}

// A folder that others share stays while one of them has something there.
static void remove_runtime_dir(void)
{
	const char *path = rte_eal_get_runtime_dir();

	if (path != NULL && own_folder)
		(void)eal_sweep_one(AT_FDCWD, path);
	else if (path != NULL)
		(void)rmdir(path);
}

// Not rte_eal_cleanup(): it unmaps EAL's memory under the interrupt thread, which still looks at
// the handles there of devices that have just gone (DPDK 22.11; one end in twelve with net_memif
// was a SIGSEGV). The process ends, and its memory with it.
void eal_stop(void)
{
	if (lcore_count() == 0)
		return;
	lcore_teardown();
	remove_runtime_dir();
}
