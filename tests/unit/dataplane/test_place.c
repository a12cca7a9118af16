// SPDX-License-Identifier: BSD-3-Clause
// Placing: random frames against a model of the target's memory. Fresh pages are not written with
// zeros, holes stay and become holes (law 11), a full queue or a long frame is taken up again. And
// which frames a link may place part by part.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <sched.h>

#include "bits.h"
#include "map.h"
#include "place.h"
#include "punch.h"
#include "punch_ring.h"
#include "recv.h"
#include "seed.h"

#define CHUNKS 40u
#define OLD    0x5a
#define PAGES  (CHUNKS * CHUNK_PAGES - 3) // the last chunk is not whole

struct target {
	struct region_map map;
	struct recv_job job;
	uint8_t *pages; // of one frame
};

static struct target t;

static int setup(void **state)
{
	int fd = memfd_create("place", MFD_CLOEXEC);

	(void)state;
	memset(&t, 0, sizeof(t));
	region_map_init(&t.map);
	if (fd < 0 || ftruncate(fd, (off_t)(PAGES * PAGE_BYTES)) != 0)
		return -1;
	// A region before it, so that its chunks do not begin at 0.
	if (region_add(&t.map, "first", -1, 5 * CHUNK_BYTES, 4096, NULL) != 0 ||
		region_add(&t.map, "ram", fd, PAGES * PAGE_BYTES, 4096, NULL) != 1 ||
		region_mmap(&t.map.r[1], true, NULL) != 0)
		return -1;
	t.job.map = &t.map;
	t.job.written = map_lazy(t.map.nchunks * sizeof(uint64_t));
	t.job.stale = map_lazy(t.map.nchunks * sizeof(uint64_t));
	t.pages = malloc(CHUNK_BYTES);
	return t.job.written == NULL || t.job.stale == NULL || t.pages == NULL ||
	       punch_new(&t.job.punch, &t.map, NULL);
}

static int teardown(void **state)
{
	(void)state;
	punch_free(t.job.punch);
	map_free(t.job.written, t.map.nchunks * sizeof(uint64_t));
	map_free(t.job.stale, t.map.nchunks * sizeof(uint64_t));
	region_map_close(&t.map);
	free(t.pages);
	return 0;
}

static int setup_alone(void **state)
{
	int rc = setup(state);

	t.job.alone = true;
	return rc;
}

// All of it is memory with old content, and was kept.
static int setup_stale(void **state)
{
	int rc = setup_alone(state);

	if (rc != 0)
		return rc;
	memset(t.map.r[1].base, OLD, PAGES * PAGE_BYTES);
	bits_set_range(t.job.written + t.map.r[1].first_chunk, 0, PAGES);
	bits_set_range(t.job.stale + t.map.r[1].first_chunk, 0, PAGES);
	t.job.kept[1] = true;
	return 0;
}

static uint64_t populated_pages(void)
{
	struct stat st;

	assert_int_equal(fstat(t.map.r[1].fd, &st), 0);
	return (uint64_t)st.st_blocks * 512 / PAGE_BYTES;
}

static void place(const struct frame *f)
{
	uint32_t at = 0;

	assert_int_equal(frame_check(f, &t.map), 0);
	while (!place_frame(&t.job, f, t.pages, &at))
		sched_yield();
}

static void wait_holes(void)
{
	uint64_t ticket = punch_ticket(t.job.punch);

	while (!punch_done(t.job.punch, ticket))
		sched_yield();
	assert_int_equal(punch_error(t.job.punch), 0);
}

// What the target should hold: one byte value a page, and whether it should have memory.
struct model {
	uint8_t value[PAGES];
	bool populated[PAGES];
	bool old[PAGES];
};

static void model_apply(struct model *m, const struct frame *f, const uint8_t *values)
{
	for (uint32_t i = 0; i < f->chunks * CHUNK_PAGES; i++) {
		uint64_t page = (uint64_t)f->chunk * CHUNK_PAGES + i;
		uint64_t bit = UINT64_C(1) << i % CHUNK_PAGES;

		if (page >= PAGES)
			break;
		if (f->type != FRAME_CHUNK || ((f->data | f->zero | f->hole) & bit))
			m->old[page] = false;
		if (f->type == FRAME_CHUNK && (f->data & bit)) {
			m->value[page] = *values++;
			m->populated[page] = true;
		}
		if (f->type == FRAME_ZERO || (f->zero & bit))
			m->value[page] = 0;
		if (f->type == FRAME_HOLE || (f->hole & bit)) {
			m->value[page] = 0;
			m->populated[page] = false;
		}
	}
}

static struct frame random_frame(struct seed *s, uint8_t values[CHUNK_PAGES])
{
	struct frame f = {.type = FRAME_CHUNK, .region = 1, .chunks = 1};
	uint64_t real;
	unsigned n;

