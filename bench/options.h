/* SPDX-License-Identifier: BSD-3-Clause */
/* The command line of godwit-bench: a mode, its words, and the options that mean something there.
 */
#ifndef GODWIT_BENCH_OPTIONS_H
#define GODWIT_BENCH_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "codec.h"
#include "image.h"

#define ROUNDS_MAX 101u

enum mode { MODE_STAGES, MODE_TCP, MODE_NIC, MODE_RDMA, MODE_IMAGE, MODE_TRACK, MODE_PINGPONG };

struct options {
	enum mode mode;
	char **words; /* of the mode; of stages: their names */
	int nwords;
	uint64_t bytes;
	unsigned rounds;
	int cpu;
	bool json, huge, list, help;
	enum image_class content;
	uint64_t seed;
	const char *from;
	int pid;
	unsigned mtu;
	const struct codec_ops *codec;
	int level;
};

/* 0, or -EINVAL with e set: an option that is unknown, that has no such value, or no meaning in
 * this mode, each by its name. */
int options_parse(struct options *o, int argc, char **argv, struct err *e);

#endif
