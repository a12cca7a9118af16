// SPDX-License-Identifier: BSD-3-Clause
// Which CPUs move pages. cores_choose() is pure. Run by main before EAL starts.

#include "cores.h"

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

static int take_wish(struct cores *c, const char *asked, const cpu_set_t *may_use,
	const cpu_set_t *isolated, struct err *e)
{
	char allowed[CORES_TEXT];
	cpu_set_t set;

	if (strlen(asked) >= CORES_TEXT || cores_parse(asked, &set) < 0)
		return err_set(e, EINVAL, "cores: '%.60s' is no list of CPUs such as 2-5,8", asked);
	if (!subset(&set, may_use)) {
		cores_print(may_use, allowed);
		return err_set(e, EINVAL,
			"cores: '%.60s' holds CPUs that may not be used; these may: %s", asked,
			allowed);
	}
	snprintf(c->list, sizeof(c->list), "%s", asked);
	c->isolated = subset(&set, isolated);
	snprintf(c->why, sizeof(c->why), "as asked for");
	return 0;
}

int cores_choose(struct cores *c, const char *asked, const cpu_set_t *may_use, const char *isolated,
	struct err *e)
{
	cpu_set_t alone, both;
	int last = -1;

	memset(c, 0, sizeof(*c));
	if (cores_parse(isolated, &alone) < 0)
		CPU_ZERO(&alone);
	if (asked[0] != '\0')
		return take_wish(c, asked, may_use, &alone, e);
	CPU_AND(&both, &alone, may_use);
	if (CPU_COUNT(&both) > 0) {
		cores_print(&both, c->list);
		c->isolated = true;
		snprintf(c->why, sizeof(c->why), "the isolated ones");
		return 0;
	}
	for (int i = 0; i < CPU_SETSIZE; i++)
		if (CPU_ISSET(i, may_use))
			last = i;
	if (last < 0)
		return err_set(e, EINVAL, "cores: this process may use no CPU");
	snprintf(c->list, sizeof(c->list), "%d", last);
	snprintf(c->why, sizeof(c->why), "%s; choose with --cores",
		CPU_COUNT(may_use) == 1 ? "the only one, shared with the guests" : "the last one");
	return 0;
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
