// SPDX-License-Identifier: BSD-3-Clause
// The command line. Run by the main thread at the start; pure but for --help, which prints.

#include "option.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
	"usage: godwit-vm [OPTION]...\n"
	"A small virtual machine whose guest writes its memory and checks it, for godwitd to "
	"move.\n"
	"\n"
	"  --kvm                 run the guest by KVM (the default)\n"
	"  --soft                run it as threads of this program, for hosts without /dev/kvm\n"
	"  --memory SIZE         memory that the guest uses [64M]; K, M, G, T are understood\n"
	"  --nominal SIZE        size of the RAM file; what is beyond --memory stays a hole\n"
	"  --hugepages           RAM on 2 MiB huge pages\n"
	"  --vcpus N             vCPUs, 1 to 64 [1; an incoming guest brings its number]\n"
	"  --ring ENTRIES        let KVM tell written pages by rings of so many entries a vCPU\n"
	"  --agent SOCKET        let godwitd migrate the guest through this unix socket\n"
	"  --incoming            wait for a guest of the same --memory; it brings its own program\n"
	"  --name NAME           name of the guest [vm]\n"
	"\n"
	"What the guest does:\n"
	"  --pattern P           seq, random, or hot (7 of 8 writes to a sixteenth) [seq]\n"
	"  --rate N              pages written a second by all vCPUs; 0: as fast as it goes "
	"[1000]\n"
	"  --share PERCENT       part of memory that it writes, 1 to 100 [100]\n"
	"  --free PERCENT        part of memory that is free at first, 0 to 90 [0]\n"
	"  --balloon PERCENT     part of memory that is in the balloon at first, 0 to 90 [0]\n"
	"  --churn N             of those, pages that change between free, balloon and in use in "
	"each\n"
	"                        batch of writes, 0 to 1000 [1]\n"
	"  --report HOW          how free pages are reported: full, late, part, twice, stale, "
	"never "
	"[full]\n"
	"  --poison N            what the guest fills free pages with, and relies on [0]\n"
	"What memory holds at first:\n"
	"  --content C           zero, text, binary, random, heap, mix [mix]\n"
	"  --populate PERCENT    part of memory that is there, the rest are holes [100]\n"
	"  --seed N              of content and program [1]\n"
	"\n"
	"  --check-on-exit       check all memory at the end; exit 1 if a page is bad\n"
	"  --check-on-move       check stamps when state is saved and loaded; makes the pause "
	"longer\n"
	"  --stay                do not exit when the guest has moved away\n"
	"  --run-for MS          end after that time\n"
	"  --tick MS             time between two heartbeats [200]\n"
	"  --help, --version\n"
	"\n"
	"On SIGUSR1 it checks the stamps of all pages, on SIGUSR2 their whole content too.\n"
	"Exit codes: 0 done or moved away; 1 a page was lost, torn or old; 2 wrong usage;\n"
	"3 no usable KVM; 4 the guest could not start; 5 the guest failed.\n";

enum {
	O_MEMORY = 256,
	O_NOMINAL,
	O_HUGE,
	O_VCPUS,
	O_RING,
	O_FREE,
	O_BALLOON,
	O_CHURN,
	O_REPORT,
	O_POISON,
	O_AGENT,
	O_INCOMING,
	O_NAME,
	O_PATTERN,
	O_RATE,
	O_SHARE,
	O_CONTENT,
	O_POPULATE,
	O_SEED,
	O_CHECK_EXIT,
	O_CHECK_MOVE,
	O_STAY,
	O_RUN_FOR,
	O_TICK,
	O_KVM,
	O_SOFT,
	O_HELP,
	O_VERSION
};

