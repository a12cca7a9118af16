// SPDX-License-Identifier: BSD-3-Clause
// The token bucket. Run by the polling core of its flow.
//
// Invariant: over any time t no more than t * rate + one burst + one batch of frames goes out.

#include "pace.h"

#include <string.h>

// The bucket holds as much as goes in this time: short enough that other traffic on the wire does
// not notice, long enough for a core that is shared.
#define PACE_BURST_PART 100 // of a second: 10 ms

void pace_init(struct pace *p, uint64_t hz)
{
	memset(p, 0, sizeof(*p));
	p->hz = hz;
}

bool pace_ready(struct pace *p, uint64_t bytes_per_s, uint64_t now_cycles)
{
	uint64_t cycles = now_cycles - p->then;
	int64_t most = (int64_t)(bytes_per_s / PACE_BURST_PART);

	if (bytes_per_s == 0)
		return true;
	if (bytes_per_s != p->bytes_per_s) {
		p->bytes_per_s = bytes_per_s;
		p->left_bytes = 0;
		p->then = now_cycles;
		return false;
	}
	// More than a second fills the bucket many times over, and would overflow the product.
	if (cycles > p->hz)
		cycles = p->hz;
	// Fractions of a byte stay in `then`: refill only once they are small against the whole.
	if (cycles * 1000 >= p->hz) {
		p->left_bytes += (int64_t)((unsigned __int128)cycles * bytes_per_s / p->hz);
		p->then = now_cycles;
		if (p->left_bytes > most)
			p->left_bytes = most;
	}
	return p->left_bytes > 0;
}

double pace_pressure(const struct pace *p, uint64_t bytes_per_s)
{
	double most = (double)(bytes_per_s / PACE_BURST_PART);

	if (bytes_per_s == 0 || most < 1)
		return -1;
	return p->left_bytes < 0 ? 1 : 1 - 2 * (double)p->left_bytes / most;
}
