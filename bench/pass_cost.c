// SPDX-License-Identifier: BSD-3-Clause
// What a pass costs the control side: a guest of 1 TiB nominal size of which the same random pages
// are dirty in each pass. Taking (look: the VMM's process), walking the set, finding holes and
// arming are printed apart, a pass without a dirty page beside them; the sum is CPU time. No page
// is read or sent.
//
// Who is asked for dirty pages is --source: vmm-writes, that is told them and costs least; or
// pagemap-scan, the kernel, over a sparse file in which only those pages are. They are written, and
// hold memory then: 4 KiB, and as much again for their page tables.
//
//   godwit-pass-cost [--source NAME] [--nominal GIB] [--json] [PASSES]

#include "pass.h"

#include "bits.h"
#include "clock.h"
#include "hole.h"
#include "map.h"
#include "source.h"
#include "vmm_writes.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static const struct source_ops *ops = &source_vmm_writes;
static uint64_t nominal = UINT64_C(1) << 40;
static bool json;

static struct guest {
	struct region_map map;
	struct dirty dirty;
	struct claim claim;
	struct source *source;
	struct pass p;
	uint64_t *planes;
	uint64_t *page; /* that are dirty, sorted */
	uint64_t n;
	bool looking;
	uint64_t arm_first[PASS_WINDOWS + 1], arm_n[PASS_WINDOWS + 1];
	unsigned head, tail;
	uint64_t look_ns, arm_ns;
} g;

static void must(bool ok, const char *what)
{
	if (!ok) {
		perror(what);
		exit(1);
	}
}

static void io_look(void *arg, bool last)
{
	(void)arg;
	(void)last;
	g.looking = true;
}

static void io_arm(void *arg, uint64_t first, uint64_t n)
{
	(void)arg;
	g.arm_first[g.tail % (PASS_WINDOWS + 1)] = first;
	g.arm_n[g.tail++ % (PASS_WINDOWS + 1)] = n;
}

static int io_populated(void *arg, struct region *r,
	int (*found)(void *found_arg, uint64_t offset, uint64_t bytes), void *found_arg,
	struct err *e)
{
	(void)arg;
	(void)e;
	if (r->fd >= 0)
		return hole_walk(r->fd, r->bytes, found, found_arg);
	for (uint64_t i = 0; i < g.n; i++)
		found(found_arg, g.page[i] << PAGE_SHIFT, PAGE_BYTES);
	return 0;
}

static const struct pass_io io = {.look = io_look, .arm = io_arm, .populated = io_populated};

