// SPDX-License-Identifier: BSD-3-Clause
// The passes of a session at its source: live ones until the decision to switch, then the last and
// the late ones with the guest paused. Run by the control loop; the tick moves it on.

#include "session_impl.h"

#include "bits.h"
#include "clock.h"
#include "hole.h"
#include "lcore.h"
#include "plant.h"
#include "throttle.h"

#include <errno.h>
#include <numa.h>
#include <string.h>

#define TICK_LIVE_US   1000
#define TICK_SLOW_US   4000 /* at rest, or where it may take its time from cores that yield */
#define TICK_PAUSED_US 100
#define PASS_LEAST_NS  (4 * NS_PER_MS)   /* from a live pass' beginning to that of the next */
#define HOLD_REST_NS   (100 * NS_PER_MS) /* between passes while the operator holds */
#define NIC_GRACE_NS   (5 * NS_PER_S)
#define LAST_REPEATS   8u          /* passes at a paused guest that still had torn frames */
#define CARRY_BACKLOG  (4u << 20)  /* of the balloon's bitmap that waits for the wire */
#define CARRY_SWITCH   (64u << 10) /* so little may wait when the guest is paused */

static enum pass_kind kind_of(const struct session *s)
{
	if (s->state != SESSION_SWITCHING)
		return PASS_LIVE;
	return s->stage == stage_find("late") ? PASS_LATE : PASS_LAST;
}

static void on_looked(void *arg, struct vmm_answer *a);
static void on_armed(void *arg, struct vmm_answer *a);

static void io_look(void *arg, bool last)
{
	struct session *s = arg;

	vmm_ask(s->vmm, AGENT_LOOK, last, 0, -1, on_looked, s);
}

/* The range of an arming travels with its answer: armings are answered in order. */
static void io_arm(void *arg, uint64_t first, uint64_t n)
{
	struct session *s = arg;

	s->arm_range[s->arm_tail][0] = first;
	s->arm_range[s->arm_tail][1] = n;
	s->arm_tail = (s->arm_tail + 1) % (PASS_WINDOWS + 1);
	vmm_ask(s->vmm, AGENT_ARM, first, n, -1, on_armed, s);
}

static int io_populated(void *arg, struct region *r,
	int (*found)(void *found_arg, uint64_t offset, uint64_t bytes), void *found_arg,
	struct err *e)
{
	int rc = hole_walk_mapped(r->fd, r->bytes, r->base, found, found_arg);

	(void)arg;
	return rc < 0 ? err_sys(e, -rc, "cannot find the holes of region %s", r->name) : 0;
}

/* A VMM that can't ask, or not any more: nothing is left out. */
static void on_free_asked(void *arg, struct vmm_answer *a)
{
	struct session *s = arg;

	if (a->status < 0 && !session_over(s))
		log_warn(s->name, "free pages are sent: %s", a->why.text);
}

static void io_free_request(void *arg, uint32_t id)
{
	struct session *s = arg;

	vmm_ask(s->vmm, AGENT_FREE, id, 0, -1, on_free_asked, s);
}

static void on_free_looked(void *arg, struct vmm_answer *a)
{
	struct session *s = arg;

	if (session_over(s))
		return;
	pass_free_looked(&s->pass, a->status, a->a, a->b == 1, &a->why);
	s->fig.free_pages = s->exclude.free_pages;
}

static void io_free_look(void *arg, uint32_t id)
{
	struct session *s = arg;

	vmm_ask(s->vmm, AGENT_FREE_LOOK, id, 0, -1, on_free_looked, s);
}

static const struct pass_io pass_io = {
	io_look, io_arm, io_populated, io_free_request, io_free_look};

/* NUMA nodes of this host, as many as the queues tell apart. */
static unsigned nodes(void)
{
	int n = numa_available() < 0 ? 1 : numa_max_node() + 1;

	return n < (int)CLAIM_NODES ? (unsigned)n : CLAIM_NODES;
}

int precopy_init(struct session *s, struct err *e)
{
	struct region_map *map = &s->vmm->map;

	if (dirty_init(&s->dirty, map->nchunks) < 0)
		return err_set(e, ENOMEM, "out of memory for the bitmaps of %llu GiB",
			(unsigned long long)(map->bytes >> 30));
	if (exclude_init(&s->exclude, map, s->vmm->hints, s->vmm->hints_fd) < 0 ||
		carry_init(&s->carry, s->exclude.balloon, map->nchunks) < 0 ||
		claim_init(&s->claim, nodes()) < 0 ||
		pass_init(&s->pass, map, &s->dirty, &s->claim, s->vmm->out, s->vmm->in,
			s->vmm->planes_fd, &pass_io, s) < 0) {
		claim_fini(&s->claim);
		carry_fini(&s->carry);
		exclude_fini(&s->exclude);
		dirty_fini(&s->dirty);
		return err_set(e, ENOMEM, "out of memory for the queues of the flows");
	}
	s->exclude.use_balloon =
		s->opt.skip_balloon && (s->vmm->hint_flags & AGENT_HINT_BALLOON) != 0;
	s->exclude.ask_free = (s->vmm->hint_flags & AGENT_HINT_FREE) != 0;
	s->pass.x = &s->exclude;
	s->send = (struct send_job){.map = map,
		.dirty = &s->dirty,
		.claim = &s->claim,
		.codec = s->opt.codec,
		.level = s->opt.codec_level};
	s->have_pass = true;
	return 0;
}

