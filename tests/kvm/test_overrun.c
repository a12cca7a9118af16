// SPDX-License-Identifier: BSD-3-Clause
// A guest that dirties more pages in one go than its ring holds. Kernels that stop it in time lose
// nothing; kernels that stop it late lose entries, and then all of memory must be reported: no page
// may be missed, either way, and the guest must go on afterwards.

#include "bits.h"
#include "guest32.h"
#include "kvm_ring.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGES      (16u << 10)
#define GPA        0x10000000u
#define RING_BYTES (1024u * (uint32_t)sizeof(uint64_t) * 2)

static struct region_map map;
static struct guest32 *guest;
static struct source *source;
static struct ring_vcpus vcpus = {.ring_bytes = RING_BYTES, .n = 1};
static uint64_t out[PAGES / 64];
static unsigned long full;

static void must(bool ok, const char *what, const struct err *e)
{
	if (!ok) {
		printf("FAILED: %s%s%s\n", what, e != NULL ? ": " : "", e != NULL ? e->text : "");
		exit(1);
	}
}

static void on_full(void *arg)
{
	(void)arg;
	full++;
	must(kvm_ring_full(source, 0) == 0, "making room", NULL);
}

static int open_all(struct err *e)
{
	struct source_config c = {.map = &map, .vcpus = &vcpus};
	struct view v = {GPA, 0, PAGES * PAGE_BYTES, 1, 0};
	int fd = memfd_create("ram", MFD_CLOEXEC), rc;

	must(fd >= 0 && ftruncate(fd, PAGES * PAGE_BYTES) == 0, "memfd", NULL);
	must(region_add(&map, "ram", fd, PAGES * PAGE_BYTES, 4096, e) == 0, "region", e);
	must(region_mmap(&map.r[0], true, e) == 0, "map", e);
	must(region_add_view(&map.r[0], &v, e) == 0, "view", e);
	memset(map.r[0].base, 0, PAGES * PAGE_BYTES); /* first touch is slow under emulation */
	rc = guest32_open(&guest, &map, RING_BYTES, e);
	if (rc != 0)
		return rc;
	c.vm_fd = guest32_vm_fd(guest);
	vcpus.fd[0] = guest32_vcpu_fd(guest);
	guest32_on_full(guest, on_full, NULL);
	rc = source_kvm_ring.open(&source, &c, e);
	return rc == -ENOSYS ? 1 : rc;
}

static void look(void)
{
	struct err e = {0};

	memset(out, 0, sizeof(out));
	must(source->ops->look(source, out, false, &e) >= 0, "look", &e);
}

/* Writes pages [first, first + n), then looks and arms; every page written must be reported. */
static void round_of(uint32_t first, uint32_t n, uint32_t value)
{
	uint64_t before = kvm_ring_overruns(source);
	struct err e = {0};

	guest32_fill(guest, GPA + first * (uint32_t)PAGE_BYTES, value, n);
	look();
	for (uint32_t p = first; p < first + n; p++)
		must(bits_test(out, p), "a written page was not reported", NULL);
	printf("%u pages: %llu reported, %llu overruns, %lu times full\n", n,
		(unsigned long long)bits_count_range(out, 0, PAGES),
		(unsigned long long)(kvm_ring_overruns(source) - before), full);
	must(source->ops->arm(source, 0, PAGES / 64, out, out, &e) >= 0, "arm", &e);
}

int main(void)
{
	static const uint32_t sizes[] = {1, 100, 900, 1000, 1024, 1025, 1500, 2048, 3000, 3072,
		5000, 8192, 10000, 1, 64, 900, 12345, 16384, 1, 2, 3};
	struct err e = {0};
	uint32_t at = 0;
	int rc;

	setvbuf(stdout, NULL, _IOLBF, 0);
	rc = open_all(&e);

	if (rc > 0) {
		printf("%s\n", e.text);
		return 77;
	}
	must(rc == 0, "open", &e);
	must(source->ops->start(source, &e) == 0, "start", &e);
	for (unsigned lap = 1; lap <= 3; lap++)
		for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
			at = sizes[i] < PAGES ? (at + 977) % (PAGES - sizes[i]) : 0;
			round_of(at, sizes[i], lap * 100 + i);
			/* What an overrun forgot must be protected again, or this is not seen. */
			for (uint32_t done = 0; done < sizes[i]; done += 500)
				round_of(at + done, sizes[i] - done < 500 ? sizes[i] - done : 500,
					lap * 100 + i);
		}
	/* A quiet guest: what an overrun made dirty is armed, nothing comes back. */
	look();
	must(bits_count_range(out, 0, PAGES) == 0, "pages reported of a quiet guest", NULL);
	must(source->ops->stop(source, &e) == 0, "stop", &e);
	guest32_fill(guest, GPA, 7, PAGES); /* not logged: the ring must not stop it */
	must(source->ops->start(source, &e) == 0, "start again", &e);
	round_of(5, 700, 8);
	source->ops->close(source);
	guest32_close(guest);
	region_map_close(&map);
	return 0;
}
