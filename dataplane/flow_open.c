// SPDX-License-Identifier: BSD-3-Clause
// Makes and frees flows. Run by control threads.

#include "flow.h"

#include "clock.h"
#include "guard.h"
#include "mem.h"
#include "recv.h"
#include "send.h"
#include "zero.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

// Content packed in one turn. Raw: what was summed is still in the core's L2 when the link copies
// it (but under --codec auto, which lets more wait), and never more piles up on the way than the
// target takes at a time; 2 MiB a turn cost twice the cycles on both sides. What a codec made
// counts twice: some 0.5 ms, so that the flows of one core share it.
#define TURN_BYTES (512u << 10)

int send_new(struct flow *f, struct send_job *job, int node, struct err *e)
{
	struct send *s = mem_new(sizeof(*s), node);
	int rc;

	if (s == NULL)
		return err_set(e, ENOMEM, "no memory for a flow");
	s->flow = f;
	s->job = job;
	rc = pack_open(&s->pack, job, f->link, &f->stats, node, e);
	if (rc < 0) {
		mem_free(s, sizeof(*s));
		return rc;
	}
	s->pack.sealed = f->link->sealed;
	f->link->wants_held = s->pack.automatic != NULL;
	s->turn_bytes = TURN_BYTES;
	pace_init(&s->pace, clock_cycles_hz());
	f->priv = s;
	return 0;
}

void send_free(struct send *s)
{
	if (s == NULL)
		return;
	pack_close(&s->pack);
	mem_free(s, sizeof(*s));
}

int recv_new(struct flow *f, struct recv_job *job, int node, struct err *e)
{
	struct recv *r = mem_new(sizeof(*r), node);
	int rc = 0;

	if (r == NULL)
		return err_set(e, ENOMEM, "no memory for a flow");
	r->flow = f;
	r->job = job;
	r->pages = mem_new_guarded(CHUNK_BYTES, node);
	if (r->pages == NULL)
		rc = err_set(e, ENOMEM, "no memory for the decode buffer of a flow");
	for (const struct codec_ops *const *c = codec_table; rc == 0 && *c != NULL; c++)
		if ((*c)->decode != NULL)
			rc = (*c)->open(&r->codec[(*c)->id], (*c)->level_default, node, e);
	if (rc < 0) {
		recv_free(r);
		return rc;
	}
	r->sink = (struct link_sink){recv_begin, recv_came, r};
	f->link->sink = &r->sink;
	f->priv = r;
	return 0;
}

void recv_free(struct recv *r)
{
	if (r == NULL)
		return;
	for (unsigned i = 0; i < CODEC_IDS; i++)
		if (r->codec[i] != NULL)
			r->codec[i]->ops->close(r->codec[i]);
	mem_free_guarded(r->pages, CHUNK_BYTES);
	mem_free(r, sizeof(*r));
}

static struct flow *flow_alloc(enum flow_kind kind, struct link *link, unsigned lcore, int node)
{
	struct flow *f = mem_new(sizeof(*f), node);

	if (f == NULL)
		return NULL;
	f->kind = kind;
	f->link = link;
	f->lcore = lcore;
	f->node = node < 0 ? 0 : (unsigned)node;
	zero_init();
	atomic_init(&f->run_pass, FLOW_NO_PASS);
	atomic_init(&f->done_pass, FLOW_NO_PASS);
	return f;
}

static int flow_ready(struct flow **out, struct flow *f, int rc, struct err *e)
{
	if (rc == 0) {
		rc = guard_install();
		if (rc < 0)
			err_sys(e, -rc, "cannot handle SIGBUS");
	}
	if (rc < 0) {
		flow_free(f);
		return rc;
	}
	*out = f;
	return 0;
}

int flow_send_new(struct flow **out, struct send_job *job, struct link *link, unsigned lcore,
	int node, struct err *e)
{
	struct flow *f = flow_alloc(FLOW_SEND, link, lcore, node);

	if (f == NULL) {
		link->ops->close(link);
		return err_set(e, ENOMEM, "no memory for a flow");
	}
	return flow_ready(out, f, send_new(f, job, node, e), e);
}

int flow_recv_new(struct flow **out, struct recv_job *job, struct link *link, unsigned lcore,
	int node, struct err *e)
{
	struct flow *f = flow_alloc(FLOW_RECV, link, lcore, node);

	if (f == NULL) {
		link->ops->close(link);
		return err_set(e, ENOMEM, "no memory for a flow");
	}
	return flow_ready(out, f, recv_new(f, job, node, e), e);
}

void flow_begin_at(struct flow *f, uint32_t pass)
{
	// FLOW_NO_PASS is one below pass 0.
	atomic_store_explicit(&f->done_pass, pass - 1, memory_order_relaxed);
	if (f->kind == FLOW_RECV)
		((struct recv *)f->priv)->pass = pass;
}

void flow_free(struct flow *f)
{
	if (f == NULL)
		return;
	if (f->kind == FLOW_SEND)
		send_free(f->priv);
	else
		recv_free(f->priv);
	f->link->ops->close(f->link);
	mem_free(f, sizeof(*f));
}
