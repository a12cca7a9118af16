// SPDX-License-Identifier: BSD-3-Clause
// The command line. Run by the main thread at the start; pure but for --help, which prints.

#include "option.h"

#include <errno.h>
#include <getopt.h>
#include <stddef.h>
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

enum kind { FLAG, SIZE, NUMBER, POWER, WORD, CONTENT, TEXT, PRINT };

#define FIELD(name) offsetof(struct option_set, name), sizeof(((struct option_set *)NULL)->name)

static const char *const patterns[] = {"seq", "random", "hot", NULL};
static const char *const reports[] = {"full", "late", "part", "twice", "stale", "never", NULL};

// An option, and the field that it sets.
static const struct row {
	const char *name;
	enum kind kind;
	size_t at, bytes;
	uint64_t min, max;        // of a number, and of the length of a text; max: what a flag sets
	const char *wants;        // what is printed, or what a value must be
	const char *const *words; // in the order of the enum
} rows[] = {
	{"kvm", FLAG, FIELD(soft), 0, false},
	{"soft", FLAG, FIELD(soft), 0, true},
	{"memory", SIZE, FIELD(memory_bytes), .wants = "a size such as 64M"},
	{"nominal", SIZE, FIELD(nominal_bytes), .wants = "a size such as 1T"},
	{"hugepages", FLAG, FIELD(huge), 0, true},
	{"vcpus", NUMBER, FIELD(vcpus), 1, GUEST_VCPUS, "a number from 1 to 64"},
	{"ring", POWER, FIELD(ring), 256, 65536, "a power of two from 256 to 65536"},
	{"agent", TEXT, FIELD(agent), 1, SIZE_MAX, "the path of a socket"},
	{"incoming", FLAG, FIELD(incoming), 0, true},
	{"name", TEXT, FIELD(name), 1, 63, "1 to 63 characters"},
	{"pattern", WORD, FIELD(pattern), .wants = "seq, random or hot", .words = patterns},
	{"rate", NUMBER, FIELD(rate), 0, UINT32_MAX, "pages a second"},
	{"share", NUMBER, FIELD(share), 1, 100, "a number from 1 to 100"},
	{"free", NUMBER, FIELD(free), 0, 90, "a number from 0 to 90"},
	{"balloon", NUMBER, FIELD(balloon), 0, 90, "a number from 0 to 90"},
	{"churn", NUMBER, FIELD(churn), 0, 1000, "a number from 0 to 1000"},
	{"report", WORD, FIELD(report), .wants = "full, late, part, twice, stale or never",
		.words = reports},
	{"poison", NUMBER, FIELD(poison), 0, UINT32_MAX, "a number of 32 bits"},
	{"content", CONTENT, FIELD(image.content),
		.wants = "zero, text, binary, random, heap or mix"},
	{"populate", NUMBER, FIELD(image.populate), 0, 100, "a number from 0 to 100"},
	{"seed", NUMBER, FIELD(image.seed), 0, UINT64_MAX, "a number"},
	{"check-on-exit", FLAG, FIELD(check_on_exit), 0, true},
	{"check-on-move", FLAG, FIELD(check_on_move), 0, true},
	{"stay", FLAG, FIELD(stay), 0, true},
	{"run-for", NUMBER, FIELD(run_ms), 1, UINT32_MAX, "milliseconds"},
	{"tick", NUMBER, FIELD(tick_ms), 1, 60000, "milliseconds from 1 to 60000"},
	{"help", PRINT, .wants = help},
	{"version", PRINT, .wants = "godwit-vm " GODWIT_VERSION "\n"},
};
#define ROWS (sizeof(rows) / sizeof(rows[0]))

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

static bool number(const char *text, uint64_t min, uint64_t max, uint64_t *v)
{
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	*v = strtoull(text, &end, 10);
	return errno == 0 && *end == '\0' && *v >= min && *v <= max;
}

static bool word(const char *text, const char *const *words, uint64_t *v)
{
	for (*v = 0; words[*v] != NULL; ++*v)
		if (strcmp(text, words[*v]) == 0)
			return true;
	return false;
}

// Sets the field of an option. False: that is no value for it.
static bool take(struct option_set *o, const struct row *r, const char *v)
{
	void *field = (char *)o + r->at;
	uint64_t n = 0;
	bool good = true;

	switch (r->kind) {
	case FLAG:
		*(bool *)field = r->max;
		return true;
	case TEXT:
		*(const char **)field = v;
		return strlen(v) >= r->min && strlen(v) <= r->max;
	case CONTENT:
		return image_parse(v, field) == 0;
	case SIZE:
		good = option_size(v, &n) == 0;
		break;
	case WORD:
		good = word(v, r->words, &n);
		break;
	default:
		good = number(v, r->min, r->max, &n) && (r->kind != POWER || (n & (n - 1)) == 0);
	}
	if (r->bytes == sizeof(n))
		*(uint64_t *)field = n;
	else
		*(uint32_t *)field = (uint32_t)n;
	return good;
}

// What holds of several options together.
static int check(struct option_set *o, struct err *e)
{
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

int option_parse(struct option_set *o, int argc, char **argv, struct err *e)
{
	struct option names[ROWS + 1] = {0};
	int i = 0, c;

	*o = (struct option_set){.memory_bytes = 64u << 20,
		.name = "vm",
		.rate = 1000,
		.share = 100,
		.churn = 1,
		.image = {IMAGE_MIX, 1, 100},
		.tick_ms = 200};
	for (unsigned k = 0; k < ROWS; k++)
		names[k] = (struct option){.name = rows[k].name,
			.has_arg = rows[k].kind != FLAG && rows[k].kind != PRINT};
	opterr = 0;
	optind = 1;
	while ((c = getopt_long(argc, argv, "", names, &i)) != -1) {
		if (c == '?')
			return err_set(e, EINVAL,
				"%s: no such option, or its value is missing; see --help",
				argv[optind - 1]);
		if (rows[i].kind == PRINT) {
			fputs(rows[i].wants, stdout);
			return 1;
		}
		if (!take(o, &rows[i], optarg))
			return err_set(e, EINVAL, "--%s must be %s; got '%s'", rows[i].name,
				rows[i].wants, optarg);
	}
	if (optind < argc)
		return err_set(e, EINVAL, "'%s' is not understood; see --help", argv[optind]);
	return check(o, e);
}
