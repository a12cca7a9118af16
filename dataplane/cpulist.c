// SPDX-License-Identifier: BSD-3-Clause
// Lists of CPUs. Run by control threads at start.

#include "cpulist.h"

#include <ctype.h>
#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>

static bool number(const char **at, unsigned long *n)
{
	char *end;

	if (!isdigit((unsigned char)**at))
		return false;
	*n = strtoul(*at, &end, 10);
	*at = end;
	return *n < CPU_SETSIZE;
}

int cpulist_parse(const char *text, unsigned cpu[CPULIST_MAX], struct err *e)
{
	const char *at = text;
	unsigned n = 0;
	cpu_set_t may;

	if (sched_getaffinity(0, sizeof(may), &may) != 0)
		return err_sys(e, errno, "cannot tell which CPUs this process may use");
	for (;;) {
		unsigned long first, last;

		if (!number(&at, &first))
			break;
		last = first;
		if (*at == '-' && (at++, !number(&at, &last)))
			break;
		if (last < first)
			break;
		for (; first <= last; first++) {
			if (!CPU_ISSET(first, &may))
				return err_set(e, EINVAL,
					"cores \"%s\": CPU %lu is not there, or this process may "
					"not use it; see nproc and taskset -p",
					text, first);
			if (n == CPULIST_MAX)
				return err_set(
					e, EINVAL, "cores \"%s\": more than %u", text, CPULIST_MAX);
			cpu[n++] = (unsigned)first;
		}
		if (*at == '\0')
			return (int)n;
		if (*at++ != ',')
			break;
	}
	return err_set(e, EINVAL, "cores \"%s\": write CPU numbers like 2 or 2-5,8", text);
}
