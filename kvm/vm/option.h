/* SPDX-License-Identifier: BSD-3-Clause */
/* The command line of godwit-vm. */
#ifndef GODWIT_VM_OPTION_H
#define GODWIT_VM_OPTION_H

#include <stdbool.h>
#include <stdint.h>

#include "err.h"
#include "guest.h"
#include "image.h"

/* How the VMM passes on what the guest reports free. */
enum report {
	REPORT_FULL,
	REPORT_LATE,
	REPORT_PART,
	REPORT_TWICE,
	REPORT_STALE, /* with another id */
	REPORT_NEVER,
};

struct option_set {
	bool soft, huge, incoming, stay, check_on_exit, check_on_move;
	uint64_t memory_bytes, nominal_bytes;
	uint32_t ring;  /* entries of a vCPU's dirty ring; 0: KVM's dirty log */
	unsigned vcpus; /* 0: as many as the incoming guest brings */
	const char *agent, *name;
	enum pattern pattern;
	uint64_t rate; /* pages a second of all vCPUs, 0: as fast as it goes */
	unsigned share;
	unsigned free, balloon, churn; /* percent of memory, percent, pages a batch */
	enum report report;
	uint32_t poison; /* of free pages */
	struct image image;
	unsigned tick_ms;
	uint64_t run_ms; /* 0: for ever */
};

/* 0: go on; 1: help or version was printed; -EINVAL with a sentence. Strings point into argv. */
int option_parse(struct option_set *o, int argc, char **argv, struct err *e);

/* "4096", "64M", "1G", "1T". 0 or -EINVAL. */
int option_size(const char *text, uint64_t *bytes);

#endif