void precopy_fini(struct session *s)
{
	pass_fini(&s->pass);
	claim_fini(&s->claim);
	carry_fini(&s->carry);
	exclude_fini(&s->exclude);
	dirty_fini(&s->dirty);
	progress_pass_none(s);
	s->have_pass = false;
}

static unsigned tick_us(const struct session *s)
{
	bool published = s->pass.state == PASS_PUBLISHED;
	bool sent = published && claim_backlog(&s->claim) == 0;

	if (s->paused)
		return published || s->pass.state == PASS_RUNNING ? TICK_PAUSED_US : TICK_LIVE_US;
	return s->pass.state == PASS_IDLE || (!sent && lcore_is_shared()) ? TICK_SLOW_US
									  : TICK_LIVE_US;
}

static void begin_pass(struct session *s)
{
	progress_pass_begins(s);
	if (s->fig.copy_began_ns == 0)
		s->fig.copy_began_ns = s->fig.pass_began_ns;
	s->progress_ns = s->fig.pass_began_ns;
	s->arm_head = s->arm_tail = 0;
	pass_begin(&s->pass, s->next_pass, kind_of(s));
	session_tick_every(s, tick_us(s));
}

void precopy_live(struct session *s)
{
	begin_pass(s);
}

void precopy_last(struct session *s)
{
	s->repeats = 0;
	begin_pass(s);
}

void precopy_late(struct session *s)
{
	if (plant(PLANT_LAW9_NO_LATE)) {
		stage_done(s);
		return;
	}
	precopy_last(s);
}

/* The pass goes to the flows. */
static void go(struct session *s)
{
	for (unsigned i = 0; i < s->nflows; i++)
		/* release: pairs with the lcore's acquire; it then sees the pass' claims */
		atomic_store_explicit(&s->flow[i]->run_pass, s->next_pass, memory_order_release);
	pass_go(&s->pass);
	s->fig.begun++;
	session_tick_every(s, tick_us(s));
	watch_state(s);
}

/* Tells the target of the balloon as far as the connection takes it. True: it knows all. */
static bool carry_on(struct session *s)
{
	static uint8_t buf[CARRY_BLOB_BYTES];
	size_t n;

	while (conn_backlog(s->conn) < CARRY_BACKLOG) {
		n = carry_next(&s->carry, buf);
		if (n == 0)
			return true;
		s->fig.balloon_bytes += n;
		if (s->paused)
			s->fig.balloon_paused_bytes += n;
		conn_send_blob(s->conn, buf, n);
	}
	return false;
}

/* So much of it is on its way that the guest would be paused longer for it. */
static bool untold(struct session *s)
{
	return s->conn != NULL && (!carry_on(s) || conn_backlog(s->conn) > CARRY_SWITCH);
}

static struct converge_decision decide(struct session *s)
{
	struct converge_facts f = {
		.passes = s->live_passes,
		.elapsed_ns = clock_ns() - s->fig.began_ns,
		.dirty_pages = s->pass.facts.dirty_pages + s->pass.facts.hole_pages,
		.pages_per_s = s->fig.pages_per_s,
		.overhead_ns = PRECOPY_OVERHEAD_NS,
		.untold = untold(s),
	};
	struct converge_limits l = s->opt.limits;

	/* The operator holds the guest back; then only he ends the copying. */
	if (s->opt.hold && !s->switch_now)
		l.max_passes = 0, l.max_time_ns = 0;
	throttle_decide(s, &l, &f);
	return converge_decide(&l, &f);
}

static void looked_live(struct session *s)
{
	struct converge_decision d = decide(s);

	if (s->live_passes > 0 && s->switch_now)
		d = (struct converge_decision){
			CONVERGE_SWITCH, d.expected_pause_ns, "the operator said switch-now"};
	progress_pass(s, &d);
	if (d.what == CONVERGE_GIVE_UP) {
		/* Nobody slows an unmodified QEMU's vCPUs down from outside. */
		session_failf(s, ETIME,
			"gave up after %u live passes: %s. %llu pages are dirty and would mean a "
			"pause of about %.0f ms; raise the downtime limit or the bandwidth, or say "
			"%s--on-timeout pause",
			s->live_passes, d.reason, (unsigned long long)s->pass.facts.dirty_pages,
			(double)d.expected_pause_ns / 1e6,
			s->where.driver == VMM_QEMU ? "" : "--throttle or ");
		return;
	}
	if (d.what == CONVERGE_SWITCH && (!s->opt.hold || s->switch_now)) {
		log_info(s->name, "switches over after %u live passes: %s", s->live_passes,
			d.reason);
		progress_pass_none(s); /* it is not begun */
		stage_done(s);
		return;
	}
	if (d.what == CONVERGE_SWITCH && s->state == SESSION_COPYING)
		session_set_state(s, SESSION_HOLDING);
	go(s);
}

