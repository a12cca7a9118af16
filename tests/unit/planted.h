/* SPDX-License-Identifier: BSD-3-Clause */
/* The same tests in a build with planted bugs: there they must pass without one, and fail for the
 * one that is planted. A test that always fails would notice nothing. */
#ifndef PLANTED_H
#define PLANTED_H

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "plant.h"

#ifdef GODWIT_PLANT
/* Runs a group of cmocka's tests; what main() returns. What they say is left out: who counts
 * failures by it would count these. */
#define planted_run(tests, which)                                                                  \
	(planted_quiet(), planted_without(cmocka_run_group_tests(tests, NULL, NULL), which),       \
		planted_result(cmocka_run_group_tests(tests, NULL, NULL)))

static int planted_out;

static inline void planted_quiet(void)
{
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

	planted_out = dup(STDOUT_FILENO);
	if (null < 0 || planted_out < 0 || dup2(null, STDOUT_FILENO) < 0 ||
		dup2(null, STDERR_FILENO) < 0)
		_exit(1);
}

static inline void planted_without(int failed, enum plant which)
{
	fflush(stdout);
	if (failed > 0) {
		dprintf(planted_out, "%d tests failed without the planted bug\n", failed);
		_exit(1);
	}
	plant_active = which;
}

static inline int planted_result(int failed)
{
	fflush(stdout);
	dprintf(planted_out, "the planted bug was noticed by %d tests\n", failed);
	_exit(failed > 0 ? 0 : 1); /* a test that failed has freed nothing: that is no leak */
}
#else
#define planted_run(tests, which) cmocka_run_group_tests(tests, NULL, NULL)
#endif

#endif
