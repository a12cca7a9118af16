// SPDX-License-Identifier: BSD-3-Clause
// The command line of godwit-bench. Nothing is ignored: what has no meaning in a mode is refused.

#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "port.h"

#define IMAGE   "cSfP"     // what the image is
#define MEMORY  IMAGE "sH" // and where
#define PRINTED "rj"

static const struct {
	const char *name, *words;
	int least, most; // words
	const char *options;
} modes[] = {
	[MODE_STAGES] = {"stages", "STAGE...", 0, INT_MAX, MEMORY PRINTED "pl"},
	[MODE_TCP] = {"tcp", "no word", 0, 0, MEMORY PRINTED "C"},
	[MODE_NIC] = {"nic", "two devices or none", 0, 2, MEMORY PRINTED "Cm"},
	[MODE_RDMA] = {"rdma", "ADDRESS", 1, 1, MEMORY PRINTED},
	[MODE_IMAGE] = {"image", "FILE", 1, 1, IMAGE},
	[MODE_TRACK] = {"track", "PID FILE", 2, 2, PRINTED},
	[MODE_PINGPONG] = {"pingpong", "no word", 0, 0, ""},
};

static const struct option names[] = {
	{"size", required_argument, NULL, 's'},
	{"content", required_argument, NULL, 'c'},
	{"seed", required_argument, NULL, 'S'},
	{"from", required_argument, NULL, 'f'},
	{"pid", required_argument, NULL, 'P'},
	{"rounds", required_argument, NULL, 'r'},
	{"codec", required_argument, NULL, 'C'},
	{"mtu", required_argument, NULL, 'm'},
	{"cpu", required_argument, NULL, 'p'},
	{"huge", no_argument, NULL, 'H'},
	{"json", no_argument, NULL, 'j'},
	{"list", no_argument, NULL, 'l'},
	{"help", no_argument, NULL, 'h'},
	{0},
};

static int number(uint64_t *v, const char *name, uint64_t least, uint64_t most, struct err *e)
{
	char *end;

	errno = 0;
	*v = strtoull(optarg, &end, 10);
	if (optarg[0] >= '0' && optarg[0] <= '9' && *end == '\0' && errno == 0 && *v >= least &&
		*v <= most)
		return 0;
	return err_set(e, EINVAL, "--%s: \"%s\" is no number from %llu to %llu", name, optarg,
		(unsigned long long)least, (unsigned long long)most);
}

static int take(struct options *o, int c, const char *name, struct err *e)
{
	uint64_t v = 0;
	int rc = 0;

	switch (c) {
	case 's':
		rc = number(&v, name, 2, 1 << 20, e);
		o->bytes = v << 20;
		return rc;
	case 'S':
		return number(&o->seed, name, 0, UINT64_MAX, e);
	case 'P':
		rc = number(&v, name, 1, INT32_MAX, e);
		o->pid = (int)v;
		return rc;
	case 'r':
		rc = number(&v, name, 1, ROUNDS_MAX, e);
		o->rounds = (unsigned)v;
		return rc;
	case 'p':
		rc = number(&v, name, 0, UINT16_MAX, e);
		o->cpu = (int)v;
		return rc;
	case 'm':
		rc = number(&v, name, PORT_MTU_LEAST, PORT_MTU_MOST, e);
		o->mtu = (unsigned)v;
		return rc;
	case 'f':
		o->from = optarg;
		return 0;
	case 'C':
		return codec_parse(optarg, &o->codec, &o->level, e);
	case 'c':
		if (image_parse(optarg, &o->content) == 0)
			return 0;
		return err_set(e, EINVAL,
			"--content: \"%s\" is none of mix, zero, text, binary, random, heap",
			optarg);
	case 'H':
		o->huge = true;
		return 0;
	case 'j':
		o->json = true;
		return 0;
	case 'l':
		o->list = true;
		return 0;
	default:
		return 0;
	}
}

static int check_words(const struct options *o, struct err *e)
{
	const char *mode = modes[o->mode].name;
	int most = modes[o->mode].most;

	if (o->nwords > most)
		return err_set(e, EINVAL, "%s: \"%s\" is one word too many: it takes %s", mode,
			o->words[most], modes[o->mode].words);
	if (o->nwords < modes[o->mode].least || (o->mode == MODE_NIC && o->nwords == 1))
		return err_set(e, EINVAL, "%s: it takes %s", mode, modes[o->mode].words);
	if (o->mode != MODE_TRACK)
		return 0;
	optarg = o->words[0];
	return number(&(uint64_t){0}, "PID", 1, INT32_MAX, e);
}

static enum mode mode_of(const char *word)
{
	for (unsigned m = MODE_TCP; word != NULL && m <= MODE_PINGPONG; m++)
		if (strcmp(word, modes[m].name) == 0)
			return m;
	return MODE_STAGES;
}

// An option that getopt found, number i of names. image: which one said what the image is.
static int one(struct options *o, int c, int i, const char **image, struct err *e)
{
	const char *name = names[i].name, *before = *image;

	if (c == 'h') {
		o->help = true;
		return 0;
	}
	if (strchr(modes[o->mode].options, c) == NULL)
		return err_set(e, EINVAL, "--%s means nothing to %s: leave it out", name,
			modes[o->mode].name);
	if (c == 'c' || c == 'f' || c == 'P')
		*image = name;
	if (before != NULL && *image != before)
		return err_set(e, EINVAL, "--%s and --%s: the image is one of them", before, name);
	return take(o, c, name, e);
}

int options_parse(struct options *o, int argc, char **argv, struct err *e)
{
	const char *image = NULL;
	int c, i = 0, rc = 0;

	*o = (struct options){.mode = mode_of(argv[1]),
		.bytes = UINT64_C(4) << 30,
		.rounds = 5,
		.mtu = 9000,
		.seed = 1,
		.content = IMAGE_MIX,
		.codec = &codec_raw};
	if (o->mode != MODE_STAGES) {
		argc--;
		argv++;
	}
	opterr = 0;
	while (rc == 0 && (c = getopt_long(argc, argv, ":", names, &i)) != -1) {
		if (c == ':')
			rc = err_set(e, EINVAL, "%s needs a value", argv[optind - 1]);
		else if (c == '?')
			rc = err_set(e, EINVAL, "%s: there is no such option, or it takes no value",
				argv[optind - 1]);
		else
			rc = one(o, c, i, &image, e);
	}
	o->words = argv + optind;
	o->nwords = argc - optind;
	return rc < 0 || o->help || o->list ? rc : check_words(o, e);
}
