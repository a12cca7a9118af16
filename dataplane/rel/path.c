// SPDX-License-Identifier: BSD-3-Clause
// The path's MTU. Run by the source's polling core.
//
// Invariants: base <= mtu <= above <= most. Only an acknowledged packet raises mtu. One probe is in
// flight at a time; its loss is never taken for congestion.

#include "path.h"

#include <string.h>

#define TRIES        3u  // RFC 8899, MAX_PROBES
#define STEP_BYTES   32u // closer than this is close enough
#define COMMON_BYTES 1500u
#define AGAIN_NS     UINT64_C(60000000000) // a path may have got better
#define HOLE_PACKETS 16u                   // large ones lost in a row: at 30 % loss one in 10^8
#define HOLE_ROUNDS  3u

static void search(struct path *p)
{
	p->above = p->most;
	p->size = p->most;
	p->tries = 0;
	p->flying = false;
}

void path_init(struct path *p, uint32_t base, uint32_t most)
{
	memset(p, 0, sizeof(*p));
	p->base = base < most ? base : most;
	p->most = most;
	p->mtu = p->base;
	search(p);
}

// The next size between what works and what may work.
static void narrow(struct path *p, uint64_t now_ns)
{
	p->tries = 0;
	if (p->above - p->mtu < STEP_BYTES) {
		p->above = p->mtu;
		p->again_ns = now_ns + AGAIN_NS;
		return;
	}
	if (p->mtu < COMMON_BYTES && p->above > COMMON_BYTES)
		p->size = COMMON_BYTES;
	else
		p->size = p->mtu + (p->above - p->mtu + 1) / 2;
}

uint32_t path_probe(struct path *p, uint64_t now_ns)
{
	if (p->flying || p->mtu == p->most || now_ns < p->again_ns)
		return 0;
	if (p->above == p->mtu)
		search(p);
	return p->size;
}

void path_probe_sent(struct path *p, uint64_t number)
{
	p->flying = true;
	p->number = number;
}

bool path_acked(struct path *p, uint64_t number, uint32_t size, uint64_t now_ns)
{
	if (size > p->base)
		p->vanished = 0;
	if (!p->flying || number != p->number)
		return false;
	p->flying = false;
	p->mtu = size;
	narrow(p, now_ns);
	return true;
}

bool path_lost(struct path *p, uint64_t number, uint32_t size, uint64_t now_ns, uint64_t rtt_ns)
{
	if (p->flying && number == p->number) {
		p->flying = false;
		if (++p->tries >= TRIES) {
			p->above = p->size - 1 > p->mtu ? p->size - 1 : p->mtu;
			narrow(p, now_ns);
		}
		return false;
	}
	if (size <= p->base || p->mtu == p->base)
		return false;
	if (p->vanished++ == 0)
		p->vanished_ns = now_ns;
	if (p->vanished < HOLE_PACKETS || now_ns - p->vanished_ns < HOLE_ROUNDS * rtt_ns)
		return false;
	p->mtu = p->base;
	p->vanished = 0;
	p->again_ns = now_ns + HOLE_ROUNDS * rtt_ns;
	search(p);
	return true;
}
