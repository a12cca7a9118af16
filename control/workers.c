// SPDX-License-Identifier: BSD-3-Clause
// The cores that move pages. Run by main at the start; later only asked how busy they are.

#include "workers.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>

#include "clock.h"
#include "cores.h"
#include "expo.h"
#include "log.h"
#include "telemetry.h"

static void say(const struct cores *cores, const cpu_set_t *may_use, enum lcore_idle idle)
{
	log_info("godwitd", "pages are moved on CPU %s (%s), which %s when idle", cores->list,
		cores->why, idle == LCORE_IDLE_POLL ? "polls" : "yields");
	if (CPU_COUNT(may_use) == 1)
		log_warn("godwitd",
			"one CPU only: guests, their VMMs and the data path share it, so a "
			"migration is slow and disturbs them");
	else if (cores->shared[0] != '\0')
		log_warn("godwitd",
			"CPU %s %s not isolated from other work, which delays pages, and is "
			"delayed "
			"by them; `godwit doctor` tells more",
			cores->shared, strchr(cores->shared, ',') != NULL ? "are" : "is");
}

/* Worker lcores inherit the mask, so that signals reach the control loop only. */
int workers_start(
	const struct option_set *o, struct ports *ports, struct eal_info *info, struct err *e)
{
	const char *idle = option_text(o, "idle");
	char isolated[CORES_TEXT];
	struct eal_config c = {0};
	struct cores cores;
	cpu_set_t may_use, near;
	sigset_t stop, before;
	int rc;

	if (sched_getaffinity(0, sizeof(may_use), &may_use) != 0)
		return err_sys(e, errno, "cannot tell which CPUs may be used");
	cores_isolated(isolated);
	cores_near(&near, ports_nodes(ports));
	rc = cores_choose(&cores, option_text(o, "cores"), &may_use, isolated, &near, e);
	if (rc < 0)
		return rc;
	c.cores = cores.list;
	/* 0 where nobody said how much: then by what the ports need. */
	c.mem_mb = (unsigned)(option_number(o, "memory") >> 20);
	c.huge = strcmp(option_text(o, "huge"), "yes") == 0;
	c.no_huge = strcmp(option_text(o, "huge"), "no") == 0;
	c.idle = strcmp(idle, "poll") == 0 || (strcmp(idle, "auto") == 0 && cores.isolated)
			 ? LCORE_IDLE_POLL
			 : LCORE_IDLE_YIELD;
	c.telemetry = option_number(o, "telemetry") != 0;
	say(&cores, &may_use, c.idle);
	ports_need(ports, &c);
	sigemptyset(&stop);
	sigaddset(&stop, SIGTERM);
	sigaddset(&stop, SIGINT);
	sigaddset(&stop, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &stop, &before);
	rc = eal_start(&c, info, e);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (rc == 0)
		log_info("godwitd", "%s", info->chose);
	if (rc == 0 && c.telemetry)
		rc = telemetry_start(e);
	return rc;
}

json_t *workers_status(void)
{
	const double hz = (double)clock_cycles_hz();
	json_t *cores = json_array();

	for (unsigned i = 1; i <= lcore_count(); i++)
		json_array_append_new(
			cores, json_pack("{s:i, s:i, s:i, s:f, s:f}", "lcore", (int)i, "cpu",
				       (int)lcore_cpu(i), "node", (int)lcore_node(i), "busy_s",
				       (double)lcore_busy_cycles(i) / hz, "idle_s",
				       (double)lcore_idle_cycles(i) / hz));
	return cores;
}

static void put_cores(FILE *out, const char *name, const char *help, uint64_t (*cycles)(unsigned))
{
	const double hz = (double)clock_cycles_hz();

	expo_family(out, name, "counter", help);
	for (unsigned i = 1; i <= lcore_count(); i++) {
		char lcore[12], cpu[12], node[12];

		snprintf(lcore, sizeof(lcore), "%u", i);
		snprintf(cpu, sizeof(cpu), "%u", lcore_cpu(i));
		snprintf(node, sizeof(node), "%u", lcore_node(i));
		expo_number(out, name, "_total", (double)cycles(i) / hz, "lcore", lcore, "cpu", cpu,
			"node", node, NULL);
	}
}

void workers_metrics(void *arg, FILE *out)
{
	(void)arg;
	put_cores(out, "godwit_core_busy_seconds", "time that a core moved something",
		lcore_busy_cycles);
	put_cores(out, "godwit_core_idle_seconds", "time that a core polled and found nothing",
		lcore_idle_cycles);
}