static const struct option long_options[] = {
	{"memory", required_argument, NULL, O_MEMORY},
	{"nominal", required_argument, NULL, O_NOMINAL},
	{"hugepages", no_argument, NULL, O_HUGE},
	{"vcpus", required_argument, NULL, O_VCPUS},
	{"free", required_argument, NULL, O_FREE},
	{"balloon", required_argument, NULL, O_BALLOON},
	{"churn", required_argument, NULL, O_CHURN},
	{"report", required_argument, NULL, O_REPORT},
	{"poison", required_argument, NULL, O_POISON},
	{"ring", required_argument, NULL, O_RING},
	{"agent", required_argument, NULL, O_AGENT},
	{"incoming", no_argument, NULL, O_INCOMING},
	{"name", required_argument, NULL, O_NAME},
	{"pattern", required_argument, NULL, O_PATTERN},
	{"rate", required_argument, NULL, O_RATE},
	{"share", required_argument, NULL, O_SHARE},
	{"content", required_argument, NULL, O_CONTENT},
	{"populate", required_argument, NULL, O_POPULATE},
	{"seed", required_argument, NULL, O_SEED},
	{"check-on-exit", no_argument, NULL, O_CHECK_EXIT},
	{"check-on-move", no_argument, NULL, O_CHECK_MOVE},
	{"stay", no_argument, NULL, O_STAY},
	{"run-for", required_argument, NULL, O_RUN_FOR},
	{"tick", required_argument, NULL, O_TICK},
	{"kvm", no_argument, NULL, O_KVM},
	{"soft", no_argument, NULL, O_SOFT},
	{"help", no_argument, NULL, O_HELP},
	{"version", no_argument, NULL, O_VERSION},
	{NULL, 0, NULL, 0},
};

int option_size(const char *text, uint64_t *bytes)
{
	static const char units[] = "KMGT";
	char *end;
	const char *unit;
	unsigned shift = 0;

	if (*text < '0' || *text > '9')
		return -EINVAL;
	errno = 0;
	*bytes = strtoull(text, &end, 10);
	if (errno != 0)
		return -EINVAL;
	if (*end != '\0') {
		unit = strchr(units, *end);
		if (unit == NULL || end[1] != '\0')
			return -EINVAL;
		shift = 10 * (unsigned)(unit - units + 1);
	}
	if (*bytes > UINT64_MAX >> shift)
		return -EINVAL;
	*bytes <<= shift;
	return 0;
}

static int number(const char *text, uint64_t min, uint64_t max, uint64_t *v)
{
	char *end;

	if (*text < '0' || *text > '9')
		return -EINVAL;
	errno = 0;
	*v = strtoull(text, &end, 10);
	return errno != 0 || *end != '\0' || *v < min || *v > max ? -EINVAL : 0;
}

static int pattern_parse(const char *text, enum pattern *p)
{
	static const char *const names[] = {"seq", "random", "hot"};

	for (unsigned i = 0; i < 3; i++)
		if (strcmp(text, names[i]) == 0) {
			*p = (enum pattern)i;
			return 0;
		}
	return -EINVAL;
}

static int report_parse(const char *text, enum report *r)
{
	static const char *const names[] = {"full", "late", "part", "twice", "stale", "never"};

	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(text, names[i]) == 0) {
			*r = (enum report)i;
			return 0;
		}
	return -EINVAL;
}

static int take_flag(struct option_set *o, int c)
{
	switch (c) {
	case O_KVM:
		o->soft = false;
		break;
	case O_SOFT:
		o->soft = true;
		break;
	case O_HUGE:
		o->huge = true;
		break;
	case O_INCOMING:
		o->incoming = true;
		break;
	case O_CHECK_EXIT:
		o->check_on_exit = true;
		break;
	case O_CHECK_MOVE:
		o->check_on_move = true;
		break;
	case O_STAY:
		o->stay = true;
		break;
	default:
		return -EINVAL;
	}
	return 0;
}

