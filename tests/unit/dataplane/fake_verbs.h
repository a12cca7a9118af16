/* SPDX-License-Identifier: BSD-3-Clause */
/* A device that is none: two queue pairs connected in one process, for tests of the rdma link. It
 * moves bytes when a completion queue is polled, checks what a device checks (keys, bounds, receive
 * buffers), and fails where it is told to. */
#ifndef GODWIT_TESTS_FAKE_VERBS_H
#define GODWIT_TESTS_FAKE_VERBS_H

#include <semaphore.h>
#include <stdbool.h>
#include <stdint.h>

#include "link_rdma_impl.h"

#define FAKE_QUEUE 1024u
#define FAKE_MRS   16u

struct fake_send {
	struct ibv_send_wr wr;
	struct ibv_sge sge[RDMA_SGES];
	uint8_t inlined[RDMA_MESSAGE_BYTES];
};

struct fake_end {
	struct ibv_qp qp; /* first */
	struct ibv_cq cq;
	struct ibv_pd pd; /* of its queue pair; its device has others too */
	unsigned pds;     /* of those */
	struct fake_end *peer;

	struct fake_send *send; /* [send_head, send_tail) are to be done */
	uint32_t send_head, send_tail;
	uint32_t send_held; /* done, and held until a completion: as a device's queue is */
	struct ibv_sge *recv;
	uint64_t *recv_id;
	uint32_t recv_head, recv_tail;
	struct ibv_wc *wc;
	uint32_t wc_head, wc_tail;
	struct ibv_mr mr[FAKE_MRS];
	int access[FAKE_MRS];
	unsigned mrs;
	uint32_t keys; /* none is given twice */
	bool broken;   /* all that is posted is flushed */

	/* what the test asks for */
	unsigned post_most;     /* requests taken in one call; 0: all */
	int post_errno;         /* of the next post_send */
	int reg_errno;          /* of reg_mr */
	unsigned reg_good;      /* registrations before that */
	sem_t *reg_wait;        /* waited for in each reg_mr; NULL: none */
	bool stuck;             /* no send is done */
	uint32_t moves;         /* sends done in one poll, at most; 0: all */
	enum ibv_wc_status bad; /* that the next send completes with */
	uint64_t spoil_at;      /* of the bytes that it sends, from 1: one that changes; 0: none */
	uint8_t *keep;          /* they go there too; NULL: nowhere */
	const uint8_t *instead; /* these come in their place, as many; NULL: they themselves */
	/* what it saw */
	unsigned doorbells, sends, signalled, rnr;
	unsigned gathered; /* sends of several segments */
	uint32_t longest;  /* bytes of a write */
	uint64_t bytes;    /* sent */
	uint64_t advised_bytes;
	unsigned advised_wrong; /* not of on-demand memory */
	int advise_errno;       /* asked for */
	_Atomic unsigned reg_calls;
};

void fake_pair(struct fake_end *a, struct fake_end *b);
void fake_free(struct fake_end *e);
/* Completes a receive of this end with whatever: what a faulty peer sends. */
void fake_receive(struct fake_end *e, const void *data, uint32_t bytes, enum ibv_wc_opcode opcode,
	uint32_t imm, enum ibv_wc_status status);

extern const struct verbs verbs_fake;

/* A link of one end; and both ends, source first, connected. */
int fake_link(
	struct link **l, struct fake_end *e, bool source, uint32_t most_inline, struct err *err);
void fake_links(struct fake_end e[2], struct link *l[2], uint32_t most_inline);
/* Seals both, each direction with a key of its own, and other ones for each handshake. */
void fake_seal(struct link *l[2], uint8_t handshake);

#endif