	f.chunk = (uint32_t)seed_below(s, CHUNKS);
	if (seed_below(s, 8) == 0) {
		f.type = seed_below(s, 2) ? FRAME_ZERO : FRAME_HOLE;
		f.chunks = 1 + (uint32_t)seed_below(s, CHUNKS - f.chunk);
		return f;
	}
	real = region_chunk_mask(&t.map.r[1], f.chunk);
	f.data = seed_mask(s) & real;
	f.zero = seed_mask(s) & real & ~f.data;
	f.hole = seed_mask(s) & real & ~f.data & ~f.zero;
	n = bits_count(f.data);
	for (unsigned i = 0; i < n; i++) {
		values[i] = (uint8_t)(1 + seed_below(s, 255));
		memset(t.pages + i * PAGE_BYTES, values[i], PAGE_BYTES);
	}
	f.payload_bytes = n * (uint32_t)PAGE_BYTES;
	return f;
}

static void equals_model(void **state)
{
	struct seed s = {13};
	static struct model m;

	(void)state;
	memset(&m, 0, sizeof(m));
	if (t.job.kept[1]) {
		memset(m.value, OLD, sizeof(m.value));
		memset(m.populated, true, sizeof(m.populated));
		memset(m.old, true, sizeof(m.old));
	}
	for (unsigned round = 0; round < 400; round++) {
		uint64_t populated = 0, old = 0;
		uint8_t values[CHUNK_PAGES] = {0};
		struct frame f = random_frame(&s, values);

		place(&f);
		model_apply(&m, &f, values);
		wait_holes(); // the barrier between passes
		for (uint64_t p = 0; p < PAGES; p++)
			populated += m.populated[p], old += m.old[p];
		assert_int_equal(populated_pages(), populated);
		assert_int_equal(recv_job_stale(&t.job), old);
		if (round % 20 != 19)
			continue;
		for (uint64_t p = 0; p < PAGES; p++) {
			uint8_t *at = t.map.r[1].base + p * PAGE_BYTES;

			// Reading a hole would populate it.
			if (!m.populated[p])
				continue;
			assert_int_equal(at[0], m.value[p]);
			assert_memory_equal(at, at + 1, PAGE_BYTES - 1);
		}
	}
}

static void fresh_memory_stays_fresh(void **state)
{
	struct frame f = {.type = FRAME_ZERO, .region = 1, .chunks = CHUNKS};

	(void)state;
	place(&f);
	f.type = FRAME_HOLE;
	place(&f);
	f = (struct frame){.type = FRAME_CHUNK, .region = 1, .chunks = 1, .zero = 7, .hole = 8};
	place(&f);
	assert_int_equal(punch_ticket(t.job.punch), 0);
	assert_int_equal(populated_pages(), 0);
}

// With a queue that nobody empties, a frame with more holes than fit is refused, goes on once there
// is room, and queues each hole once.
static void full_queue_is_taken_up_again(void **state)
{
	struct punch *ring = aligned_alloc(CACHE_LINE, sizeof(*ring));
	struct punch *real = t.job.punch;
	struct frame f = {.type = FRAME_CHUNK, .region = 1, .chunks = 1, .chunk = 2};
	struct punch_hole h;
	uint32_t at = 0;
	uint64_t holes = 0;

	(void)state;
	assert_non_null(ring);
	memset(ring, 0, sizeof(*ring));
	punch_ring_init(ring);
	t.job.punch = ring;
	for (unsigned i = 0; i < PUNCH_RING - 10; i++)
		assert_true(punch_queue(ring, 0, 0, 1));
	t.job.written[5 + 2] = UINT64_MAX;
	f.hole = UINT64_C(0x5555555555555555);
	f.data = UINT64_C(0x8000000000000000);
	memset(t.pages, 9, PAGE_BYTES);
	assert_false(place_frame(&t.job, &f, t.pages, &at));
	assert_false(place_frame(&t.job, &f, t.pages, &at));
	for (unsigned i = 0; i < PUNCH_RING - 10; i++) {
		assert_true(punch_ring_next(ring, &h));
		punch_ring_finish(ring);
	}
	assert_true(place_frame(&t.job, &f, t.pages, &at));
	while (punch_ring_next(ring, &h)) {
		assert_int_equal(h.region, 1);
		assert_int_equal(h.page, 2 * CHUNK_PAGES + 2 * holes++);
		assert_int_equal(h.n, 1);
		punch_ring_finish(ring);
	}
	assert_int_equal(holes, 32);
	assert_true(t.job.written[5 + 2] == UINT64_C(0xaaaaaaaaaaaaaaaa));
	t.job.punch = real;
	free(ring);
}

// Zeros over much old content are written in several turns, and all of them.
static void long_zero_runs_give_way(void **state)
{
	struct frame f = {.type = FRAME_ZERO, .region = 1, .chunks = CHUNKS};
	unsigned turns = 1;
	uint32_t at = 0;

	(void)state;
	memset(t.map.r[1].base, 7, PAGES * PAGE_BYTES);
	for (unsigned c = 0; c < CHUNKS; c++)
		t.job.written[5 + c] = region_chunk_mask(&t.map.r[1], c);
	while (!place_frame(&t.job, &f, NULL, &at)) {
		assert_int_equal(t.map.r[1].base[at * CHUNK_BYTES - 1], 0);
		assert_int_equal(t.map.r[1].base[at * CHUNK_BYTES], 7);
		turns++;
	}
	assert_true(turns > 1);
	for (uint64_t i = 0; i < PAGES * PAGE_BYTES; i += 8)
		assert_memory_equal(t.map.r[1].base + i, "\0\0\0\0\0\0\0", 8);
}

