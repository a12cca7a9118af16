// SPDX-License-Identifier: BSD-3-Clause
// Fuzz target: a frame and its payload, as a hostile source would send them, through everything the
// target does with one: decode, check against the guest, the codec's decode, place.
//
// The input is a header, whose first bytes and checksum are put right in most runs so that the
// fuzzer gets past them, and a payload, which ends at a page that faults, because the libraries
// that decode it are not seen by sanitizers.

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bits.h"
#include "codec.h"
#include "crc.h"
#include "frame.h"
#include "place.h"
#include "punch_ring.h"

#define PAYLOAD_MAX (4 * PAGE_BYTES)
#define GUEST_PAGES (3 * CHUNK_PAGES + 5)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct region_map map;
static struct recv_job job;
static uint64_t written[8], stale[8];
static uint8_t *payload_end, *pages_end;
static struct codec *codec[CODEC_IDS];

static uint8_t *guarded(size_t bytes)
{
	uint8_t *p = mmap(NULL, bytes + PAGE_BYTES, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED || mprotect(p + bytes, PAGE_BYTES, PROT_NONE) != 0)
		abort();
	return p + bytes;
}

static void setup(void)
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, (off_t)(GUEST_PAGES * PAGE_BYTES)) != 0)
		abort();
	region_map_init(&map);
	if (region_add(&map, "small", -1, PAGE_BYTES, 4096, NULL) != 0 ||
		region_add(&map, "ram", fd, GUEST_PAGES * PAGE_BYTES, 4096, NULL) != 1 ||
		region_mmap(&map.r[1], true, NULL) != 0)
		abort();
	map.r[0].base =
		mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	job.map = &map;
	job.written = written;
	job.stale = stale;
	job.punch = aligned_alloc(CACHE_LINE, sizeof(*job.punch));
	if (map.r[0].base == MAP_FAILED || job.punch == NULL)
		abort();
	for (uint8_t i = 1; i < CODEC_IDS; i++)
		if (codec_by_id(i)->open(&codec[i], codec_by_id(i)->level_default, -1, NULL) != 0)
			abort();
	memset(job.punch, 0, sizeof(*job.punch));
	payload_end = guarded(PAYLOAD_MAX);
	pages_end = guarded(CHUNK_BYTES);
}

// What decode calls good is encoded to the same bytes.
static void check_round_trip(const struct frame *f, const uint8_t hdr[FRAME_HDR_BYTES])
{
	struct frame copy = *f;
	uint8_t again[FRAME_HDR_BYTES];

	frame_encode(&copy, again);
	if (memcmp(again, hdr, FRAME_HDR_BYTES) != 0)
		abort();
}

static void place(const struct frame *f, const uint8_t *pages)
{
	uint32_t at = 0;

	punch_ring_init(job.punch);
	if (!place_frame(&job, f, pages, &at))
		abort(); // far too small to be cut short
	// One page, then three whole chunks, then five pages: nothing may be marked elsewhere.
	if (written[0] > 1 || written[4] > bits_low(5) || written[5] != 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t hdr[FRAME_HDR_BYTES];
	size_t left, content;
	struct frame f;
	uint32_t crc;

	if (codec[1] == NULL)
		setup();
	if (size < FRAME_HDR_BYTES)
		return 0;
	memcpy(hdr, data, FRAME_HDR_BYTES);
	left = size - FRAME_HDR_BYTES < PAYLOAD_MAX ? size - FRAME_HDR_BYTES : PAYLOAD_MAX;
	if (hdr[63] != 0xff) {
		hdr[0] = FRAME_MAGIC & 0xff;
		hdr[1] = FRAME_MAGIC >> 8;
		hdr[2] = FRAME_VERSION;
		crc = crc32c(0, hdr, 60);
		for (unsigned i = 0; i < 4; i++)
			hdr[60 + i] = (uint8_t)(crc >> 8 * i);
	}
	if (frame_decode(&f, hdr) != 0)
		return 0;
	check_round_trip(&f, hdr);
	if (f.type == FRAME_BARRIER || f.type == FRAME_BYE || frame_check(&f, &map) != 0)
		return 0;
	content = bits_count(f.data) * PAGE_BYTES;
	if (f.payload_bytes > 0 && f.codec != CODEC_RAW) {
		size_t n = f.payload_bytes < left ? f.payload_bytes : left;

		memcpy(payload_end - n, data + FRAME_HDR_BYTES, n);
		if (codec[f.codec]->ops->decode(
			    codec[f.codec], payload_end - n, n, pages_end - content, content) != 0)
			return 0;
	}
	place(&f, pages_end - content);
	return 0;
}
