// SPDX-License-Identifier: BSD-3-Clause
// A stand-in for EAL and its lcores, so that godwitd starts at once and anywhere.

#include "lcore.h"
#include "telemetry.h"

#include <stdio.h>
#include <string.h>

int eal_start(const struct eal_config *c, struct eal_info *info, struct err *e)
{
	memset(info, 0, sizeof(*info));
	if (c->huge)
		return err_set(e, 12, "the stub has no huge pages");
	info->nlcores = 1;
	snprintf(info->chose, sizeof(info->chose), "%u MiB of no memory at all", c->mem_mb);
	return 0;
}

void eal_stop(void)
{
}

unsigned lcore_cpu(unsigned lcore)
{
	return lcore;
}

unsigned lcore_node(unsigned lcore)
{
	(void)lcore;
	return 0;
}

unsigned lcore_count(void)
{
	return 1;
}

void lcore_park(void)
{
}

uint64_t lcore_busy_cycles(unsigned lcore)
{
	return lcore;
}

uint64_t lcore_idle_cycles(unsigned lcore)
{
	return lcore;
}

int telemetry_start(struct err *e)
{
	(void)e;
	return 0;
}

void telemetry_publish(uint64_t sum[2][STATS])
{
	(void)sum;
}
