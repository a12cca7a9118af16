// SPDX-License-Identifier: BSD-3-Clause
// One suite over every row of the table of dirty sources: test_source ROW SEEDS. A row that this
// machine does not offer is skipped with the reason.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"

int main(int argc, char **argv)
{
	const struct rig_kind *kind = rig_kinds;
	unsigned seeds = argc > 2 ? (unsigned)atoi(argv[2]) : 1;
	static struct rig r;
	struct err e = {0};
	int rc;

	while (kind->name != NULL && (argc < 2 || strcmp(kind->name, argv[1]) != 0))
		kind++;
	if (kind->name == NULL) {
		printf("no such row\n");
		return 2;
	}
	rc = rig_open(&r, kind, &e);
	if (rc != 0) {
		printf("%s: %s\n", kind->name, e.text);
		return rc > 0 ? 77 : 1;
	}
	/* One rig for all seeds: start and stop must leave nothing behind. */
	for (unsigned seed = 1; seed <= seeds; seed++) {
		int64_t quiet = -1;
		int64_t bad = sim_run(&r, seed, &quiet, &e);

		if (bad != 0 || quiet != 0) {
			printf("%s, seed %u: %lld pages differ, %lld reported of a quiet guest; "
			       "%s\n",
				kind->name, seed, (long long)bad, (long long)quiet, e.text);
			rig_close(&r);
			return 1;
		}
	}
	rig_close(&r);
	printf("%s: %u seeds\n", kind->name, seeds);
	return 0;
}
