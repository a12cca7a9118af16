// SPDX-License-Identifier: BSD-3-Clause
// The guest's RAM files. Run by the main thread at the start, then read by any.
// Invariants: pages beyond used_bytes are never touched; an incoming guest's files stay holes until
// its memory has come.

#include "memory.h"

#include <errno.h>
#include <linux/memfd.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define HUGE_BYTES (2u << 20)
#define FILL_PAGES IMAGE_BLOCK /* what a thread takes at a time */
#define FILL_MAX   16u

static const char *const file_names[LAYOUT_FILES] = {"godwit-ram", "godwit-bios"};

static uint64_t huge_free(void)
{
	unsigned long long n = 0;
	FILE *f = fopen("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "re");

	if (f != NULL) {
		if (fscanf(f, "%llu", &n) != 1)
			n = 0;
		fclose(f);
	}
	return n;
}

static int file_open(struct memory *m, unsigned i, bool huge, struct err *e)
{
	uint64_t bytes = m->lay.file_bytes[i];
	unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
	void *p;

	m->page_bytes[i] = huge ? HUGE_BYTES : 4096;
	m->fd[i] = memfd_create(file_names[i], flags | (huge ? MFD_HUGETLB | MFD_HUGE_2MB : 0u));
	if (m->fd[i] < 0)
		return err_sys(e, errno, "cannot make a memory file%s",
			huge ? " of 2 MiB huge pages; leave out --hugepages" : "");
	if (ftruncate(m->fd[i], (off_t)bytes) < 0)
		return err_sys(e, errno,
			"cannot size a memory file to %llu bytes; try a smaller --memory",
			(unsigned long long)bytes);
	// Huge pages are reserved here, so that too few of them is an error now and no SIGBUS
	// later.
	p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | (huge ? 0 : MAP_NORESERVE),
		m->fd[i], 0);
	if (p == MAP_FAILED && huge)
		return err_set(e, ENOMEM,
			"%llu huge pages of 2 MiB are needed, %llu are free: write a number to "
			"/proc/sys/vm/nr_hugepages, or leave out --hugepages",
			(unsigned long long)(bytes / HUGE_BYTES), (unsigned long long)huge_free());
	if (p == MAP_FAILED)
		return err_sys(e, errno,
			"cannot map %llu bytes of guest memory; try a smaller --memory",
			(unsigned long long)bytes);
	m->base[i] = p;
	return 0;
}

int memory_open(struct memory *m, const struct layout *l, bool huge, struct err *e)
{
	memset(m, 0, sizeof(*m));
	m->lay = *l;
	for (unsigned i = 0; i < LAYOUT_FILES; i++)
		m->fd[i] = -1;
	for (unsigned i = 0; i < LAYOUT_FILES; i++) {
		int rc = file_open(m, i, huge && i == LAYOUT_RAM, e);

		if (rc < 0) {
			memory_close(m);
			return rc;
		}
	}
	return 0;
}

void memory_close(struct memory *m)
{
	for (unsigned i = 0; i < LAYOUT_FILES; i++) {
		if (m->base[i] != NULL)
			munmap(m->base[i], m->lay.file_bytes[i]);
		m->base[i] = NULL;
		close_fd(&m->fd[i]);
	}
}

void *memory_at(const struct memory *m, uint64_t gpa)
{
	unsigned file;
	uint64_t offset;

	if (layout_find(&m->lay, gpa, &file, &offset) < 0)
		return NULL;
	return m->base[file] + offset;
}

static uint64_t available_bytes(void)
{
	FILE *f = fopen("/proc/meminfo", "re");
	unsigned long long kib = UINT64_MAX >> 10;
	char line[128];

	while (f != NULL && fgets(line, sizeof(line), f) != NULL)
		if (sscanf(line, "MemAvailable: %llu", &kib) == 1)
			break;
	if (f != NULL)
		fclose(f);
	return (uint64_t)kib << 10;
}

int memory_enough(const struct memory *m, const struct image *im, struct err *e)
{
	uint64_t need = m->lay.used_bytes / 100 * im->populate, have = available_bytes();

	if (m->page_bytes[LAYOUT_RAM] != GUEST_PAGE || need <= have)
		return 0;
	return err_set(e, ENOMEM,
		"the guest begins with %llu MiB of memory, and this host has %llu MiB left; try a "
		"smaller --memory, or --populate",
		(unsigned long long)(need >> 20), (unsigned long long)(have >> 20));
}

// Signals are blocked until the guest runs: one that ends the program is looked for.
static bool told_to_end(void)
{
	sigset_t set;

	return sigpending(&set) == 0 &&
	       (sigismember(&set, SIGTERM) == 1 || sigismember(&set, SIGINT) == 1);
}

struct fill {
	struct memory *m;
	const struct image *im;
	uint64_t next; /* block; taken atomically */
};

// Fills image blocks until none is left, or the program is to end.
static void *fill_thread(void *arg)
{
	struct fill *f = arg;
	const struct layout *l = &f->m->lay;
	uint64_t begin = l->work_offset / GUEST_PAGE, end = l->used_bytes / GUEST_PAGE;

	for (;;) {
		uint64_t b = __atomic_fetch_add(&f->next, 1, __ATOMIC_RELAXED);
		uint64_t first = b * FILL_PAGES, last = first + FILL_PAGES;

		if (first >= end || told_to_end())
			return NULL;
		first = first < begin ? begin : first;
		last = last > end ? end : last;
		if (first < last)
			image_fill(f->im, first, last - first,
				f->m->base[LAYOUT_RAM] + first * GUEST_PAGE);
	}
}

int memory_fill(struct memory *m, const struct image *im, unsigned threads)
{
	struct fill f = {.m = m, .im = im};
	pthread_t t[FILL_MAX];
	unsigned n = 0;

	image_fill(im, m->lay.used_bytes / GUEST_PAGE, LAYOUT_BIOS_LAST, m->base[LAYOUT_BIOS]);
	while (n + 1 < threads && n < FILL_MAX && pthread_create(&t[n], NULL, fill_thread, &f) == 0)
		n++;
	fill_thread(&f);
	while (n > 0)
		pthread_join(t[--n], NULL);
	return told_to_end() ? -EINTR : 0;
}

void extent_init(struct extent *x, const struct memory *m, unsigned file)
{
	*x = (struct extent){.m = m, .file = file};
	if (m->page_bytes[file] != GUEST_PAGE)
		x->end = UINT64_MAX;
}

bool extent_has(struct extent *x, uint64_t offset)
{
	off_t at;

	if (offset >= x->start && offset < x->end)
		return true;
	if (offset < x->start && offset >= x->end)
		return false; // in the hole before the extent that was found last
	at = lseek(x->m->fd[x->file], (off_t)offset, SEEK_DATA);
	if (at < 0) {
		x->start = UINT64_MAX;
		x->end = offset;
		return false;
	}
	x->start = (uint64_t)at;
	if (x->start > offset) { // remember the hole: [end, start)
		x->end = offset;
		return false;
	}
	at = lseek(x->m->fd[x->file], (off_t)offset, SEEK_HOLE);
	x->end = at < 0 ? offset + GUEST_PAGE : (uint64_t)at;
	return true;
}
