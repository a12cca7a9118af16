// SPDX-License-Identifier: BSD-3-Clause
// The simulated network. Run by the simulations, one thread.
//
// Invariants: time never goes back; the same seed gives the same events.

#include "net.h"

#include <stdlib.h>
#include <string.h>

void net_init(struct net *n, uint64_t seed)
{
	memset(n, 0, sizeof(*n));
	n->seed.state = seed;
	n->now_ns = 1000000000; // not 0: nothing may depend on it
}

void net_free(struct net *n)
{
	for (size_t i = 0; i < n->n; i++)
		free(n->heap[i].d);
	free(n->heap);
	while (n->pool != NULL) {
		struct datagram *d = n->pool;

		n->pool = d->next;
		free(d);
	}
}

struct datagram *net_datagram(struct net *n)
{
	struct datagram *d = n->pool;

	if (d == NULL)
		d = malloc(sizeof(*d));
	else
		n->pool = d->next;
	if (d == NULL)
		abort();
	d->ce = false;
	d->len = 0;
	return d;
}

void net_drop(struct net *n, struct datagram *d)
{
	d->next = n->pool;
	n->pool = d;
}

static bool before(const struct net_event *a, const struct net_event *b)
{
	return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->order < b->order;
}

void net_at(struct net *n, uint64_t at_ns, net_fn fn, void *arg, struct datagram *d)
{
	size_t i = n->n++;
	struct net_event e = {at_ns < n->now_ns ? n->now_ns : at_ns, n->order++, fn, arg, d};

	if (n->n > n->room) {
		n->room = n->room == 0 ? 1024 : 2 * n->room;
		n->heap = realloc(n->heap, n->room * sizeof(*n->heap));
		if (n->heap == NULL)
			abort();
	}
	for (; i > 0 && before(&e, &n->heap[(i - 1) / 2]); i = (i - 1) / 2)
		n->heap[i] = n->heap[(i - 1) / 2];
	n->heap[i] = e;
}

static struct net_event pop(struct net *n)
{
	struct net_event first = n->heap[0], last = n->heap[--n->n];
	size_t i = 0;

	for (;;) {
		size_t c = 2 * i + 1;

		if (c >= n->n)
			break;
		if (c + 1 < n->n && before(&n->heap[c + 1], &n->heap[c]))
			c++;
		if (!before(&n->heap[c], &last))
			break;
		n->heap[i] = n->heap[c];
		i = c;
	}
	n->heap[i] = last;
	return first;
}

bool net_step(struct net *n)
{
	struct net_event e;

	if (n->n == 0)
		return false;
	e = pop(n);
	n->now_ns = e.at_ns;
	n->done++;
	e.fn(e.arg, e.d);
	return true;
}

bool net_chance(struct net *n, uint32_t parts)
{
	return parts != 0 && seed_below(&n->seed, 65536) < parts;
}

static const struct net_span *span_now(const struct net_wire *w, const struct net_span *spans)
{
	for (unsigned i = 0; i < NET_SPANS; i++)
		if (w->net->now_ns >= spans[i].from_ns && w->net->now_ns < spans[i].until_ns)
			return &spans[i];
	return NULL;
}

static bool is_lost(struct net_wire *w, uint32_t ip_bytes)
{
	const struct net_span *narrow = span_now(w, w->narrow);

	if (ip_bytes > w->mtu || (narrow != NULL && ip_bytes > narrow->value))
		return true;
	if (span_now(w, w->black) != NULL)
		return true;
	if (w->in_burst)
		w->in_burst = !net_chance(w->net, w->burst_end);
	else
		w->in_burst = net_chance(w->net, w->burst_begin);
	return w->in_burst || net_chance(w->net, w->lose);
}

static struct datagram *copy(struct net *n, const struct datagram *d)
{
	struct datagram *c = net_datagram(n);

	c->len = d->len;
	c->ce = d->ce;
	memcpy(c->bytes, d->bytes, d->len);
	return c;
}

static void spoil(struct net *n, struct datagram *d)
{
	if (d->len > 0 && seed_below(&n->seed, 4) == 0)
		d->len = seed_below(&n->seed, d->len);
	else if (d->len > 0)
		d->bytes[seed_below(&n->seed, d->len)] ^= (uint8_t)(1u << seed_below(&n->seed, 8));
}

// What somebody who does not know the token can send.
static void forge(struct net_wire *w, const struct datagram *d, uint64_t at, net_fn fn, void *arg)
{
	struct datagram *f = copy(w->net, d);

	if (f->len > 48 && seed_below(&w->net->seed, 2) == 0)
		seed_fill(&w->net->seed, f->bytes + 8, 40);
	else
		seed_fill(&w->net->seed, f->bytes, f->len < 200 ? f->len : 200);
	net_at(w->net, at, fn, arg, f);
}

// When a datagram that is queued now arrives; counts the queue.
static uint64_t arrival(struct net_wire *w, uint32_t ip_bytes)
{
	struct net *n = w->net;
	const struct net_span *slow = span_now(w, w->slow);
	uint64_t begin = w->free_ns > n->now_ns ? w->free_ns : n->now_ns;
	uint64_t at;

	w->free_ns = begin + (uint64_t)((double)ip_bytes * 1e9 / (double)w->bytes_per_s);
	at = w->free_ns + w->delay_ns + (slow != NULL ? slow->value : 0);
	if (w->jitter_ns != 0)
		at += seed_below(&n->seed, w->jitter_ns);
	if (at < w->last_ns)
		at = w->last_ns;
	w->last_ns = at;
	return at;
}

static uint64_t queued_bytes(const struct net_wire *w)
{
	uint64_t now = w->net->now_ns;

	if (w->free_ns <= now)
		return 0;
	return (uint64_t)((double)(w->free_ns - now) * (double)w->bytes_per_s / 1e9);
}

void net_send(struct net_wire *w, struct datagram *d, uint32_t ip_bytes, net_fn fn, void *arg)
{
	struct net *n = w->net;
	uint64_t queued = queued_bytes(w), at;

	if (is_lost(w, ip_bytes)) {
		net_drop(n, d);
		return;
	}
	if (n->now_ns >= w->watch_ns) {
		w->most_queued = queued > w->most_queued ? queued : w->most_queued;
		w->sum_queued += queued;
		w->nqueued++;
	}
	if (queued + ip_bytes > w->queue_bytes) {
		w->dropped++;
		net_drop(n, d);
		return;
	}
	d->ce = w->mark_bytes != 0 && queued > w->mark_bytes;
	at = arrival(w, ip_bytes);
	w->carried += ip_bytes;
	if (net_chance(n, w->duplicate))
		net_at(n, at + seed_below(&n->seed, 1000000), fn, arg, copy(n, d));
	if (net_chance(n, w->replay))
		net_at(n, at + seed_below(&n->seed, 3000000000), fn, arg, copy(n, d));
	if (net_chance(n, w->forge))
		forge(w, d, at, fn, arg);
	if (net_chance(n, w->corrupt))
		spoil(n, d);
	if (net_chance(n, w->overtake))
		at += seed_below(&n->seed, w->overtake_ns + 1);
	net_at(n, at, fn, arg, d);
}
