// SPDX-License-Identifier: BSD-3-Clause
// The model. A state is a few bytes; from each, every step that could come next is tried; a state
// that was seen before is not tried again. One step of the control side is one of those that the
// program does as a whole: look, arm of a page, read of a page, the taking of a report with its
// look, a barrier.

#include "laws.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGES   3u
#define ALL     7u
#define POISON  14u
#define GARBAGE 15u
#define OLD     13u /* in the target's file from before */
#define DEPTH   120u

const char *const rule_name[RULES] = {"nothing", "law 1: arm before read", "law 1: put back",
	"law 1: clear only what was got", "law 2: all writers", "law 2: after the last byte",
	"law 3: the second arm", "law 3: the id", "law 3: poison", "law 4: must tell",
	"law 4: dirty when it leaves", "law 5: drop stale frames", "law 5: repeat the last pass",
	"law 10: check frames", "law 10: send again", "law 11: new holes",
	"law 11: a fresh target"};

enum phase { LOOK, PREARM, RUN, DONE };

struct frame {
	uint8_t there; /* 1; 2: damaged */
	uint8_t value, pass;
};

struct state {
	uint8_t src[PAGES], dst[PAGES];
	uint8_t pop;         /* pages that are no holes at the source */
	uint8_t dirty, seen; /* KVM's log; what look got of it */
	uint8_t told;        /* the device's writes */
	uint8_t set, taken, hole, held;
	uint8_t unused, balloon,
		given;          /* free; in the balloon, as the VMM and as the guest see it */
	uint8_t left, reported; /* left out as free; reports under way */
	uint8_t pass, phase, arm, read; /* cursors of the pass */
	uint8_t asked, placed, paused, last_try;
	uint8_t device, version, guest_left, wire_left; /* device: page + 1 that it is writing */
	struct frame f[PAGES];
	struct frame stale;
	uint8_t stale_page;
};

static struct {
	const struct laws *l;
	struct laws_result *r;
	uint64_t *seen; /* hashes: two states with one are as likely as a broken memory */
	uint64_t room, used;
	const char *path[DEPTH];
	uint8_t page[DEPTH];
	unsigned depth;
} m;

static bool without(enum rule r)
{
	return m.l->without == r;
}

static uint64_t hash(const struct state *s)
{
	const uint8_t *b = (const uint8_t *)s;
	uint64_t h = 14695981039346656037u;

	for (size_t i = 0; i < sizeof(*s); i++) {
		h = (h ^ b[i]) * UINT64_C(0x9e3779b97f4a7c15);
		h ^= h >> 29;
	}
	return h | 1; /* 0 is an empty place */
}

static bool known(const struct state *s)
{
	uint64_t h = hash(s), i = (h >> 1) & (m.room - 1);

	for (; m.seen[i] != 0; i = (i + 1) & (m.room - 1))
		if (m.seen[i] == h)
			return true;
	m.seen[i] = h;
	if (++m.used > m.room / 8 * 7) {
		fprintf(stderr, "more states than there is room for\n");
		exit(2);
	}
	return false;
}

static void visit(const struct state *s);

static void step(const char *what, unsigned page, const struct state *s)
{
	if (m.r->broken)
		return;
	if (m.depth == DEPTH) {
		fprintf(stderr, "a history without an end\n");
		exit(2);
	}
	m.path[m.depth] = what;
	m.page[m.depth++] = (uint8_t)page;
	visit(s);
	m.depth--;
}

/* What the guest, its device and the balloon do. */
static void guest_page(const struct state *s, unsigned p)
{
	uint8_t bit = (uint8_t)(1u << p);
	struct state n = *s;
	bool in_use = !((s->unused | s->given) & bit);

	n.guest_left--;
	if (in_use) {
		struct state w = n;

		w.src[p] = ++w.version;
		w.pop |= bit;
		w.dirty |= bit;
		step("guest writes", p, &w);
		w = n;
		if (s->device == 0) {
			w.device = (uint8_t)(p + 1);
			w.pop |= bit;
			if (without(RULE_2_LAST_BYTE))
				w.told |= bit;
			else
				w.src[p] = ++w.version;
			step("device begins to write", p, &w);
		}
		w = n;
		w.src[p] = m.l->poison ? POISON : 0;
		w.pop |= bit;
		w.dirty |= bit;
		w.unused |= bit;
		step("guest frees", p, &w);
		w = n;
		w.given |= bit;
		w.balloon |= bit;
		step("guest inflates", p, &w);
		w = n;
		w.src[p] = 0;
		w.pop &= (uint8_t)~bit;
		step("VMM discards", p, &w);
	} else if (s->unused & bit) {
		n.unused &= (uint8_t)~bit;
		step("guest uses a free page as it is", p, &n);
		n.src[p] = ++n.version;
		n.dirty |= bit;
		step("guest writes a free page", p, &n);
	} else {
		n.given &= (uint8_t)~bit;
		if (!without(RULE_4_MUST_TELL)) {
			if (!without(RULE_4_DIRTY))
				n.told |= bit;
			n.balloon &= (uint8_t)~bit;
		}
		step("guest deflates", p, &n);
	}
}

