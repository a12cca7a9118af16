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
	struct sim_tally t = {0};
	struct source_info info;
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
	r.source->ops->info(r.source, &info);
	/* One rig for all seeds: start and stop must leave nothing behind. */
	for (unsigned seed = 1; rc == 0 && seed <= seeds; seed++) {
		int64_t bad = sim_run(&r, seed, &t, &e);

		rc = bad != 0 || !sim_tally_good(&t, info.granule_bytes / PAGE_BYTES);
		if (rc != 0)
			printf("seed %u: %lld pages differ; %s\n", seed, (long long)bad, e.text);
	}
	rig_close(&r);
	printf("%s, %u seeds: ", kind->name, seeds);
	sim_tally_print(&t);
	return rc;
}
