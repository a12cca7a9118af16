// SPDX-License-Identifier: BSD-3-Clause
// The sealed rdma link, with a fabric that changes, keeps and repeats what it carries: none of that
// is used, and nothing of a page is to be seen; and which memory a fabric may write.

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "fake_verbs.h"
#include "seed.h"

static uint8_t memory[CHUNK_BYTES];

static void answer(struct link *l, uint8_t type, uint64_t seq)
{
	const struct frame f = {.type = type, .seq = seq};

	while (!l->ops->answer(l, &f))
		assert_true(l->ops->poll(l) >= 0);
}

static void finish(struct fake_end e[2], struct link *l[2])
{
	for (unsigned i = 0; i < 2; i++)
		l[i]->ops->close(l[i]);
	for (unsigned i = 0; i < 2; i++)
		fake_free(&e[i]);
}

static struct link_tx two_pages(uint32_t chunk)
{
	return (struct link_tx){.hdr = {.type = FRAME_CHUNK,
					.chunk = chunk,
					.chunks = 1,
					.data = 3,
					.payload_bytes = 2 * PAGE_BYTES},
		.nseg = 1,
		.seg = {{memory, 2 * PAGE_BYTES}}};
}

static struct link_tx no_page(void)
{
	return (struct link_tx){.hdr = {.type = FRAME_ZERO, .chunk = 2, .chunks = 5}};
}

static unsigned turn(struct link *l[2], struct link_rx *x)
{
	l[0]->ops->poll(l[0]);
	l[1]->ops->poll(l[1]);
	return l[1]->ops->rx(l[1], x, 1);
}

// What the fabric changes, wherever in a frame or an answer, ends the link; none of it is used.
static void what_was_spoilt_is_not_used(void **state)
{
	const uint32_t tag = FRAME_HDR_BYTES + 2 * PAGE_BYTES;
	static const struct {
		bool pages, back;
	} kinds[] = {{true, false}, {false, false}, {false, true}};
	struct seed s = {.state = 11};

	(void)state;
	seed_fill(&s, memory, sizeof(memory));
	for (unsigned k = 0; k < 3; k++) {
		const uint32_t at[] = {3, FRAME_HDR_BYTES - 1, FRAME_HDR_BYTES,
			FRAME_HDR_BYTES + PAGE_BYTES, tag - 1, tag, tag + SEAL_TAG_BYTES - 1};

		for (unsigned i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
			struct link_tx t = kinds[k].pages ? two_pages(1) : no_page();
			struct fake_end e[2];
			struct link *l[2];
			struct link_rx x;
			struct link_done d;

			if (!kinds[k].pages && at[i] >= FRAME_HDR_BYTES + SEAL_TAG_BYTES)
				continue;
			fake_links(e, l, RDMA_MESSAGE_BYTES);
			fake_seal(l, 0);
			e[kinds[k].back].spoil_at = at[i] + 1;
			assert_int_equal(l[0]->ops->tx(l[0], &t, 1), 1);
			assert_int_equal(turn(l, &x), kinds[k].back);
			if (kinds[k].back) {
				answer(l[1], FRAME_ACK, 0);
				turn(l, &x);
				l[0]->ops->poll(l[0]);
				assert_int_equal(l[0]->ops->done(l[0], &d, 1), 0);
			}
			assert_true(l[!kinds[k].back]->error != 0);
			finish(e, l);
		}
	}
}

