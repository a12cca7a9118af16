// SPDX-License-Identifier: BSD-3-Clause
// Memory for session_rig.h that is registered by turns, with no device and no thread: what is asked
// for is done when the fuzzer says so. Holds what is registered against what may be. Run by
// libFuzzer's one thread.

#include "session_rig.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "link_rdma_memory.h"

#define MOST 2u /* of four windows */

static struct ibv_mr registered = {.rkey = 0x77};
static unsigned nregistered;

void rig_turns(struct session *s)
{
	struct link_rdma_memory *m = calloc(1, sizeof(*m));

	if (m == NULL)
		abort();
	m->n = 1;
	m->area[0] = (struct rdma_area){rig_map.r[0].base, RIG_RAM_BYTES, CHUNK_BYTES, 1, -1, 0};
	m->npieces = RIG_RAM_BYTES / CHUNK_BYTES;
	m->piece = calloc(m->npieces, sizeof(*m->piece));
	m->turns = (struct rdma_turns){.window_bytes = CHUNK_BYTES, .most = MOST};
	sem_init(&m->end, 0, 0);
	if (m->piece == NULL || rdma_turns_new(m) < 0)
		abort();
	nregistered = 0;
	s->rdma.memory = m;
	s->rdma.turns = (struct session_turns){.window_bytes = CHUNK_BYTES, .most = MOST};
	s->nflows = s->flows_up = 1;
}

/* What the memory's thread would do. */
static void do_one(struct link_rdma_memory *m, uint32_t at, bool refuse)
{
	struct rdma_job *job = &m->turns.job[at % (2 * m->turns.most)];
	struct rdma_piece *p = &m->piece[job->piece];

	if (job->want == (p->mr != NULL))
		abort();
	job->rc = job->want && refuse ? -ENOMEM : 0;
	p->mr = job->want && !refuse ? &registered : NULL;
	nregistered += p->mr != NULL;
	nregistered -= !job->want;
	if (nregistered > MOST)
		abort();
	atomic_store(&m->turns.done, at + 1);
}

void rig_register(struct session *s, bool refuse)
{
	struct link_rdma_memory *m = s->rdma.memory;

	if (m == NULL)
		return;
	for (uint32_t at = atomic_load(&m->turns.done); at != m->turns.posted; at++)
		do_one(m, at, refuse);
	(void)flows_rdma_say_windows(s);
}

void rig_turns_end(struct session *s)
{
	struct link_rdma_memory *m = s->rdma.memory;

	s->rdma.memory = NULL;
	if (m == NULL)
		return;
	sem_destroy(&m->end);
	free(m->turns.job);
	free(m->piece);
	free(m);
}
