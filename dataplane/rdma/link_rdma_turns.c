// SPDX-License-Identifier: BSD-3-Clause
// A target's guest memory, of which not all may be locked at a time: windows are registered, and
// taken back, as the source asks. Run by the control loop, but for rdma_turns_work() and what it
// calls, which the memory's thread runs.
//
// Invariants: jobs are done in order, and a dropped window's comes before that of the one in its
// place: no more than most are registered at a time, whatever the source says. A window is dropped
// only once its key was told, so no more than most drops, and most wants, are under way.

#include "link_rdma_memory.h"

#include "clock.h"

#include <errno.h>
#include <stdlib.h>

enum { ABSENT, ASKED, THERE }; // rdma_piece.turn

static uint32_t jobs_most(const struct link_rdma_memory *m)
{
	return 2 * m->turns.most;
}

// Pieces are what they will be each time.
static void lay_out(struct link_rdma_memory *m, const struct rdma_area *a)
{
	struct rdma_piece *p = &m->piece[a->first];

	for (uint64_t at = 0; a->base != NULL && at < a->bytes; at += a->window_bytes, p++) {
		p->base = a->base + at;
		p->bytes = a->bytes - at < a->window_bytes ? a->bytes - at : a->window_bytes;
	}
}

int rdma_turns_new(struct link_rdma_memory *m)
{
	if (m->turns.most > m->npieces)
		m->turns.most = m->npieces > 0 ? m->npieces : 1;
	for (unsigned i = 0; i < m->n; i++)
		lay_out(m, &m->area[i]);
	m->turns.job = calloc(jobs_most(m), sizeof(*m->turns.job));
	return m->turns.job != NULL ? 0 : -ENOMEM;
}

int link_rdma_memory_turns(struct link_rdma_memory **out, struct link_rdma_domain *domain,
	struct region_map *map, const bool which[REGION_MAX], uint64_t window_bytes, uint32_t most,
	struct err *e)
{
	const struct rdma_turns turns = {.window_bytes = window_bytes, .most = most};

	return rdma_memory_new(out, domain, map, which, NULL, &turns, e);
}

void rdma_memory_wait(sem_t *s)
{
	while (sem_wait(s) != 0) // signals are not this thread's, but debuggers interrupt
		;
}

static void do_job(struct link_rdma_memory *m, struct rdma_job *job)
{
	struct rdma_piece *p = &m->piece[job->piece];
	uint64_t began = clock_ns();

	if (job->want)
		job->rc = rdma_memory_register(m, p);
	else
		rdma_memory_deregister(m, p);
	atomic_fetch_add_explicit(
		job->want ? &m->ns : &m->end_ns, clock_ns() - began, memory_order_relaxed);
}

void rdma_turns_work(struct link_rdma_memory *m)
{
	struct rdma_turns *t = &m->turns;

	for (uint32_t at = 0;; at++) {
		rdma_memory_wait(&m->end);
		if (atomic_load_explicit(&m->stop, memory_order_relaxed))
			return;
		/* Control has filled the job in before it posted. */
		do_job(m, &t->job[at % jobs_most(m)]);
		/* release: pairs with the acquire in next_done() */
		atomic_store_explicit(&t->done, at + 1, memory_order_release);
	}
}

static int post(struct link_rdma_memory *m, uint32_t piece, bool want)
{
	struct rdma_turns *t = &m->turns;

	if (t->posted - t->taken == jobs_most(m))
		return -EPROTO;
	t->job[t->posted++ % jobs_most(m)] = (struct rdma_job){piece, want, 0};
	sem_post(&m->end);
	return 0;
}

int link_rdma_memory_want(struct link_rdma_memory *m, uint64_t window)
{
	int rc;

	if (window >= m->npieces || m->piece[window].turn != ABSENT ||
		m->turns.held >= m->turns.most)
		return -EPROTO;
	rc = post(m, (uint32_t)window, true);
	if (rc < 0)
		return rc;
	m->piece[window].turn = ASKED;
	m->turns.held++;
	return 0;
}

int link_rdma_memory_drop(struct link_rdma_memory *m, uint64_t window)
{
	int rc;

	if (window >= m->npieces || m->piece[window].turn != THERE)
		return -EPROTO;
	rc = post(m, (uint32_t)window, false);
	if (rc < 0)
		return rc;
	m->piece[window].turn = ABSENT;
	m->turns.held--;
	return 0;
}

// NULL: none.
static const struct rdma_job *next_done(struct link_rdma_memory *m)
{
	struct rdma_turns *t = &m->turns;

	/* acquire: pairs with the thread's release; the job and its piece are as it left them */
	if (t->taken == atomic_load_explicit(&t->done, memory_order_acquire))
		return NULL;
	return &t->job[t->taken++ % jobs_most(m)];
}

bool link_rdma_memory_said(struct link_rdma_memory *m, struct link_rdma_said *said)
{
	const struct rdma_job *job = next_done(m);

	while (job != NULL && !job->want)
		job = next_done(m);
	if (job == NULL)
		return false;
	*said = (struct link_rdma_said){.window = job->piece, .refused = -job->rc};
	m->piece[job->piece].turn = job->rc == 0 ? THERE : ABSENT;
	if (job->rc == 0)
		said->rkey = m->piece[job->piece].mr->rkey;
	else
		m->turns.held--;
	return true;
}

bool link_rdma_memory_busy(const struct link_rdma_memory *m)
{
	return m->turns.taken != m->turns.posted;
}

bool link_rdma_memory_forget(struct link_rdma_memory *m)
{
	struct link_rdma_said unused;

	while (link_rdma_memory_said(m, &unused))
		;
	if (link_rdma_memory_busy(m))
		return false;
	for (uint32_t i = 0; m->turns.held > 0 && i < m->npieces; i++)
		if (m->piece[i].turn == THERE)
			(void)link_rdma_memory_drop(m, i);
	return !link_rdma_memory_busy(m);
}
