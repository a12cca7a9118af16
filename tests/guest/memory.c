// SPDX-License-Identifier: BSD-3-Clause
// Memory that is written and checked. Every page holds its number, a count of its writes, and words
// that follow from both; the counts stand in a second place too, so that a page that is whole but
// old is noticed as well as one that is torn. A slice belongs to one thread, which alone touches
// it.

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "checker.h"

#define SLICES_MAX  64u
#define WORDS       (PAGE_BYTES / 8u)
#define TICK_MS     10u
#define SWEEP_TICKS 200u  // in which all pages are checked
#define BURST_PAGES 4096u // at most a tick, after a long pause of the guest

struct slice {
	unsigned number;
	uint64_t *words;
	uint32_t *counts; // what each page's count has to be
	uint64_t pages;
	uint64_t next; // to be checked
	uint64_t random;
	_Atomic uint64_t written, checked;
	_Atomic uint64_t sweeps_done; // that were asked for by memory_check()
};

static struct slice slices[SLICES_MAX];
static _Atomic unsigned slices_n;
static _Atomic unsigned rate;
static _Atomic uint64_t sweeps_asked;

static uint64_t seed_of(const struct slice *s, uint64_t page, uint64_t count)
{
	return mix((uint64_t)s->number << 56 ^ page << 24 ^ count);
}

// A third of the pages random, a third that compresses, a third of almost one word.
static uint64_t mask_of(uint64_t page)
{
	static const uint64_t masks[] = {~0ull, 0x1f1f1f1f1f1f1f1full, 0x0000000100000000ull};

	return masks[page % 3];
}

static void page_write(struct slice *s, uint64_t page)
{
	uint64_t *w = s->words + page * WORDS;
	uint64_t count = ++s->counts[page];
	uint64_t x = seed_of(s, page, count), mask = mask_of(page);

	w[0] = page;
	w[1] = count;
	for (unsigned i = 2; i < WORDS; i++) {
		x = x * 6364136223846793005u + 1442695040888963407u;
		w[i] = x & mask;
	}
}

static void page_check(struct slice *s, uint64_t page)
{
	const uint64_t *w = s->words + page * WORDS;
	uint64_t count = s->counts[page];
	uint64_t x = seed_of(s, page, count), mask = mask_of(page);

	if (w[0] != page || w[1] != count) {
		console_error("memory: slice %u page %llu at %p holds page %llu of write %llu, "
			      "and its last write was %llu",
			s->number, (unsigned long long)page, (const void *)w,
			(unsigned long long)w[0], (unsigned long long)w[1],
			(unsigned long long)count);
		return;
	}
	for (unsigned i = 2; i < WORDS; i++) {
		x = x * 6364136223846793005u + 1442695040888963407u;
		if (w[i] != (x & mask)) {
			console_error("memory: slice %u page %llu at %p of write %llu is torn: "
				      "word %u is %016llx, not %016llx",
				s->number, (unsigned long long)page, (const void *)w,
				(unsigned long long)count, i, (unsigned long long)w[i],
				(unsigned long long)(x & mask));
			return;
		}
	}
}

static void check_some(struct slice *s, uint64_t pages)
{
	for (uint64_t i = 0; i < pages; i++) {
		page_check(s, s->next);
		s->next = s->next + 1 < s->pages ? s->next + 1 : 0;
	}
	atomic_fetch_add(&s->checked, pages);
}

static void write_some(struct slice *s, uint64_t pages)
{
	for (uint64_t i = 0; i < pages; i++) {
		s->random = mix(s->random);
		page_write(s, s->random % s->pages);
	}
	atomic_fetch_add(&s->written, pages);
}

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void *work(void *arg)
{
	struct slice *s = arg;
	double last = now_s(), due = 0;

	for (;;) {
		uint64_t asked = atomic_load(&sweeps_asked);
		double now = now_s();

		if (asked != atomic_load(&s->sweeps_done)) {
			check_some(s, s->pages);
			atomic_store(&s->sweeps_done, asked);
		}
		due += (now - last) * atomic_load(&rate) / atomic_load(&slices_n);
		last = now;
		if (due > BURST_PAGES)
			due = BURST_PAGES;
		write_some(s, (uint64_t)due);
		due -= (double)(uint64_t)due;
		check_some(s, s->pages / SWEEP_TICKS + 1);
		sleep_ms(TICK_MS);
	}
	return NULL;
}

static void slice_add(uint64_t bytes, bool in_file)
{
	unsigned n = atomic_load(&slices_n);
	struct slice *s = &slices[n];
	char name[32];
	int fd = -1;

	if (n == SLICES_MAX) {
		console_error("memory: too many slices");
		return;
	}
	if (in_file) {
		snprintf(name, sizeof(name), "/tmp/slice%u", n);
		fd = open(name, O_RDWR | O_CREAT, 0600);
		if (fd < 0 || ftruncate(fd, (off_t)bytes) != 0)
			console_error("memory: %s can't be made", name);
	}
	s->words = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		in_file ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS, fd, 0);
	s->pages = bytes / PAGE_BYTES;
	s->counts = calloc(s->pages, sizeof(*s->counts));
	if (s->words == MAP_FAILED || s->counts == NULL) {
		console_error("memory: no %llu bytes", (unsigned long long)bytes);
		return;
	}
	if (fd >= 0)
		close(fd);
	s->number = n;
	s->random = n;
	for (uint64_t page = 0; page < s->pages; page++)
		page_write(s, page);
	atomic_store(&s->sweeps_done, atomic_load(&sweeps_asked));
	atomic_store(&slices_n, n + 1);
	thread_start(work, s);
}

void memory_grow(unsigned mib)
{
	slice_add((uint64_t)mib << 19, false);
	slice_add((uint64_t)mib << 19, true);
}

void memory_rate(unsigned pages)
{
	atomic_store(&rate, pages);
}

uint64_t memory_check(void)
{
	uint64_t asked = atomic_fetch_add(&sweeps_asked, 1) + 1, pages = 0;

	for (unsigned i = 0; i < atomic_load(&slices_n); i++) {
		while (atomic_load(&slices[i].sweeps_done) != asked)
			sleep_ms(1);
		pages += slices[i].pages;
	}
	return pages;
}

uint64_t memory_written(void)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < atomic_load(&slices_n); i++)
		sum += atomic_load(&slices[i].written);
	return sum;
}

uint64_t memory_checked(void)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < atomic_load(&slices_n); i++)
		sum += atomic_load(&slices[i].checked);
	return sum;
}
