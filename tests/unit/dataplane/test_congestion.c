// SPDX-License-Identifier: BSD-3-Clause
// The window of a flow where its simulations don't look: round trips that cores took most of.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "clock.h"
#include "congestion.h"

#define MSS (UINT64_C(1400))

// After a cut of seconds the last round trip that the network alone took is long ago, and was long.
// On cores that others share no sample is a good one for a while: the flow must grow all the same.
static void blind_rounds_do_not_hold_it_down(void **state)
{
	const uint64_t rtt = 2 * NS_PER_MS;
	uint64_t now = NS_PER_S, least;
	struct congestion c;

	(void)state;
	congestion_init(&c, NS_PER_MS / 2, NS_PER_MS, MSS, 10000 * MSS);
	for (unsigned i = 0; i < 50; i++)
		congestion_sample(&c, now += rtt, 40 * NS_PER_MS, 0);
	congestion_collapse(&c);
	c.slow_start = false;
	least = c.window_bytes;
	for (unsigned round = 0; round < 300; round++) {
		now += rtt;
		congestion_sample(&c, now, rtt, rtt * 3 / 4);
		c.acked = 4;
		// What is paced into a round trip fills the window, or it does not.
		c.limited =
			(double)congestion_rate(&c) * (double)rtt / 1e9 >= (double)c.window_bytes;
		congestion_round(&c);
	}
	assert_true(c.window_bytes > 20 * least);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(blind_rounds_do_not_hold_it_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
