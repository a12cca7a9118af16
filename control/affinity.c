// SPDX-License-Identifier: BSD-3-Clause
// Cores and a guest. Run by the control loop; looks at /proc for as long as a process has threads.

#include "affinity.h"

#include <stdio.h>
#include <stdlib.h>

#include "cores.h"
#include "sysfs.h"

int affinity_node(const struct region_map *map, unsigned i, unsigned n)
{
	uint64_t bound = 0, at;

	for (unsigned k = 0; k < map->n; k++)
		bound += map->r[k].node >= 0 ? map->r[k].bytes : 0;
	if (bound == 0 || n == 0)
		return -1;
	/* The middle of the flow's share. */
	at = bound / (2 * n) * (2 * i + 1);
	for (unsigned k = 0; k < map->n; k++) {
		if (map->r[k].node < 0)
			continue;
		if (at < map->r[k].bytes)
			return map->r[k].node;
		at -= map->r[k].bytes;
	}
	return -1;
}

bool affinity_meets(pid_t pid, const cpu_set_t *cpus, char text[AFFINITY_TEXT])
{
	char **tasks, name[SYSFS_TEXT], list[CORES_TEXT];
	unsigned n = sysfs_names(&tasks, "/proc/%d/task", (int)pid), meet = 0;

	for (unsigned i = 0; i < n; i++) {
		cpu_set_t may, both;

		if (tasks[i] == NULL || sched_getaffinity(atoi(tasks[i]), sizeof(may), &may) != 0)
			continue;
		CPU_AND(&both, &may, cpus);
		if (CPU_COUNT(&both) == 0 || meet++ > 0)
			continue;
		cores_print(&both, list);
		sysfs_text(name, "/proc/%d/task/%s/comm", (int)pid, tasks[i]);
	}
	sysfs_names_free(tasks, n);
	if (meet > 0)
		snprintf(text, AFFINITY_TEXT,
			"thread %.20s of the guest's VMM (pid %d)%s may run on CPU %.60s, which "
			"moves its pages: keep them apart, by godwitd's --cores or taskset",
			name, (int)pid, meet > 1 ? ", and others," : "", list);
	return meet > 0;
}
