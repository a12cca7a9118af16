// SPDX-License-Identifier: BSD-3-Clause
// Law 1 broken on purpose: arming that clears more than it was told must be caught by the suite, a
// kernel that does not see a write by the tracker's self-test.

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "pagemap_scan.h"
#include "plant.h"
#include "sim.h"

/* Seeds of 1 to n that end with a wrong copy. */
static int count_bad(struct rig *r, unsigned n)
{
	struct sim_tally t = {0};
	struct err e = {0};
	int bad = 0;

	for (unsigned seed = 1; seed <= n; seed++)
		bad += sim_run(r, seed, &t, &e) != 0;
	return bad;
}

/* Such a backing is refused, and by its name. */
static bool sees_blindness(void)
{
	struct err e = {0};
	int rc;

	plant_active = PLANT_NONE;
	if (pagemap_selftest(PAGE_BYTES, &e) != 0) {
		printf("self-test left out: %s\n", e.text);
		return true;
	}
	plant_active = PLANT_LAW1_BLIND_KERNEL;
	rc = pagemap_selftest(PAGE_BYTES, &e);
	printf("self-test with a blind kernel: %s\n", e.text);
	return rc == -ENOTSUP &&
	       strstr(e.text, "does not see a write to a page (pages of 4096 bytes)") != NULL;
}

int main(void)
{
	static const char *const rows[] = {"fake", "kvm-log"};
	static struct rig r;
	struct err e = {0};

	if (!sees_blindness())
		return 1;
	for (unsigned i = 0; i < 2; i++) {
		const struct rig_kind *kind = rig_kinds;
		int right, wrong, rc;

		while (strcmp(kind->name, rows[i]) != 0)
			kind++;
		rc = rig_open(&r, kind, &e);
		if (rc > 0 && i > 0) {
			printf("%s left out: %s\n", kind->name, e.text);
			continue;
		}
		if (rc != 0) {
			printf("%s: %s\n", kind->name, e.text);
			return 1;
		}
		plant_active = PLANT_NONE;
		right = count_bad(&r, 10);
		plant_active = PLANT_LAW1_CLEAR_ALL_ONES;
		wrong = count_bad(&r, 10);
		rig_close(&r);
		printf("%s: %d of 10 wrong as built, %d with the bug\n", kind->name, right, wrong);
		if (right != 0 || wrong == 0)
			return 1;
	}
	return 0;
}
