/* SPDX-License-Identifier: BSD-3-Clause */
/* Makes frames of chunks at the source: zero scan, runs, codec, checksum. Frames wait in a short
 * queue until the link takes them, in the order in which they were made. Lcore only, but for
 * pack_open() and pack_close(). */
#ifndef GODWIT_DATAPLANE_PACK_H
#define GODWIT_DATAPLANE_PACK_H

#include "auto.h"
#include "flow.h"

#define PACK_QUEUE       16u  /* frames made and not yet taken by the link; a power of two */
#define PACK_PER_CHUNK   3u   /* frames that one chunk can end up as: two runs ended, and its own */
#define PACK_SLOTS       4u   /* encoded frames whose bytes the link still needs, */
#define PACK_SLOTS_MOST  64u  /* and where it wants more */
#define PACK_ZERO_CHUNKS 256u /* in a ZERO frame: the target may have to write all of them */
#define PACK_HOLE_CHUNKS 4096u /* in a HOLE frame */

/* Neighbouring chunks that are all the same; nothing when n is 0. */
struct pack_run {
	uint16_t region;
	uint32_t chunk; /* in its region */
	uint32_t n;
};

struct pack {
	struct region_map *map;
	struct stats *stats;
	uint32_t pass;
	struct pack_run zero, hole;

	struct link_tx queue[PACK_QUEUE];
	unsigned head, tail; /* [head, tail) wait for the link */

	bool sealed;                  /* the link's: no payload gets a checksum */
	struct codec *codec;          /* NULL: raw, or chosen by automatic */
	struct auto_codec *automatic; /* NULL: codec for all */
	const struct link *link;
	unsigned waiting;      /* frames made that the wire has not begun to take, at pack_room() */
	bool waited;           /* there was no room at some time since the last frame */
	uint64_t codec_cycles; /* of cycles_encode: copying to the stage, and encoding */
	double pressure;       /* of what limits the flow but for the link, as choose_link's */
	uint8_t *stage;        /* CHUNK_BYTES */
	uint8_t *slots;        /* nslots times CHUNK_BYTES */
	unsigned nslots;
	bool sum_raw;         /* raw payloads get a checksum */
	uint64_t made, freed; /* slots in use: [freed, made) */
	unsigned
		at[PACK_SLOTS_MOST]; /* queue position of the frame, until the link gave it a seq */
	uint64_t seq[PACK_SLOTS_MOST];
};

int pack_open(struct pack *p, struct send_job *job, const struct link *link, struct stats *stats,
	int node, struct err *e);
void pack_close(struct pack *p);

/* Whether one more chunk can be packed. sent: the link's. */
bool pack_room(struct pack *p, uint64_t sent);
/* Packs one chunk of a region: the pages to send, and those to become holes, not both 0. */
void pack_chunk(struct pack *p, uint16_t region, uint32_t chunk, uint64_t data, uint64_t hole);
/* Ends the runs that were kept open for more. True when the queue has room for that. */
bool pack_flush(struct pack *p);

/* Gives frames to the link. For each that it takes: taken(arg, header). Returns how many. */
unsigned pack_push(
	struct pack *p, struct link *l, void (*taken)(void *arg, const struct frame *f), void *arg);

static inline bool pack_empty(const struct pack *p)
{
	return p->head == p->tail;
}

#endif