static void device_ends(const struct state *s)
{
	struct state n = *s;
	unsigned p = s->device - 1u;

	n.device = 0;
	if (without(RULE_2_LAST_BYTE))
		n.src[p] = ++n.version;
	else if (!without(RULE_2_ALL))
		n.told |= (uint8_t)(1u << p);
	step("device has written", p, &n);
}

static void guest(const struct state *s)
{
	if (s->device != 0)
		device_ends(s); /* paused or not: the VMM lets it end */
	if (s->paused)
		return;
	for (unsigned p = 0; s->guest_left > 0 && p < PAGES; p++)
		guest_page(s, p);
	for (unsigned p = 0; s->asked && p < PAGES; p++)
		if ((s->unused & ~s->reported) >> p & 1) {
			struct state n = *s;

			n.reported |= (uint8_t)(1u << p);
			step("guest reports free", p, &n);
		}
}

/* The target gets a frame. */
static void place(struct state *n, unsigned p, const struct frame *f)
{
	uint8_t bit = (uint8_t)(1u << p);

	if ((f->pass != n->pass && !without(RULE_5_STALE)) ||
		(n->placed & bit && f->pass == n->pass))
		return;
	if (f->there == 2) {
		if (without(RULE_10_CHECK)) {
			n->dst[p] = GARBAGE;
			n->taken &= (uint8_t)~bit;
		} else if (without(RULE_10_RESEND)) {
			n->taken &= (uint8_t)~bit;
		}
		return;
	}
	n->dst[p] = f->value;
	if (f->pass != n->pass)
		return;
	n->placed |= bit;
	n->taken &= (uint8_t)~bit;
}

static void wire(const struct state *s)
{
	for (unsigned p = 0; p < PAGES; p++) {
		struct state n = *s;

		if (s->f[p].there == 0)
			continue;
		place(&n, p, &s->f[p]);
		n.f[p] = (struct frame){0};
		step("frame arrives", p, &n);
		if (s->wire_left == 0)
			continue;
		n = *s;
		n.wire_left--;
		n.f[p] = (struct frame){0};
		step("frame is lost", p, &n);
		n = *s;
		n.wire_left--;
		n.f[p].there = 2;
		if (s->f[p].there == 1)
			step("frame is damaged", p, &n);
		n = *s;
		n.wire_left--;
		n.stale = s->f[p];
		n.stale_page = (uint8_t)p;
		if (s->stale.there == 0 && s->f[p].there == 1)
			step("frame is repeated", p, &n);
	}
	if (s->stale.there != 0) {
		struct state n = *s;

		place(&n, s->stale_page, &s->stale);
		n.stale = (struct frame){0};
		n.stale_page = 0;
		step("repeated frame arrives", s->stale_page, &n);
	}
}

static void look(const struct state *s)
{
	struct state n = *s;
	uint8_t there = (uint8_t)(s->pop & ~s->balloon);

	n.seen = s->dirty;
	n.left &= (uint8_t) ~(s->dirty | s->told);
	n.set = (uint8_t)(s->pass == 0 ? there : (s->set | s->dirty | s->told) & there);
	n.hole = without(RULE_11_NEW_HOLES) ? 0 : (uint8_t)(s->held & ~there);
	if (without(RULE_3_ID) && s->pass > 0) {
		n.set &= (uint8_t)~s->reported;
		n.reported = 0;
	}
	n.arm = n.read = n.placed = 0;
	n.phase = s->pass == 0 ? PREARM : RUN;
	step("look", 0, &n);
}

static void arm_page(struct state *n, uint8_t bit)
{
	bool clear = m.l->consuming || without(RULE_1_ONLY_SEEN) || (n->seen & bit) != 0;

	if (!(n->set & bit) && !without(RULE_1_ONLY_SEEN))
		return;
	if (clear)
		n->dirty &= (uint8_t)~bit;
	n->told &= (uint8_t)~bit;
	n->seen &= (uint8_t)~bit;
}

static void prearm(const struct state *s)
{
	struct state n = *s;

	if (s->arm < PAGES) {
		arm_page(&n, (uint8_t)(1u << s->arm));
		n.arm++;
		step("arm before asking", s->arm, &n);
		return;
	}
	n.arm = 0;
	n.phase = RUN;
	n.asked = !m.l->poison || without(RULE_3_POISON);
	step("ask for free pages", 0, &n);
}

