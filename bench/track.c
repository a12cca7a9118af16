// SPDX-License-Identifier: BSD-3-Clause
// Times attaching to a process, and the passes of its dirty source: the first look (all that is
// populated is reported), the arming of all of it, and the look at what nobody writes.

#include "track.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "attach.h"
#include "clock.h"
#include "map.h"
#include "source.h"

struct times {
	uint64_t stopped_ns, first_ns, arm_ns, idle_ns;
	int64_t pages, idle_pages;
};

static int pass(struct source *s, const struct region_map *map, struct times *t, struct err *e)
{
	uint64_t *words = map_lazy(map->nchunks * 8);
	uint64_t *out = map_lazy(map->nchunks * 8);
	uint64_t at = clock_ns();
	int64_t rc = words != NULL && out != NULL ? 0 : err_set(e, ENOMEM, "out of memory");

	if (rc == 0)
		rc = t->pages = s->ops->look(s, words, false, e);
	t->first_ns = clock_ns() - at;
	at = clock_ns();
	if (rc >= 0)
		rc = s->ops->arm(s, 0, map->nchunks, words, out, e);
	t->arm_ns = clock_ns() - at;
	at = clock_ns();
	if (rc >= 0)
		rc = t->idle_pages = s->ops->look(s, out, false, e);
	t->idle_ns = clock_ns() - at;
	map_free(words, map->nchunks * 8);
	map_free(out, map->nchunks * 8);
	return rc < 0 ? (int)rc : 0;
}

static int track(pid_t pid, int pidfd, const struct attach_file *f, struct region_map *map,
	struct times *t, struct err *e)
{
	struct source_config c = {.map = map, .vm_fd = -1};
	struct source *s = NULL;
	int rc = attach_open(&c.attach, NULL, pid, pidfd, f->ram, f->n, e);

	if (rc == 0) {
		t->stopped_ns = attach_stopped_ns(c.attach);
		rc = source_pagemap_scan.open(&s, &c, e);
	}
	if (rc == 0)
		rc = s->ops->start(s, e);
	if (rc == 0)
		rc = pass(s, map, t, e);
	source_pagemap_scan.close(s);
	attach_close(c.attach);
	return rc;
}

static void print(const struct times *t, unsigned round, bool json)
{
	printf(json ? "{\"stage\": \"attach\", \"round\": %u, \"stopped_us\": %.1f, "
		      "\"first_look_us\": %.1f, \"arm_us\": %.1f, \"idle_look_us\": %.1f, "
		      "\"pages\": %lld, \"idle_pages\": %lld}\n"
		    : "round %u: stopped for %.1f us; first look %.1f us, armed in %.1f us, idle "
		      "look %.1f us; %lld pages, %lld reported of idle memory\n",
		round, (double)t->stopped_ns / 1e3, (double)t->first_ns / 1e3,
		(double)t->arm_ns / 1e3, (double)t->idle_ns / 1e3, (long long)t->pages,
		(long long)t->idle_pages);
	fflush(stdout);
}

int track_bench(pid_t pid, const char *path, unsigned rounds, bool json)
{
	static struct region_map map;
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct attach_file f;
	struct err e = {0};
	int fd = -1, rc;

	rc = pidfd < 0 ? err_sys(&e, errno, "process %d", (int)pid)
		       : attach_find_ram(pid, path, &f, &e);
	if (rc == 0)
		rc = fd = attach_open_file(NULL, pid, &f, &e);
	if (rc >= 0)
		rc = region_add(&map, "ram", fd, f.bytes, f.page_bytes, &e);
	for (unsigned round = 0; rc >= 0 && round < rounds; round++) {
		struct times t = {0};

		rc = track(pid, pidfd, &f, &map, &t, &e);
		if (rc == 0)
			print(&t, round, json);
	}
	if (rc < 0)
		fprintf(stderr, "godwit-bench: %s\n", e.text);
	close_fd(&fd);
	close_fd(&pidfd);
	return rc < 0;
}