// Nothing of a page is in the memory that the fabric sees, and what lay there once is no frame.
static void slots_hold_what_is_sealed(void **state)
{
	static uint8_t before[RDMA_SLOT_BYTES];
	struct seed s = {.state = 12};
	struct fake_end e[2];
	struct link *l[2];
	struct link_rx x;

	(void)state;
	seed_fill(&s, memory, sizeof(memory));
	for (unsigned sealed = 0; sealed < 2; sealed++) {
		struct link_tx t = two_pages(1);
		bool seen;

		fake_links(e, l, RDMA_MESSAGE_BYTES);
		if (sealed)
			fake_seal(l, 0);
		assert_int_equal(l[0]->ops->tx(l[0], &t, 1), 1);
		assert_int_equal(turn(l, &x), 1);
		assert_memory_equal(x.payload, memory, 2 * PAGE_BYTES);
		seen = memmem(rdma_of(l[1])->memory, rdma_of(l[1])->memory_bytes,
			       memory + PAGE_BYTES, 16) != NULL ||
		       memmem(rdma_of(l[0])->memory, rdma_of(l[0])->memory_bytes,
			       memory + PAGE_BYTES, 16) != NULL;
		assert_true(seen != (bool)sealed);
		if (sealed)
			break;
		finish(e, l);
	}
	memcpy(before, rdma_of(l[1])->slot, sizeof(before));
	for (unsigned replayed = 0; replayed < 2; replayed++) {
		struct link_tx t = two_pages(1);

		assert_int_equal(l[0]->ops->tx(l[0], &t, 1), 1);
		l[0]->ops->poll(l[0]);
		l[1]->ops->poll(l[1]);
		if (replayed)
			memcpy(rdma_of(l[1])->slot + 2 * RDMA_SLOT_BYTES, before, sizeof(before));
		assert_int_equal(l[1]->ops->rx(l[1], &x, 1), !replayed);
	}
	assert_true(l[1]->error != 0);
	finish(e, l);
}

// What a fabric kept of one connection and gives back in place of what the next one carries. Under
// the keys of then nobody would notice; each handshake has its own
// (control/session/session_seal.c).
static void what_was_kept_opens_nothing_later(void **state)
{
	static const struct {
		bool pages, back;
	} kinds[] = {{true, false}, {false, false}, {false, true}};
	enum { KEEP, SAME_KEYS, NEW_KEYS };
	static uint8_t kept[RDMA_SLOT_BYTES], before[2 * PAGE_BYTES];
	struct seed s = {.state = 13};

	(void)state;
	for (unsigned i = 0; i < 3 * 3; i++) {
		struct link_tx t = kinds[i / 3].pages ? two_pages(1) : no_page();
		bool back = kinds[i / 3].back, good = i % 3 != NEW_KEYS;
		struct fake_end e[2];
		struct link *l[2];
		struct link_rx x;
		struct link_done d;

		seed_fill(&s, memory, sizeof(memory));
		if (i % 3 == KEEP)
			memcpy(before, memory, sizeof(before));
		fake_links(e, l, RDMA_MESSAGE_BYTES);
		fake_seal(l, !good);
		e[back].keep = i % 3 == KEEP ? kept : NULL;
		e[back].instead = i % 3 == KEEP ? NULL : kept;
		assert_int_equal(l[0]->ops->tx(l[0], &t, 1), 1);
		assert_int_equal(turn(l, &x), good || back);
		if (good && kinds[i / 3].pages)
			assert_memory_equal(x.payload, before, sizeof(before));
		if (good || back) {
			answer(l[1], FRAME_ACK, 0);
			turn(l, &x);
			l[0]->ops->poll(l[0]);
			assert_int_equal(l[0]->ops->done(l[0], &d, 1), good);
		}
		assert_int_equal(l[!back]->error, good ? 0 : EBADMSG);
		assert_true(good || strstr(l[!back]->why.text, "its seal does not match") != NULL);
		finish(e, l);
	}
}

// What the device may write of the source's memory is nobody's business but its own.
static void only_targets_are_written_to(void **state)
{
	struct link_tx t = two_pages(1);
	struct fake_end e[2];
	struct link *l[2];
	struct link_rx x;

	(void)state;
	fake_links(e, l, RDMA_MESSAGE_BYTES);
	assert_int_equal(e[0].access[0] & IBV_ACCESS_REMOTE_WRITE, 0);
	assert_true(e[1].access[0] & IBV_ACCESS_REMOTE_WRITE);
	e[1].access[0] = IBV_ACCESS_LOCAL_WRITE;
	assert_int_equal(l[0]->ops->tx(l[0], &t, 1), 1);
	assert_int_equal(turn(l, &x), 0);
	turn(l, &x);
	assert_true(l[0]->error != 0);
	finish(e, l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_spoilt_is_not_used),
		cmocka_unit_test(slots_hold_what_is_sealed),
		cmocka_unit_test(what_was_kept_opens_nothing_later),
		cmocka_unit_test(only_targets_are_written_to),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
