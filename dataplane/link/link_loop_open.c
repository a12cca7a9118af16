// SPDX-License-Identifier: BSD-3-Clause
// Makes and ends the loop link. Run by the one thread of a test.

#include "link_loop.h"

#include <errno.h>
#include <stdlib.h>

static void loop_free(struct loop *o)
{
	for (unsigned i = 0; i < LOOP_COPIES; i++)
		free(o->copy[i].payload);
	for (unsigned i = 0; i < LOOP_BURST; i++)
		free(o->payload[i]);
	free(o->slot);
	free(o->answer);
	free(o->done);
	free(o);
}

void link_loop_close(struct link *l)
{
	struct loop *o;
	struct link *other;

	if (l == NULL)
		return;
	o = loop_of(l);
	other = l == &o->source.link ? &o->target.link : &o->source.link;
	if (--o->open == 0) {
		loop_free(o);
		return;
	}
	// Segments belong to the end that closes.
	other->error = EPIPE;
	err_set(&other->why, EPIPE, "loop: the other end was closed");
}

int link_loop_pair(
	struct link **source, struct link **target, const struct link_loop_faults *f, struct err *e)
{
	struct loop *o = calloc(1, sizeof(*o));
	bool ok = o != NULL;

	if (ok) {
		o->slot = calloc(LINK_INFLIGHT, sizeof(*o->slot));
		o->answer = calloc(LOOP_ANSWERS, sizeof(*o->answer));
		o->done = calloc(LOOP_ANSWERS, sizeof(*o->done));
		ok = o->slot != NULL && o->answer != NULL && o->done != NULL;
		for (unsigned i = 0; i < LOOP_COPIES; i++)
			ok &= (o->copy[i].payload = malloc(FRAME_PAYLOAD_BYTES)) != NULL;
		for (unsigned i = 0; i < LOOP_BURST; i++)
			ok &= (o->payload[i] = malloc(FRAME_PAYLOAD_BYTES)) != NULL;
	}
	if (!ok) {
		if (o != NULL)
			loop_free(o);
		return err_set(e, ENOMEM, "loop: no memory for a flow");
	}
	o->open = 2;
	o->faults = *f;
	o->random = f->seed;
	o->source.loop = o->target.loop = o;
	o->source.link.ops = o->target.link.ops = &link_loop;
	*source = &o->source.link;
	*target = &o->target.link;
	return 0;
}
