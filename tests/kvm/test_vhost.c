// SPDX-License-Identifier: BSD-3-Clause
// The suite over the source "vhost-log" with a real writer: DPDK's vhost-user back end, which
// copies received packets to guest memory and logs them.

#include "bits.h"
#include "card.h"
#include "sim.h"
#include "vhost_log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void on_write(void *card, uint64_t gpa, uint32_t value)
{
	card_write(card, gpa, value);
}

/* Not logged before it is asked for, and not after it was ended. */
static bool logs_only_when_asked(struct rig *r, struct card *c, struct err *e)
{
	uint64_t *out = calloc(r->map.nchunks, sizeof(*out)), bytes, seen[3];
	void *base;
	int fd = vhost_log_area(r->source, &bytes, &base);

	for (unsigned i = 0; i < 3; i++) {
		if (i > 0 && card_log(c, i == 1 ? fd : -1, bytes, e) < 0)
			return false;
		rig_write(r, 77, 1000 + i, 0);
		memset(out, 0, r->map.nchunks * sizeof(*out));
		if (rig_read(r, 77) != 1000 + i ||
			r->source->ops->look(r->source, out, false, e) < 0)
			return false;
		seen[i] = bits_count_range(out, 0, r->map.nchunks * 64);
		if (i == 1 && !bits_test(out, 77))
			return false;
		r->source->ops->stop(r->source, e);
	}
	free(out);
	printf("pages reported without the log, with it, after it: %llu %llu %llu\n",
		(unsigned long long)seen[0], (unsigned long long)seen[1],
		(unsigned long long)seen[2]);
	return seen[0] == 0 && seen[1] == 1 && seen[2] == 0 && card_log(c, fd, bytes, e) == 0;
}

int main(int argc, char **argv)
{
	const struct rig_kind *kind = rig_kinds;
	unsigned seeds = argc > 1 ? (unsigned)atoi(argv[1]) : 3;
	static struct rig r;
	struct sim_tally t = {0};
	struct card *c = NULL;
	struct err e = {0};
	int rc;

	while (strcmp(kind->name, "vhost-log") != 0)
		kind++;
	rc = rig_open(&r, kind, &e);
	if (rc == 0)
		rc = card_open(&c, &r.map, &e);
	if (rc != 0) {
		printf("%s\n", e.text);
		return rc > 0 ? 77 : 1;
	}
	r.card = on_write;
	r.card_arg = c;
	if (!logs_only_when_asked(&r, c, &e)) {
		printf("FAILED: %s\n", e.text);
		return 1;
	}
	for (unsigned seed = 1; rc == 0 && seed <= seeds; seed++) {
		int64_t bad = sim_run(&r, seed, &t, &e);

		rc = bad != 0 || !sim_tally_good(&t, 1);
		if (rc != 0)
			printf("seed %u: %lld pages differ; %s\n", seed, (long long)bad, e.text);
	}
	card_close(c);
	rig_close(&r);
	printf("%u seeds: ", seeds);
	sim_tally_print(&t);
	return rc;
}
