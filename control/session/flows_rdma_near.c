// SPDX-License-Identifier: BSD-3-Clause
// The source's side of target memory that is registered by turns: it asks for the windows that its
// flows will write next, and drops those that they are done with. Control loop only.
//
// What is next is what stands at the head of the claim queues: chunks are taken in that order.

#include "session_impl.h"

#include "plant.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define NEAR_SPANS 1024u /* looked at in one turn */

/* Lower-case hexadecimal of so many digits. */
static bool read_hex(const json_t *text, size_t digits, uint64_t *v)
{
	const char *s = json_string_value(text);

	return s != NULL && strlen(s) == digits && strspn(s, "0123456789abcdef") == digits &&
	       sscanf(s, "%" SCNx64, v) == 1;
}

static bool read_plan(
	const json_t *told, unsigned nregions, struct link_rdma_pool_plan *p, struct err *e)
{
	const json_t *bases = json_object_get(told, "base");
	json_int_t window = json_integer_value(json_object_get(told, "window"));
	json_int_t most = json_integer_value(json_object_get(told, "most"));

	if (window <= 0 || most <= 0 || most > UINT32_MAX || json_array_size(bases) != nregions) {
		err_set(e, EPROTO, "the target's daemon told windows of its memory that are none");
		return false;
	}
	p->window_bytes = (uint64_t)window;
	p->most = (uint32_t)most;
	for (unsigned i = 0; i < nregions; i++) {
		const json_t *base = json_array_get(bases, i);

		if (json_is_null(base))
			continue;
		p->there[i] = read_hex(base, 16, &p->base[i]);
		if (p->there[i])
			continue;
		err_set(e, EPROTO, "the target's daemon told an address of region %u that is none",
			i);
		return false;
	}
	return true;
}

int flows_rdma_take_turns(struct session *s, const json_t *told, struct err *e)
{
	struct link_rdma_pool_plan plan = {0};

	if (!read_plan(told, s->vmm->map.n, &plan, e) ||
		link_rdma_pool_new(&s->rdma.pool, &s->vmm->map, &plan, s->opt.flows, e) < 0)
		return -e->errnum;
	s->rdma.turns.window_bytes = plan.window_bytes;
	s->rdma.turns.most = plan.most;
	watch_text(s, LOG_INFO,
		"rdma: the target may not lock all of the guest (RLIMIT_MEMLOCK): %u windows of "
		"%llu MiB are registered at a time; others' pages go through slots",
		plan.most, (unsigned long long)plan.window_bytes >> 20);
	return 0;
}

static bool take_key(struct link_rdma_pool *p, const json_t *one)
{
	const json_t *window = json_array_get(one, 0), *key = json_array_get(one, 1);
	json_int_t i = json_integer_value(window);
	uint64_t rkey;

	if (json_array_size(one) != 2 || !json_is_integer(window) || i < 0)
		return false;
	if (json_is_null(key))
		return link_rdma_pool_refused(p, (uint64_t)i) == 0;
	if (!read_hex(key, 8, &rkey))
		return false;
	if (plant(PLANT_RDMA_BAD_KEY))
		rkey ^= 0xff00;
	return link_rdma_pool_registered(p, (uint64_t)i, (uint32_t)rkey) == 0;
}

void flows_rdma_hear_keys(struct session *s, json_t *msg)
{
	const json_t *keys = json_object_get(msg, "keys"), *one;
	size_t i;

	json_array_foreach(keys, i, one)
	{
		if (s->rdma.pool == NULL || !take_key(s->rdma.pool, one))
			break;
	}
	if (json_array_size(keys) == 0 || i < json_array_size(keys))
		session_failf(s, EPROTO,
			"the target's daemon told a key of its memory that is none, or that nobody "
			"asked for");
}

static uint64_t chunk_of(const struct session *s, const struct span *span)
{
	return span->chunk - s->vmm->map.r[span->region].first_chunk;
}

/* What flows have taken of late is in their hands. */
static void look_back(struct session *s)
{
	const struct claim *c = &s->claim;
	struct span span;

	for (unsigned node = 0; node < c->nnodes; node++)
		for (int64_t i = 1; i <= (int64_t)s->nflows && claim_peek(c, node, -i, &span); i++)
			link_rdma_pool_hold(
				s->rdma.pool, span.region, chunk_of(s, &span), span.nchunks);
}

static void look_ahead(struct session *s)
{
	const struct claim *c = &s->claim;
	unsigned left = NEAR_SPANS;
	struct span span;
	bool any = true;

	for (int64_t i = 0; any; i++) {
		any = false;
		for (unsigned node = 0; node < c->nnodes; node++) {
			if (!claim_peek(c, node, i, &span))
				continue;
			if (left-- == 0 || !link_rdma_pool_near(s->rdma.pool, span.region,
						   chunk_of(s, &span), span.nchunks))
				return;
			any = true;
		}
	}
}

static json_t *list(const uint32_t *window, unsigned n)
{
	json_t *l = json_array();

	for (unsigned i = 0; i < n; i++)
		json_array_append_new(l, json_integer(window[i]));
	return l;
}

/* Of encoded pages few go to their place. */
static bool writes(const struct session *s)
{
	return s->opt.codec == &codec_raw || s->opt.codec == &codec_auto;
}

void flows_rdma_near(struct session *s)
{
	struct link_rdma_pool_ask ask;

	if (s->rdma.pool == NULL || s->conn == NULL || s->leaving || !writes(s))
		return;
	look_back(s);
	/* With the guest paused nobody waits until a device has registered more. What is there
	 * stays in use, and what is to go still goes. */
	if (!s->paused)
		look_ahead(s);
	if (link_rdma_pool_turn(s->rdma.pool, &ask))
		conn_send(s->conn,
			json_pack("{s:s, s:o, s:o}", "op", "rdma_windows", "drop",
				list(ask.drop, ask.ndrop), "want", list(ask.want, ask.nwant)));
	flows_rdma_count_turns(s);
}

void flows_rdma_count_turns(struct session *s)
{
	const struct link_rdma_pool *p = s->rdma.pool;
	struct session_turns *t = &s->rdma.turns;

	if (p == NULL)
		return;
	t->asked = p->counts.asked;
	t->dropped = p->counts.dropped;
	t->refused = p->counts.refused;
	s->rdma.figures.bytes = p->counts.most_held * t->window_bytes;
}
