/* SPDX-License-Identifier: BSD-3-Clause */
/* One flow, over loopback tcp or another link, with all that a session has around it. */
#ifndef GODWIT_BENCH_LANE_H
#define GODWIT_BENCH_LANE_H

#include "flow.h"
#include "stage.h"

struct lane {
	struct send_job send_job;
	struct recv_job recv_job;
	struct dirty dirty;
	struct claim claim;
	struct flow *send, *recv;
	uint32_t pass;
};

/* Two connected tcp sockets over loopback. 0 or -errno. */
int lane_sockets(int fd[2]);
/* From b's image to b's target. sealed: as the session seals it. 0 or -errno with e set. */
int lane_open(struct lane *l, struct bench *b, bool sealed, const struct codec_ops *codec,
	int level, struct err *e);
/* The same over two ends of a link, which it takes over. */
int lane_open_over(struct lane *l, struct bench *b, struct link *source, struct link *target,
	const struct codec_ops *codec, int level, struct err *e);
void lane_close(struct lane *l);

#define ALL_PAGES UINT64_MAX

/* Control's part of a pass, before a clock runs: hands out all pages of the first region that are
 * in mask, which holds for each chunk. Returns how many, 0: there was no room. */
uint64_t lane_publish(const struct region_map *map, struct dirty *d, struct claim *claim,
	uint64_t mask, uint32_t pass);

#endif