// An option with a value. Returns what it wants where the value is wrong, else NULL.
static const char *take(struct option_set *o, int c, const char *v)
{
	uint64_t n = 0;

	switch (c) {
	case O_MEMORY:
		return option_size(v, &o->memory_bytes) < 0 ? "a size such as 64M" : NULL;
	case O_NOMINAL:
		return option_size(v, &o->nominal_bytes) < 0 ? "a size such as 1T" : NULL;
	case O_VCPUS:
		if (number(v, 1, GUEST_VCPUS, &n) < 0)
			return "a number from 1 to 64";
		o->vcpus = (unsigned)n;
		return NULL;
	case O_FREE:
	case O_BALLOON:
		if (number(v, 0, 90, &n) < 0)
			return "a number from 0 to 90";
		*(c == O_FREE ? &o->free : &o->balloon) = (unsigned)n;
		return NULL;
	case O_CHURN:
		if (number(v, 0, 1000, &n) < 0)
			return "a number from 0 to 1000";
		o->churn = (unsigned)n;
		return NULL;
	case O_REPORT:
		return report_parse(v, &o->report) < 0 ? "full, late, part, twice, stale or never"
						       : NULL;
	case O_POISON:
		if (number(v, 0, UINT32_MAX, &n) < 0)
			return "a number of 32 bits";
		o->poison = (uint32_t)n;
		return NULL;
	case O_RING:
		if (number(v, 256, 65536, &n) < 0 || (n & (n - 1)) != 0)
			return "a power of two from 256 to 65536";
		o->ring = (uint32_t)n;
		return NULL;
	case O_AGENT:
		o->agent = v;
		return *v == '\0' ? "the path of a socket" : NULL;
	case O_NAME:
		o->name = v;
		return *v == '\0' || strlen(v) > 63 ? "1 to 63 characters" : NULL;
	case O_PATTERN:
		return pattern_parse(v, &o->pattern) < 0 ? "seq, random or hot" : NULL;
	case O_RATE:
		return number(v, 0, UINT32_MAX, &o->rate) < 0 ? "pages a second" : NULL;
	case O_SHARE:
		if (number(v, 1, 100, &n) < 0)
			return "a number from 1 to 100";
		o->share = (unsigned)n;
		return NULL;
	case O_CONTENT:
		return image_parse(v, &o->image.content) < 0
			       ? "zero, text, binary, random, heap or mix"
			       : NULL;
	case O_POPULATE:
		if (number(v, 0, 100, &n) < 0)
			return "a number from 0 to 100";
		o->image.populate = (unsigned)n;
		return NULL;
	case O_SEED:
		return number(v, 0, UINT64_MAX, &o->image.seed) < 0 ? "a number" : NULL;
	case O_RUN_FOR:
		return number(v, 1, UINT32_MAX, &o->run_ms) < 0 ? "milliseconds" : NULL;
	case O_TICK:
		if (number(v, 1, 60000, &n) < 0)
			return "milliseconds from 1 to 60000";
		o->tick_ms = (unsigned)n;
		return NULL;
	default:
		return "another name";
	}
}

int option_parse(struct option_set *o, int argc, char **argv, struct err *e)
{
	int c, index = 0;

	*o = (struct option_set){.memory_bytes = 64u << 20,
		.name = "vm",
		.rate = 1000,
		.share = 100,
		.churn = 1,
		.image = {IMAGE_MIX, 1, 100},
		.tick_ms = 200};
	opterr = 0;
	optind = 1;
	while ((c = getopt_long(argc, argv, "", long_options, &index)) != -1) {
		const char *wants;

		if (c == O_HELP || c == O_VERSION) {
			fputs(c == O_HELP ? help : "godwit-vm " GODWIT_VERSION "\n", stdout);
			return 1;
		}
		if (c == '?')
			return err_set(e, EINVAL,
				"%s: no such option, or its value is missing; see --help",
				argv[optind - 1]);
		if (optarg == NULL) {
			take_flag(o, c);
			continue;
		}
		wants = take(o, c, optarg);
		if (wants != NULL)
			return err_set(e, EINVAL, "--%s must be %s; got '%s'",
				long_options[index].name, wants, optarg);
	}
	if (optind < argc)
		return err_set(e, EINVAL, "'%s' is not understood; see --help", argv[optind]);
	if (o->nominal_bytes == 0)
		o->nominal_bytes = o->memory_bytes;
	if (o->vcpus == 0 && !o->incoming)
		o->vcpus = 1;
	if (o->huge && o->nominal_bytes != o->memory_bytes)
		return err_set(e, EINVAL, "--hugepages reserves all memory: leave out --nominal");
	if (o->free + o->balloon > 90)
		return err_set(e, EINVAL, "--free and --balloon may be 90 percent together");
	if (o->ring > 0 && o->soft)
		return err_set(e, EINVAL, "--ring is of KVM: leave it out, or --soft");
	if (o->incoming && o->agent == NULL)
		return err_set(
			e, EINVAL, "--incoming needs --agent SOCKET, where the guest arrives");
	return 0;
}
