/* SPDX-License-Identifier: BSD-3-Clause */
/* The same tests in a build with planted bugs: there they must fail for the one that is planted. */
#ifndef PLANTED_H
#define PLANTED_H

#include <stdio.h>
#include <unistd.h>

#include "plant.h"

#ifdef GODWIT_PLANT
/* Runs a group of cmocka's tests; what main() returns. */
#define planted_run(tests, which)                                                                  \
	(plant_active = (which), planted_result(cmocka_run_group_tests(tests, NULL, NULL)))

static inline int planted_result(int failed)
{
	printf("the planted bug was noticed by %d tests\n", failed);
	fflush(stdout);
	_exit(failed > 0 ? 0 : 1); /* a test that failed has freed nothing: that is no leak */
}
#else
#define planted_run(tests, which) cmocka_run_group_tests(tests, NULL, NULL)
#endif

#endif
