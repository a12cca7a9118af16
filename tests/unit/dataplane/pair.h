/* SPDX-License-Identifier: BSD-3-Clause */
/* Two guests' memories and flows between them over loopback tcp, for tests of the data path. */
#ifndef GODWIT_TESTS_PAIR_H
#define GODWIT_TESTS_PAIR_H

#include "flow.h"
#include "seed.h"

#define PAIR_FLOWS 2u

struct pair {
	struct region_map from, to;
	struct dirty dirty;
	struct claim claim;
	struct send_job send_job;
	struct recv_job recv_job;
	struct flow *send[PAIR_FLOWS], *recv[PAIR_FLOWS];
};

/* Flows of pairs opened from now on are sealed by this row; NULL: not sealed. */
extern const struct seal_ops *pair_seal;

/* Seals both ends of a link, with a secret for each direction. */
void pair_seal_links(struct link *source, struct link *target, const struct seal_ops *ops);

/* A frame of some of the pages of the chunk that memory holds. */
struct link_tx pair_frame(struct seed *s, uint8_t *memory, uint32_t chunk);

/* Two connected tcp sockets on loopback. */
void pair_sockets(int fd[2]);

/* Regions of the given numbers of pages; target files hold old content. */
void pair_open(struct pair *p, const uint64_t *pages, unsigned nregions,
	const struct codec_ops *codec, int level);
/* For PAIR_FLOWS flows on lcores 1 and 2. */
void pair_flows(struct pair *p);
void pair_close(struct pair *p);

/* Writes the source's memory: holes, zeros, text and noise in runs. */
void pair_fill(struct pair *p, struct seed *s);
/* Pages that are no holes, of all regions: words by chunk. */
void pair_populated(const struct region_map *m, uint64_t *words);
/* Publishes what is in the set, and the holes given, and starts the pass at all flows. */
void pair_publish(struct pair *p, uint32_t pass);
/* Polls all flows until both sides of all have done the pass. */
void pair_run(struct pair *p, uint32_t pass);
/* After pair_run(). */
void pair_finish_pass(struct pair *p);
/* Fails the test where target and source differ, reading no holes. */
void pair_compare(struct pair *p);

#endif
