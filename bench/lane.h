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

#endif
