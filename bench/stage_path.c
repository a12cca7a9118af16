// SPDX-License-Identifier: BSD-3-Clause
// The source's way of a chunk, as send.c goes it: scan, stage, encode, sum, frame; into a link that
// takes everything and sends nothing.

#include "stage.h"

#include <errno.h>
#include <stdlib.h>

#include "pack.h"
#include "zero.h"

struct path {
	struct link sink;
	struct send_job job;
	struct stats stats;
	struct pack pack;
	uint64_t frames;
};

static unsigned sink_tx(struct link *l, struct link_tx *f, unsigned n)
{
	uint8_t hdr[FRAME_HDR_BYTES];

	for (unsigned i = 0; i < n; i++) {
		f[i].hdr.seq = l->next_seq++;
		frame_encode(&f[i].hdr, hdr);
		bench_use(hdr[FRAME_HDR_BYTES - 1]);
		l->tx_bytes += FRAME_HDR_BYTES + f[i].hdr.payload_bytes;
	}
	l->sent = l->next_seq;
	return n;
}

static const struct link_ops sink_ops = {.name = "sink", .tx = sink_tx};

// arg: level of deflate; below 0: one of
enum { PATH_RAW = -1, PATH_LZ4 = -2, PATH_ZSTD_1 = -3 };

static int path_open(struct bench *b, int arg, void **state)
{
	size_t bytes = (sizeof(struct path) + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
	struct path *p = aligned_alloc(CACHE_LINE, bytes);
	int rc;

	if (p == NULL)
		return -ENOMEM;
	*p = (struct path){.sink = {.ops = &sink_ops}};
	p->job.map = &b->map;
	p->job.codec = arg >= 0             ? &codec_isal
		       : arg == PATH_LZ4    ? &codec_lz4
		       : arg == PATH_ZSTD_1 ? &codec_zstd
					    : &codec_raw;
	p->job.level = arg >= 0 ? arg : arg == PATH_ZSTD_1;
	zero_init();
	rc = pack_open(&p->pack, &p->job, &p->sink, &p->stats, -1, NULL);
	if (rc != 0) {
		free(p);
		return rc;
	}
	*state = p;
	return 0;
}

static void path_taken(void *arg, const struct frame *f)
{
	struct path *p = arg;

	(void)f;
	p->frames++;
}

static uint64_t path_run(struct bench *b, int arg, void *state)
{
	struct path *p = state;
	struct pack *pack = &p->pack;
	uint64_t before = p->sink.tx_bytes;

	(void)arg;
	for (uint64_t c = 0; c < b->map.nchunks; c++) {
		while (!pack_room(pack, p->sink.sent))
			pack_push(pack, &p->sink, path_taken, p);
		pack_chunk(pack, 0, (uint32_t)c, region_chunk_mask(&b->map.r[0], c), 0);
	}
	while (!pack_flush(pack))
		pack_push(pack, &p->sink, path_taken, p);
	pack_push(pack, &p->sink, path_taken, p);
	bench_use(p->frames);
	b->encoded_bytes = (double)(p->sink.tx_bytes - before);
	return b->pages;
}

static void path_close(void *state)
{
	struct path *p = state;

	pack_close(&p->pack);
	free(p);
}

const struct stage stage_path[] = {
	{"path/lz4", "scan, stage, lz4, sum, frame", PATH_LZ4, path_open, path_run, path_close},
	{"path/zstd:1", "scan, stage, zstd level 1, sum, frame", PATH_ZSTD_1, path_open, path_run,
		path_close},
	{"path/raw", "scan, sum, frame", PATH_RAW, path_open, path_run, path_close},
	{"path/0", "scan, stage, deflate level 0, sum, frame", 0, path_open, path_run, path_close},
	{"path/1", "scan, stage, deflate level 1, sum, frame", 1, path_open, path_run, path_close},
	{"path/2", "scan, stage, deflate level 2, sum, frame", 2, path_open, path_run, path_close},
	{"path/3", "scan, stage, deflate level 3, sum, frame", 3, path_open, path_run, path_close},
	{NULL, NULL, 0, NULL, NULL, NULL},
};