// A long run of chunks that hold something becomes one hole; with large backing pages it is widened
// to whole ones as far as the frame reaches.
static void hole_runs_are_merged(void **state)
{
	struct punch *ring = aligned_alloc(CACHE_LINE, sizeof(*ring));
	struct punch *real = t.job.punch;
	struct frame f = {.type = FRAME_HOLE, .region = 1, .chunk = 3, .chunks = CHUNKS - 3};
	struct punch_hole h;
	uint32_t at = 0;

	(void)state;
	assert_non_null(ring);
	memset(ring, 0, sizeof(*ring));
	punch_ring_init(ring);
	t.job.punch = ring;
	for (unsigned c = 20; c < 30; c++)
		t.job.written[5 + c] = 1;
	t.job.written[5 + CHUNKS - 1] = 1;
	assert_true(place_frame(&t.job, &f, NULL, &at));
	assert_true(punch_ring_next(ring, &h));
	assert_int_equal(h.page, 20 * CHUNK_PAGES);
	assert_int_equal(h.n, 10 * CHUNK_PAGES);
	punch_ring_finish(ring);
	assert_true(punch_ring_next(ring, &h));
	assert_int_equal(h.page, (CHUNKS - 1) * CHUNK_PAGES);
	assert_int_equal(h.n, CHUNK_PAGES - 3);
	punch_ring_finish(ring);
	assert_false(punch_ring_next(ring, &h));

	t.map.r[1].page_bytes = 2u << 20;
	t.job.written[5 + 4] = 2;
	t.job.written[5 + 13] = 2;
	at = 0;
	assert_true(place_frame(&t.job, &f, NULL, &at));
	assert_true(punch_ring_next(ring, &h));
	assert_int_equal(h.page, 3 * CHUNK_PAGES);
	assert_int_equal(h.n, 5 * CHUNK_PAGES);
	punch_ring_finish(ring);
	assert_true(punch_ring_next(ring, &h));
	assert_int_equal(h.page, 8 * CHUNK_PAGES);
	assert_int_equal(h.n, 8 * CHUNK_PAGES);
	punch_ring_finish(ring);
	assert_false(punch_ring_next(ring, &h));
	t.map.r[1].page_bytes = 4096;
	for (unsigned c = 0; c < CHUNKS; c++)
		assert_int_equal(t.job.written[5 + c], 0);
	t.job.punch = real;
	free(ring);
}

// Memory that was there before, and kept, is written where it lies, once a pass; fresh memory waits
// for the whole frame. What parts have spoilt is stale until a frame is through.
static void parts_go_to_memory_that_is_there(void **state)
{
	_Atomic uint32_t passes[5 + CHUNKS] = {0};
	struct frame f = {
		.type = FRAME_CHUNK, .region = 1, .chunk = 3, .chunks = 1, .data = 0xf0, .seq = 1};
	struct recv r = {.job = &t.job};
	uint8_t *at = t.map.r[1].base + 3 * CHUNK_BYTES;

	(void)state;
	t.job.placed_pass = passes;
	f.payload_bytes = 4 * (uint32_t)PAGE_BYTES;
	assert_ptr_equal(recv_begin(&r, &f), at);
	assert_null(recv_begin(&r, &f));
	memset(at + 4 * PAGE_BYTES, 1, 100);
	assert_int_equal(t.job.stale[5 + 3], ~UINT64_C(0));
	// The source gave it up, and then had zeros there.
	r.pass = f.pass = 1;
	f.data = f.payload_bytes = 0;
	f.zero = 0xf0;
	place(&f);
	for (unsigned i = 0; i < 4 * PAGE_BYTES; i++)
		assert_int_equal(at[4 * PAGE_BYTES + i], 0);
	assert_int_equal(t.job.stale[5 + 3], ~UINT64_C(0xf0));
	t.job.written[5 + 3] &= ~UINT64_C(0x80);
	f.payload_bytes = 4 * (uint32_t)PAGE_BYTES;
	f.data = 0xf0;
	f.zero = 0;
	assert_null(recv_begin(&r, &f));
	t.job.placed_pass = NULL;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(equals_model, setup, teardown),
		{"equals_model_alone", equals_model, setup_alone, teardown, NULL},
		{"equals_model_stale", equals_model, setup_stale, teardown, NULL},
		cmocka_unit_test_setup_teardown(fresh_memory_stays_fresh, setup, teardown),
		cmocka_unit_test_setup_teardown(full_queue_is_taken_up_again, setup, teardown),
		cmocka_unit_test_setup_teardown(long_zero_runs_give_way, setup, teardown),
		cmocka_unit_test_setup_teardown(hole_runs_are_merged, setup, teardown),
		cmocka_unit_test_setup_teardown(
			parts_go_to_memory_that_is_there, setup_stale, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