static void on_looked(void *arg, struct vmm_answer *a)
{
	struct session *s = arg;

	if (s->state == SESSION_ENDING || s->state == SESSION_ENDED)
		return;
	pass_looked(&s->pass, a->status, &a->why);
	if (s->pass.state != PASS_LOOKED)
		return; /* the tick reports what failed */
	if (s->next_pass == 0)
		s->fig.skipped_pages = s->pass.facts.skipped_pages;
	s->fig.balloon_pages = s->pass.facts.balloon_pages;
	if (s->state == SESSION_RECONNECTING)
		return;
	carry_look(&s->carry, s->exclude.balloon_first, s->exclude.balloon_end);
	if (s->pass.facts.kind == PASS_LIVE) {
		looked_live(s);
	} else {
		struct converge_decision d = {CONVERGE_GO_ON, 0, "the guest is paused"};

		progress_pass(s, &d);
		go(s);
	}
}

static void on_armed(void *arg, struct vmm_answer *a)
{
	struct session *s = arg;
	uint64_t *range = s->arm_range[s->arm_head];

	if (s->state == SESSION_ENDING || s->state == SESSION_ENDED)
		return;
	s->arm_head = (s->arm_head + 1) % (PASS_WINDOWS + 1);
	pass_armed(&s->pass, range[0], range[1], a->status, &a->why);
	if (s->state != SESSION_RECONNECTING)
		pass_poll(&s->pass);
}

/* Looking costs the guest something: there is a floor, and a long pass is followed by the next one
 * at once. */
static void live_over(struct session *s, uint64_t now)
{
	const struct pass_facts *f = &s->pass.facts;
	uint64_t us, floor_ns = s->fig.pass_began_ns + PASS_LEAST_NS;
	bool idle = s->state == SESSION_HOLDING || f->dirty_pages + f->hole_pages == 0;

	s->rest_until_ns = floor_ns > now ? floor_ns : now;
	if ((s->opt.hold && !s->switch_now && idle) || untold(s))
		s->rest_until_ns = now + HOLD_REST_NS;
	us = (s->rest_until_ns - now + 999) / 1000;
	if (us == 0)
		begin_pass(s);
	else
		session_tick_every(s, us < TICK_SLOW_US ? (unsigned)us : TICK_SLOW_US);
}

/* All barriers of the pass are acknowledged. */
static void pass_over(struct session *s)
{
	uint64_t back = pass_close(&s->pass), now = clock_ns();

	progress_pass_over(s, now);
	flows_nic_look(s);
	s->fig.copy_ended_ns = now;
	s->next_pass++;
	if (s->pass.facts.kind == PASS_LIVE) {
		s->live_passes++;
		live_over(s, now);
		return;
	}
	/* Paused: nothing writes, so one pass suffices, unless frames were torn or lost. */
	if (back == 0)
		stage_done(s);
	else if (++s->repeats > LAST_REPEATS)
		session_failf(s, EIO,
			"%llu pages did not arrive whole in %u passes with the guest paused; the "
			"wire or a writer that is not seen changes them",
			(unsigned long long)back, s->repeats);
	else
		begin_pass(s);
}

void precopy_tick(struct session *s)
{
	struct pass *p = &s->pass;
	bool copying = s->have_pass && s->state >= SESSION_COPYING && s->state <= SESSION_SWITCHING;
	uint64_t stall_ns;
	struct err e;

	/* From the commit on only words that come move it, and it may be undecided for days. */
	if (session_before_commit(s))
		session_tick_every(s, copying ? tick_us(s) : TICK_SLOW_US);
	if (!copying)
		return;
	if (p->state == PASS_FAILED) {
		session_fail(s, &p->why);
		return;
	}
	if (p->state == PASS_RUNNING)
		pass_poll(p);
	flows_rdma_near(s);
	/* A live pass does not wait for the balloon's bitmap; the switch-over does, see untold().
	 * With the guest paused nothing is left for later: what follows relies on it. */
	if (s->conn == NULL || (!carry_on(s) && s->paused))
		return;
	if (p->state == PASS_PUBLISHED && session_flows_passed(s))
		pass_over(s);
	else if (p->state == PASS_IDLE && kind_of(s) == PASS_LIVE && clock_ns() >= s->rest_until_ns)
		begin_pass(s);
	/* The nic link says by itself that its peer is dead, and knows more. */
	stall_ns = s->peer_timeout_ns + (s->nic.port != NULL ? NIC_GRACE_NS : 0);
	if ((p->state == PASS_RUNNING || p->state == PASS_PUBLISHED) &&
		clock_ns() - s->progress_ns > stall_ns) {
		err_set(&e, ETIMEDOUT,
			"nothing moved for %llu s in pass %u; the network or the target hangs",
			(unsigned long long)(stall_ns / NS_PER_S), s->next_pass);
		reconnect_or_fail(s, &e);
		return;
	}
	progress_tick(s);
}