/* The report that came so far, and the look after it. */
static void take_report(const struct state *s)
{
	struct state n = *s;
	uint8_t written = (uint8_t)(s->dirty | s->told), out;

	n.reported = 0;
	n.seen = s->dirty;
	out = (uint8_t)(s->reported & s->set);
	out &= (uint8_t)~s->held;
	if (!without(RULE_3_ARM_AGAIN))
		out &= (uint8_t)~written & (uint8_t)(ALL << s->arm);
	else
		out &= (uint8_t)(ALL << s->read);
	n.set &= (uint8_t)~out;
	if (!without(RULE_3_ARM_AGAIN))
		n.set |= written & s->pop;
	step("take the report and look", 0, &n);
}

static void read_page(const struct state *s)
{
	struct state n = *s;
	unsigned p = s->read;
	uint8_t bit = (uint8_t)(1u << p);

	if (s->set & bit) {
		n.set &= (uint8_t)~bit;
		n.hole &= (uint8_t)~bit;
		n.taken |= bit;
		n.held |= bit;
		n.f[p] = (struct frame){1, s->src[p], s->pass};
	} else if (s->hole & bit) { /* a hole is made at once: its loss is a dropped hole */
		n.hole &= (uint8_t)~bit;
		n.held &= (uint8_t)~bit;
		n.dst[p] = 0;
	}
	n.read++;
	step("read", p, &n);
}

static void barrier(const struct state *s)
{
	struct state n = *s;
	uint8_t back = s->taken;

	n.taken = 0;
	if (!without(RULE_1_PUT_BACK))
		n.set |= back;
	n.asked = 0;
	if (!without(RULE_3_ID))
		n.reported = 0;
	n.pass++;
	n.phase = LOOK;
	n.arm = n.read = n.placed = n.seen = 0;
	if (s->paused && (back == 0 || without(RULE_5_REPEAT)))
		n.phase = DONE;
	if (s->pass == 1)
		n.paused = 1;
	step("barrier", 0, &n);
}

static void run(const struct state *s)
{
	bool wire_empty = true;
	struct state n = *s;

	/* Arming runs ahead of reading by a page at most. */
	if (s->arm < PAGES && s->arm - s->read < 2 && !without(RULE_1_ARM_FIRST)) {
		arm_page(&n, (uint8_t)(1u << s->arm));
		n.arm++;
		step("arm", s->arm, &n);
	}
	if (without(RULE_1_ARM_FIRST) && s->arm < s->read) {
		n.set |= (uint8_t)(1u << s->arm);
		arm_page(&n, (uint8_t)(1u << s->arm));
		n.set = s->set;
		n.arm++;
		step("arm", s->arm, &n);
		return;
	}
	if (s->read < s->arm || (without(RULE_1_ARM_FIRST) && s->read < PAGES))
		read_page(s);
	if (s->reported != 0 && s->asked && s->read < PAGES)
		take_report(s);
	for (unsigned p = 0; p < PAGES; p++)
		wire_empty &= s->f[p].there == 0;
	if (s->read == PAGES && s->arm == PAGES && wire_empty)
		barrier(s);
}

static void end(const struct state *s)
{
	m.r->ends++;
	for (unsigned p = 0; p < PAGES; p++) {
		size_t at = 0;

		if (s->src[p] == s->dst[p] || (s->given & s->balloon) >> p & 1)
			continue;
		m.r->broken = true;
		for (unsigned i = 0; i < m.depth && at < sizeof(m.r->how) - 80; i++)
			at += (size_t)snprintf(m.r->how + at, sizeof(m.r->how) - at, "%s %u; ",
				m.path[i], m.page[i]);
		snprintf(m.r->how + at, sizeof(m.r->how) - at, "page %u is %u here, %u there", p,
			s->src[p], s->dst[p]);
		return;
	}
}

static void visit(const struct state *s)
{
	if (known(s))
		return;
	if (s->phase == DONE) {
		if (s->stale.there == 0)
			end(s);
		else
			wire(s);
		return;
	}
	guest(s);
	wire(s);
	if (s->paused && s->device != 0)
		return; /* the VMM waits for its device before it says that it has paused */
	if (s->phase == LOOK)
		look(s);
	else if (s->phase == PREARM)
		prearm(s);
	else
		run(s);
}

void laws_run(const struct laws *l, struct laws_result *r)
{
	struct state s = {.guest_left = (uint8_t)l->guest_ops, .wire_left = (uint8_t)l->wire_ops};

	memset(r, 0, sizeof(*r));
	m.l = l;
	m.r = r;
	m.room = UINT64_C(1) << 24;
	m.used = m.depth = 0;
	m.seen = calloc(m.room, sizeof(*m.seen));
	if (m.seen == NULL)
		exit(2);
	/* Page 0 is in use, page 1 free, page 2 a hole; the log starts empty, or full. */
	s.src[0] = s.version = 1;
	s.src[1] = l->poison ? POISON : 0;
	s.pop = 3;
	s.unused = 2;
	s.dirty = l->consuming ? ALL : 0;
	if (l->without == RULE_11_FRESH)
		s.dst[1] = s.dst[2] = OLD;
	visit(&s);
	r->states = m.used;
	free(m.seen);
}
