// SPDX-License-Identifier: BSD-3-Clause
// Which CPUs move pages. cores_choose() is pure. Run by main before EAL starts.

#include "cores.h"

#include "sysfs.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Reads one CPU number; -1 if there is none, or it is out of a set's range. */
static int read_cpu(const char **at)
{
	char *end;
	long n;

	if (!isdigit((unsigned char)**at))
		return -1;
	n = strtol(*at, &end, 10);
	*at = end;
	return n < CPU_SETSIZE ? (int)n : -1;
}

int cores_parse(const char *list, cpu_set_t *set)
{
	const char *at = list;

	CPU_ZERO(set);
	while (*at != '\0') {
		int first = read_cpu(&at), last = first;

		if (first >= 0 && *at == '-') {
			at++;
			last = read_cpu(&at);
		}
		if (first < 0 || last < first)
			return -EINVAL;
		for (int i = first; i <= last; i++)
			CPU_SET(i, set);
		if (*at == ',' && at[1] != '\0')
			at++;
		else if (*at != '\0')
			return -EINVAL;
	}
	return 0;
}

void cores_print(const cpu_set_t *set, char list[CORES_TEXT])
{
	size_t len = 0;

	list[0] = '\0';
	for (int i = 0; i < CPU_SETSIZE && len < CORES_TEXT - 8; i++)
		if (CPU_ISSET(i, set))
			len += (size_t)snprintf(
				list + len, CORES_TEXT - len, "%s%d", len ? "," : "", i);
}

static bool subset(const cpu_set_t *of, const cpu_set_t *set)
{
	cpu_set_t both;

	CPU_AND(&both, of, set);
	return CPU_EQUAL(&both, of);
}

static int take_wish(
	struct cores *c, const char *asked, const cpu_set_t *may_use, cpu_set_t *set, struct err *e)
{
	char allowed[CORES_TEXT];

	if (strlen(asked) >= CORES_TEXT || cores_parse(asked, set) < 0)
		return err_set(e, EINVAL, "cores: '%.60s' is no list of CPUs such as 2-5,8", asked);
	if (!subset(set, may_use)) {
		cores_print(may_use, allowed);
		return err_set(e, EINVAL,
			"cores: '%.60s' holds CPUs that may not be used; these may: %s", asked,
			allowed);
	}
	snprintf(c->list, sizeof(c->list), "%s", asked);
	snprintf(c->why, sizeof(c->why), "as asked for");
	return 0;
}

static int last_of(const cpu_set_t *set)
{
	int last = -1;

	for (int i = 0; i < CPU_SETSIZE; i++)
		if (CPU_ISSET(i, set))
			last = i;
	return last;
}

static int take_best(struct cores *c, const cpu_set_t *may_use, const cpu_set_t *alone,
	const cpu_set_t *near, cpu_set_t *set, struct err *e)
{
	cpu_set_t close;
	int last;

	CPU_AND(set, alone, may_use);
	CPU_AND(&close, set, near);
	if (CPU_COUNT(set) > 0) {
		bool pick = CPU_COUNT(&close) > 0;

		if (pick)
			*set = close;
		cores_print(set, c->list);
		snprintf(c->why, sizeof(c->why), "the isolated ones%s",
			pick ? " on the NUMA node of a port" : "");
		return 0;
	}
	CPU_AND(&close, may_use, near);
	last = last_of(CPU_COUNT(&close) > 0 ? &close : may_use);
	if (last < 0)
		return err_set(e, EINVAL, "cores: this process may use no CPU");
	CPU_ZERO(set);
	CPU_SET(last, set);
	snprintf(c->list, sizeof(c->list), "%d", last);
	snprintf(c->why, sizeof(c->why), "%s; choose with --cores",
		CPU_COUNT(may_use) == 1 ? "the only one, shared with the guests"
		: CPU_COUNT(&close) > 0 ? "the last one on the NUMA node of a port"
					: "the last one");
	return 0;
}

int cores_choose(struct cores *c, const char *asked, const cpu_set_t *may_use, const char *isolated,
	const cpu_set_t *near, struct err *e)
{
	cpu_set_t alone, set;
	int rc;

	memset(c, 0, sizeof(*c));
	if (cores_parse(isolated, &alone) < 0)
		CPU_ZERO(&alone);
	rc = asked[0] != '\0' ? take_wish(c, asked, may_use, &set, e)
			      : take_best(c, may_use, &alone, near, &set, e);
	if (rc < 0)
		return rc;
	c->isolated = subset(&set, &alone);
	for (int i = 0; i < CPU_SETSIZE; i++)
		if (CPU_ISSET(i, &alone))
			CPU_CLR(i, &set);
	cores_print(&set, c->shared);
	return 0;
}

void cores_near(cpu_set_t *near, uint64_t nodes)
{
	cpu_set_t node;

	CPU_ZERO(near);
	for (int i = 0; i < 64; i++) {
		if ((nodes >> i & 1) == 0)
			continue;
		sysfs_cpus(&node, "/sys/devices/system/node/node%d/cpulist", i);
		CPU_OR(near, near, &node);
	}
}

void cores_isolated(char list[CORES_TEXT])
{
	FILE *f = fopen("/sys/devices/system/cpu/isolated", "re");

	list[0] = '\0';
	if (f == NULL)
		return;
	if (fgets(list, CORES_TEXT, f) == NULL)
		list[0] = '\0';
	list[strcspn(list, "\n")] = '\0';
	fclose(f);
}
