// SPDX-License-Identifier: BSD-3-Clause
// Stages that touch memory and nothing else: plain reads, copies, the zero scan, the sum.

#include "stage.h"

#include <errno.h>
#include <string.h>

#include "bits.h"
#include "copy.h"
#include "crc.h"
#include "read.h"
#include "zero.h"

static int read_open(struct bench *b, int arg, void **state)
{
	(void)state;
	(void)b;
	return read_supported(arg) ? 0 : -ENOTSUP;
}

static uint64_t read_run(struct bench *b, int arg, void *state)
{
	(void)state;
	bench_use(read_loops[arg].read(b->image, b->pages * PAGE_BYTES));
	return b->pages;
}

static int zero_open(struct bench *b, int arg, void **state)
{
	(void)state;
	(void)b;
	zero_init();
	return arg < 0 || zero_impls[arg].supported() ? 0 : -ENOTSUP;
}

static uint64_t zero_run(struct bench *b, int arg, void *state)
{
	zero_scan_fn scan = arg < 0 ? zero_scan : zero_impls[arg].scan;
	uint64_t zeros = 0;

	(void)state;
	for (uint64_t c = 0; c < b->map.nchunks; c++)
		zeros += bits_count(scan(region_chunk_addr(&b->map.r[0], c), UINT64_MAX));
	bench_use(zeros);
	return b->pages;
}

static uint64_t crc_run(struct bench *b, int arg, void *state)
{
	uint32_t sum = 0;

	(void)state;
	(void)arg;
	for (uint64_t c = 0; c < b->map.nchunks; c++)
		sum ^= crc32c(0, region_chunk_addr(&b->map.r[0], c), CHUNK_BYTES);
	bench_use(sum);
	return b->pages;
}

static int copy_open(struct bench *b, int arg, void **state)
{
	(void)state;
	(void)arg;
	return bench_target(b);
}

enum { COPY_LIBC = 1, COPY_HOT = 2 }; // how; the source is one chunk that stays in the cache

static uint64_t copy_run(struct bench *b, int arg, void *state)
{
	(void)state;
	for (uint64_t c = 0; c < b->map.nchunks; c++) {
		const uint8_t *from = b->image + (arg & COPY_HOT ? 0 : c * CHUNK_BYTES);
		uint8_t *to = b->target + c * CHUNK_BYTES;

		if (arg & COPY_LIBC)
			memcpy(to, from, CHUNK_BYTES);
		else
			copy_out(to, from, CHUNK_BYTES);
	}
	copy_out_done();
	return b->pages;
}

static uint64_t fill_run(struct bench *b, int arg, void *state)
{
	(void)state;
	for (uint64_t c = 0; c < b->map.nchunks; c++) {
		uint8_t *to = b->target + c * CHUNK_BYTES;

		if (arg & COPY_LIBC)
			memset(to, 0, CHUNK_BYTES);
		else
			copy_out_zeros(to, CHUNK_BYTES);
	}
	copy_out_done();
	return b->pages;
}

const struct stage stage_memory[] = {
	{"read/avx2", "plain read", READ_AVX2, read_open, read_run, NULL},
	{"read/avx2-ahead", "plain read with prefetch", READ_AVX2_AHEAD, read_open, read_run, NULL},
	{"read/avx512", "plain read", READ_AVX512, read_open, read_run, NULL},
	{"read/avx512-ahead", "plain read with prefetch", READ_AVX512_AHEAD, read_open, read_run,
		NULL},
	{"zero", "zero scan, as chosen for this CPU", -1, zero_open, zero_run, NULL},
	{"zero/portable", "zero scan in plain C", 0, zero_open, zero_run, NULL},
	{"zero/isal", "zero scan by ISA-L", 1, zero_open, zero_run, NULL},
	{"zero/avx2", "zero scan with AVX2", 2, zero_open, zero_run, NULL},
	{"zero/avx512", "zero scan with AVX-512", 3, zero_open, zero_run, NULL},
	{"crc", "CRC32C of each chunk", 0, NULL, crc_run, NULL},
	{"copy", "copy past the cache", 0, copy_open, copy_run, NULL},
	{"copy/libc", "memcpy", COPY_LIBC, copy_open, copy_run, NULL},
	{"copy/hot", "copy past the cache, source in cache", COPY_HOT, copy_open, copy_run, NULL},
	{"copy/hot-libc", "memcpy, source in cache", COPY_HOT | COPY_LIBC, copy_open, copy_run,
		NULL},
	{"fill", "zeros past the cache", 0, copy_open, fill_run, NULL},
	{"fill/libc", "memset", COPY_LIBC, copy_open, fill_run, NULL},
	{NULL, NULL, 0, NULL, NULL, NULL},
};
