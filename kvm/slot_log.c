// SPDX-License-Identifier: BSD-3-Clause
// One slot's dirty log, with manual protect: get only reports, clear takes and re-protects. Run by
// the agent's thread in the VMM's process.
// Invariant (law 1): a bit is cleared in the kernel only while seen holds it, so a write that was
// not reported yet can't be lost. KVM wants a cleared range to begin at a multiple of 64 slot pages
// and to be one long, or to end where the slot ends; wider ranges are harmless, as the bitmap says
// which of their pages are meant.

#include "slot_log.h"

#include "bits.h"
#include "ioctl.h"
#include "map.h"
#include "memslot.h"
#include "plant.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>

/* Words that one clear call looks at. Each call costs the guest a TLB flush, words of zero cost
 * next to nothing; so groups of words are cleared together, and neighbours in one call. */
#define GROUP_WORDS 64u
#define BATCH_WORDS 8192u

int slot_log_init(struct slot_log *s, int vm_fd, const struct view *v)
{
	memset(s, 0, sizeof(*s));
	s->vm_fd = vm_fd;
	s->id = memslot_id(v);
	s->first_page = v->offset_bytes >> PAGE_SHIFT;
	s->npages = v->bytes >> PAGE_SHIFT;
	s->nwords = (s->npages + WORD_BITS - 1) / WORD_BITS;
	s->seen = map_lazy(s->nwords * sizeof(uint64_t));
	s->clear = calloc(BATCH_WORDS, sizeof(uint64_t));
	if (s->seen == NULL || s->clear == NULL) {
		slot_log_fini(s);
		return -ENOMEM;
	}
	return 0;
}

void slot_log_fini(struct slot_log *s)
{
	map_free(s->seen, s->nwords * sizeof(uint64_t));
	free(s->clear);
	s->seen = s->clear = NULL;
}

int slot_log_get(struct slot_log *s)
{
	struct kvm_dirty_log log = {.slot = s->id, .dirty_bitmap = s->seen};
	unsigned tail = s->npages % WORD_BITS;
	int rc = ioctl_ptr(s->vm_fd, KVM_GET_DIRTY_LOG, &log);

	if (tail != 0)
		s->seen[s->nwords - 1] &= bits_low(tail);
	return rc;
}

static int64_t show_word(uint64_t *words, uint64_t at, uint64_t bits)
{
	int64_t fresh;

	if (bits == 0)
		return 0;
	fresh = bits_count(bits & ~words[at]);
	words[at] |= bits;
	return fresh;
}

int64_t slot_log_show(const struct slot_log *s, uint64_t *words)
{
	uint64_t at = s->first_page / WORD_BITS;
	unsigned shift = s->first_page % WORD_BITS;
	int64_t fresh = 0;

	for (uint64_t i = 0; i < s->nwords; i++, at++) {
		uint64_t bits = s->seen[i];

		if (bits == 0)
			continue;
		fresh += show_word(words, at, bits << shift);
		if (shift != 0)
			fresh += show_word(words, at + 1, bits >> (WORD_BITS - shift));
	}
	return fresh;
}

/* What chunks [first, first + n) want of slot word i: two region words, shifted together. */
static uint64_t want_of(
	const struct slot_log *s, uint64_t i, uint64_t first, uint64_t n, const uint64_t *want)
{
	uint64_t at = s->first_page / WORD_BITS + i;
	unsigned shift = s->first_page % WORD_BITS;
	uint64_t bits = 0;

	if (at >= first && at - first < n)
		bits |= want[at - first] >> shift;
	if (shift != 0 && at + 1 >= first && at + 1 - first < n)
		bits |= want[at + 1 - first] << (WORD_BITS - shift);
	return bits;
}

struct batch {
	struct slot_log *s;
	uint64_t first; /* slot word that clear[0] is for; a multiple of GROUP_WORDS */
};

static int clear_run(void *arg, uint64_t group, uint64_t ngroups)
{
	struct batch *b = arg;
	struct slot_log *s = b->s;
	uint64_t word = b->first + group * GROUP_WORDS;
	uint64_t end = (word + ngroups * GROUP_WORDS) * WORD_BITS;
	struct kvm_clear_dirty_log log = {
		.slot = s->id,
		.first_page = word * WORD_BITS,
		.num_pages = (uint32_t)((end < s->npages ? end : s->npages) - word * WORD_BITS),
		.dirty_bitmap = s->clear + group * GROUP_WORDS,
	};
	int rc = ioctl_ptr(s->vm_fd, KVM_CLEAR_DIRTY_LOG, &log);

	if (rc < 0)
		return rc;
	for (uint64_t i = word; i < s->nwords && i < word + ngroups * GROUP_WORDS; i++)
		s->seen[i] &= ~s->clear[i - b->first];
	return 0;
}

/* Clears what is wanted of slot words [from, end). */
static int clear_batch(struct slot_log *s, uint64_t from, uint64_t end, uint64_t first, uint64_t n,
	const uint64_t *want)
{
	struct batch b = {s, from - from % GROUP_WORDS};
	uint64_t busy[BATCH_WORDS / GROUP_WORDS / 64] = {0};

	memset(s->clear, 0, BATCH_WORDS * sizeof(uint64_t));
	for (uint64_t i = from; i < end; i++) {
		uint64_t bits = s->seen[i] & want_of(s, i, first, n, want);

		if (plant(PLANT_LAW1_CLEAR_ALL_ONES) && want_of(s, i, first, n, want) != 0)
			bits = ~UINT64_C(0);
		if (bits == 0)
			continue;
		s->clear[i - b.first] = bits;
		bits_set(busy, (i - b.first) / GROUP_WORDS);
	}
	return bits_runs(busy, 0, BATCH_WORDS / GROUP_WORDS, clear_run, &b);
}

int slot_log_clear(struct slot_log *s, uint64_t first, uint64_t n, const uint64_t *want)
{
	uint64_t from = first * CHUNK_PAGES;
	uint64_t end = (first + n) * CHUNK_PAGES;
	int rc;

	if (end <= s->first_page || from >= s->first_page + s->npages)
		return 0;
	from = from > s->first_page ? (from - s->first_page) / WORD_BITS : 0;
	end = (end - s->first_page + WORD_BITS - 1) / WORD_BITS;
	if (end > s->nwords)
		end = s->nwords;
	while (from < end) {
		uint64_t next = from - from % BATCH_WORDS + BATCH_WORDS;

		if (next > end)
			next = end;
		rc = clear_batch(s, from, next, first, n, want);
		if (rc < 0)
			return rc;
		from = next;
	}
	return 0;
}

void slot_log_forget(struct slot_log *s)
{
	map_drop(s->seen, s->nwords * sizeof(uint64_t));
}
