// SPDX-License-Identifier: BSD-3-Clause
// Commands of DPDK's telemetry socket. The commands run on DPDK's telemetry thread; publishing on
// the control thread. They share words that only control writes, one by one: each is true by
// itself, and they may be of two moments.

#include "telemetry.h"

#include <errno.h>
#include <rte_telemetry.h>
#include <stdio.h>
#include <string.h>

#include "lcore.h"

static _Atomic uint64_t published[2][STATS]; /* control: wo, telemetry: ro */

void telemetry_publish(uint64_t sum[2][STATS])
{
	for (unsigned d = 0; d < 2; d++)
		for (unsigned i = 0; i < STATS; i++)
			atomic_store_explicit(&published[d][i], sum[d][i], memory_order_relaxed);
}

static int on_counters(const char *cmd, const char *params, struct rte_tel_data *data)
{
	unsigned d = params != NULL && strcmp(params, "target") == 0;

	(void)cmd;
	if (params == NULL || (!d && strcmp(params, "source") != 0))
		return -EINVAL;
	rte_tel_data_start_dict(data);
	for (unsigned i = 0; i < STATS; i++)
		rte_tel_data_add_dict_u64(data, stats_name[i],
			atomic_load_explicit(&published[d][i], memory_order_relaxed));
	return 0;
}

static int on_help(const char *cmd, const char *params, struct rte_tel_data *data)
{
	(void)cmd;
	(void)params;
	rte_tel_data_start_dict(data);
	for (unsigned i = 0; i < STATS; i++)
		rte_tel_data_add_dict_string(data, stats_name[i], stats_help[i]);
	return 0;
}

static int on_cores(const char *cmd, const char *params, struct rte_tel_data *data)
{
	(void)cmd;
	(void)params;
	rte_tel_data_start_dict(data);
	for (unsigned i = 1; i <= lcore_count(); i++) {
		struct rte_tel_data *core = rte_tel_data_alloc();
		char name[12];

		if (core == NULL)
			return -ENOMEM;
		snprintf(name, sizeof(name), "%u", i);
		rte_tel_data_start_dict(core);
		rte_tel_data_add_dict_u64(core, "cpu", lcore_cpu(i));
		rte_tel_data_add_dict_u64(core, "node", lcore_node(i));
		rte_tel_data_add_dict_u64(core, "busy_cycles", lcore_busy_cycles(i));
		rte_tel_data_add_dict_u64(core, "idle_cycles", lcore_idle_cycles(i));
		rte_tel_data_add_dict_container(data, name, core, 0);
	}
	return 0;
}

int telemetry_start(struct err *e)
{
	static const struct {
		const char *name, *help;
		telemetry_cb fn;
	} commands[] = {
		{"/godwit/counters",
			"Counters of all flows since the start. Parameter: source or target",
			on_counters},
		{"/godwit/cores", "Worker cores: CPU, node, cycles. No parameters", on_cores},
		{"/godwit/help", "What each counter counts. No parameters", on_help},
	};

	for (unsigned i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		int rc = rte_telemetry_register_cmd(
			commands[i].name, commands[i].fn, commands[i].help);

		if (rc < 0)
			return err_sys(
				e, -rc, "cannot add %s to DPDK's telemetry", commands[i].name);
	}
	return 0;
}
