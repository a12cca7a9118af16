// SPDX-License-Identifier: BSD-3-Clause
// One flow, over loopback tcp, in plain text or sealed, or over any link, with all that a session
// has around it.

#include "lane.h"

#include <arpa/inet.h>
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

int lane_sockets(int fd[2])
{
	struct sockaddr_in at = {.sin_family = AF_INET};
	socklen_t len = sizeof(at);
	int l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int rc = 0;

	fd[0] = fd[1] = -1;
	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (l < 0 || bind(l, (struct sockaddr *)&at, len) != 0 || listen(l, 1) != 0 ||
		getsockname(l, (struct sockaddr *)&at, &len) != 0)
		rc = -errno;
	if (rc == 0) {
		fd[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (fd[0] < 0 || connect(fd[0], (struct sockaddr *)&at, len) != 0)
			rc = -errno;
	}
	if (rc == 0 && (fd[1] = accept4(l, NULL, NULL, SOCK_CLOEXEC)) < 0)
		rc = -errno;
	if (l >= 0)
		close(l);
	return rc;
}

static int seal_both(struct link *source, struct link *target, struct err *e)
{
	const struct seal_ops *ops = seal_best("aes-256-gcm");
	const struct seal_secret there = {.key = {1}}, back = {.key = {2}};
	int rc = link_tcp_seal(source, ops, &there, &back, -1, e);

	return rc == 0 ? link_tcp_seal(target, ops, &back, &there, -1, e) : rc;
}

int lane_open_over(struct lane *l, struct bench *b, struct link *source, struct link *target,
	const struct codec_ops *codec, int level, struct err *e)
{
	int rc = dirty_init(&l->dirty, b->map.nchunks);

	if (rc == 0)
		rc = claim_init(&l->claim, 1);
	if (rc != 0)
		return err_sys(e, -rc, "cannot make a flow");
	l->send_job.map = &b->map;
	l->send_job.dirty = &l->dirty;
	l->send_job.claim = &l->claim;
	l->send_job.codec = codec;
	l->send_job.level = level;
	rc = recv_job_init(&l->recv_job, &b->target_map, false, e);
	if (rc == 0)
		rc = flow_send_new(&l->send, &l->send_job, source, 0, -1, e);
	if (rc == 0)
		rc = flow_recv_new(&l->recv, &l->recv_job, target, 0, -1, e);
	return rc;
}

int lane_open(struct lane *l, struct bench *b, bool sealed, const struct codec_ops *codec,
	int level, struct err *e)
{
	int fd[2] = {-1, -1};
	struct link *source = NULL, *target = NULL;
	int rc = lane_sockets(fd);

	if (rc != 0)
		return err_sys(e, -rc, "cannot make a pair of sockets over loopback");
	rc = link_tcp_open(&source, fd[0], true, -1, e);
	if (rc == 0)
		rc = link_tcp_open(&target, fd[1], false, -1, e);
	if (rc == 0 && sealed)
		rc = seal_both(source, target, e);
	if (rc == 0)
		rc = lane_open_over(l, b, source, target, codec, level, e);
	return rc;
}

void lane_close(struct lane *l)
{
	flow_free(l->send);
	flow_free(l->recv);
	recv_job_fini(&l->recv_job);
	claim_fini(&l->claim);
	dirty_fini(&l->dirty);
}

uint64_t lane_publish(const struct region_map *map, struct dirty *d, struct claim *claim,
	uint64_t mask, uint32_t pass)
{
	uint64_t n = map->nchunks, pages = 0;

	for (uint64_t c = 0; c < n; c++) {
		d->taken[c] = region_chunk_mask(&map->r[0], c) & mask;
		pages += (unsigned)__builtin_popcountll(d->taken[c]);
	}
	for (uint64_t c = 0; c < n; c += SPAN_CHUNKS) {
		struct span s = {.chunk = c,
			.nchunks = (uint16_t)(n - c < SPAN_CHUNKS ? n - c : SPAN_CHUNKS)};

		if (claim_publish(claim, 0, &s, 1) != 1)
			return 0;
	}
	claim_close_pass(claim, pass);
	return pages;
}