static int by_number(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* Its RAM: none where the source does not look at it. */
static void open_ram(void)
{
	int fd = -1;
	struct err e;

	if (ops != &source_vmm_writes) {
		fd = memfd_create("ram", MFD_CLOEXEC);
		must(fd >= 0 && ftruncate(fd, (off_t)nominal) == 0, "ram");
	}
	must(region_add(&g.map, "ram", fd, nominal, 4096, &e) == 0, "region");
	if (fd < 0)
		return;
	g.map.r[0].base =
		mmap(NULL, nominal, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	must(g.map.r[0].base != MAP_FAILED, "ram");
}

static void write_pages(uint8_t value)
{
	for (uint64_t i = 0; i < g.n; i++)
		if (g.map.r[0].base != NULL)
			__atomic_store_n(g.map.r[0].base + (g.page[i] << PAGE_SHIFT), value,
				__ATOMIC_RELAXED);
		else
			vmm_writes_mark(g.source, g.page[i], 1);
}

static void open_guest(uint64_t n)
{
	struct source_config c = {.map = &g.map, .vm_fd = -1};
	uint64_t rng = 88172645463325252u;
	struct err e;
	int fd = memfd_create("planes", MFD_CLOEXEC);

	g.n = n;
	g.page = calloc(n + 1, sizeof(*g.page));
	must(g.page != NULL, "pages");
	for (uint64_t i = 0; i < n; i++) {
		rng ^= rng << 13, rng ^= rng >> 7, rng ^= rng << 17;
		g.page[i] = rng % (nominal >> PAGE_SHIFT);
	}
	qsort(g.page, n, sizeof(*g.page), by_number);
	region_map_init(&g.map);
	open_ram();
	must(fd >= 0 && ftruncate(fd, (off_t)(2 * g.map.nchunks * 8)) == 0, "planes");
	g.planes = mmap(NULL, 2 * g.map.nchunks * 8, PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_NORESERVE, fd, 0);
	must(g.planes != MAP_FAILED, "planes");
	must(dirty_init(&g.dirty, g.map.nchunks) == 0 && claim_init(&g.claim, 1) == 0 &&
			pass_init(&g.p, &g.map, &g.dirty, &g.claim, g.planes,
				g.planes + g.map.nchunks, fd, &io, NULL) == 0,
		"pass");
	if (ops->open(&g.source, &c, &e) < 0 || ops->start(g.source, &e) < 0) {
		fprintf(stderr, "%s\n", e.text);
		exit(1);
	}
}

static void close_guest(void)
{
	g.source->ops->close(g.source);
	close(g.p.planes_fd);
	pass_fini(&g.p);
	claim_fini(&g.claim);
	dirty_fini(&g.dirty);
	munmap(g.planes, 2 * g.map.nchunks * 8);
	region_map_close(&g.map);
	free(g.page);
}

/* The flows' part: all that is published counts as sent. */
static void drain(void)
{
	struct span s;

	while (claim_take(&g.claim, 0, &s))
		for (uint64_t c = s.chunk; c < s.chunk + s.nchunks; c++)
			g.dirty.taken[c] = 0;
}

static void answer(void)
{
	struct err e;
	uint64_t t0 = clock_ns();

	if (g.looking) {
		must(g.source->ops->look(g.source, g.planes, false, &e) >= 0, "look");
		g.looking = false;
		g.look_ns = clock_ns() - t0;
		pass_looked(&g.p, 0, NULL);
	} else if (g.head != g.tail) {
		unsigned at = g.head++ % (PASS_WINDOWS + 1);
		uint64_t first = g.arm_first[at], n = g.arm_n[at];

		must(g.source->ops->arm(g.source, first, n, g.planes + g.map.nchunks + first,
			     g.planes + first, &e) >= 0,
			"arm");
		g.arm_ns += clock_ns() - t0;
		pass_armed(&g.p, first, n, 0, NULL);
	}
}

/* What this thread took, whatever else ran on its CPU: nothing in a pass waits. */
static uint64_t cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static uint64_t run_pass(uint32_t number)
{
	uint64_t t0 = cpu_ns();

	g.arm_ns = 0;
	pass_begin(&g.p, number, PASS_LIVE);
	answer();
	pass_go(&g.p);
	while (g.p.state == PASS_RUNNING) {
		answer();
		drain();
		pass_poll(&g.p);
	}
	must(g.p.state == PASS_PUBLISHED, "pass");
	drain();
	pass_close(&g.p);
	return cpu_ns() - t0;
}

static double ms(uint64_t ns)
{
	return (double)ns / 1e6;
}

static void row(uint64_t n, uint64_t total)
{
	const struct pass_facts *f = &g.p.facts;

	if (json) {
		printf("{\"source\": \"%s\", \"nominal_gib\": %llu, \"dirty\": %llu, \"look_ms\": "
		       "%.3f, \"walk_ms\": %.3f, \"hole_ms\": %.3f, \"arm_ms\": %.3f, \"cpu_ms\": "
		       "%.3f}\n",
			ops->name, (unsigned long long)nominal >> 30, (unsigned long long)n,
			ms(g.look_ns), ms(f->walk_ns), ms(f->hole_ns), ms(g.arm_ns), ms(total));
		return;
	}
	printf("%10llu %9.2f %9.2f %9.2f %9.2f %9.2f %9.1f\n", (unsigned long long)n, ms(g.look_ns),
		ms(f->walk_ns), ms(f->hole_ns), ms(g.arm_ns), ms(total),
		n > 0 ? (double)total / (double)n : 0);
}

/* One page in `share` is dirty. */
static void measure(uint64_t share, unsigned passes)
{
	uint64_t total = 0;

	open_guest((nominal >> PAGE_SHIFT) / share);
	for (uint32_t p = 0; p < passes; p++) {
		write_pages((uint8_t)(p + 1));
		total = run_pass(p);
	}
	row(g.p.facts.dirty_pages, total);
	if (share == 1000) { /* 0.1 %: and nothing dirty any more */
		total = run_pass(passes);
		row(0, total);
	}
	close_guest();
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"source", required_argument, NULL, 's'},
		{"nominal", required_argument, NULL, 'n'}, {"json", no_argument, NULL, 'j'},
		{NULL, 0, NULL, 0}};
	unsigned passes = 5;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 's')
			ops = source_find(optarg);
		else if (c == 'n')
			nominal = strtoull(optarg, NULL, 10) << 30;
		else if (c == 'j')
			json = true;
		if (c == '?' || nominal == 0 ||
			(ops != &source_vmm_writes && ops != &source_pagemap_scan)) {
			fprintf(stderr,
				"usage: godwit-pass-cost [--source vmm-writes|pagemap-scan] "
				"[--nominal GIB] [--json] [PASSES]\n");
			return 2;
		}
	}
	if (optind < argc)
		passes = (unsigned)atoi(argv[optind]);
	if (!json) {
		printf("%s, %llu GiB nominal; ms of the last of %u passes\n", ops->name,
			(unsigned long long)nominal >> 30, passes);
		printf("%10s %9s %9s %9s %9s %9s %9s\n", "dirty", "taking", "walking", "holes",
			"arming", "CPU", "ns/page");
	}
	for (uint64_t share = 16000; share >= 250; share /= 2)
		measure(share, passes);
	return 0;
}
