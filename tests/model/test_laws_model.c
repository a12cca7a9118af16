// SPDX-License-Identifier: BSD-3-Clause
// test_laws_model [STEPS]: of the guest and the device, in the runs with every rule.
// Every history of the model ends with equal memory; and for each rule, if it is taken away, some
// history does not.

#include "laws.h"

#include <stdio.h>
#include <stdlib.h>

static int whole(const struct laws *l)
{
	static struct laws_result r;

	laws_run(l, &r);
	printf("%s source%s: %llu states, %llu ends, %s\n", l->consuming ? "consuming" : "KVM",
		l->poison ? ", poison" : "", (unsigned long long)r.states,
		(unsigned long long)r.ends, r.broken ? r.how : "all equal");
	fflush(stdout);
	return r.broken || r.ends == 0;
}

/* The smallest number of steps of the guest that shows it, with either source. */
static int broken(enum rule rule)
{
	static struct laws_result r;

	for (unsigned ops = 0; ops <= 2; ops++)
		for (unsigned k = 0; k < 4; k++) {
			struct laws l = {.without = rule,
				.consuming = k & 1,
				.poison = k >> 1,
				.guest_ops = ops,
				.wire_ops = 1};

			laws_run(&l, &r);
			if (r.broken) {
				printf("without %s: %s\n", rule_name[rule], r.how);
				fflush(stdout);
				return 0;
			}
		}
	printf("FAILED: without %s nothing breaks\n", rule_name[rule]);
	return 1;
}

int main(int argc, char **argv)
{
	unsigned ops = argc > 1 ? (unsigned)atoi(argv[1]) : 2;
	int bad = 0;

	for (unsigned k = 0; k < 4; k++)
		bad += whole(&(struct laws){
			.consuming = k & 1, .poison = k >> 1, .guest_ops = ops, .wire_ops = 1});
	for (enum rule r = RULE_NONE + 1; r < RULES; r++)
		bad += broken(r);
	return bad != 0;
}
