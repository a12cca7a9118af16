// SPDX-License-Identifier: BSD-3-Clause
// What the source does in each stage, but for the passes (precopy.c) and the commit (handover.c).
// Each function begins its stage and returns; the stage ends in a callback.

#include "session_impl.h"

#include "bits.h"
#include "clock.h"
#include "describe.h"
#include "godwit.h"
#include "hole.h"
#include "lcore.h"
#include "reserve.h"
#include "throttle.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define VMM_DEADLINE_MS  60000 /* a busy host's KVM takes seconds to switch its log on */
#define DIAL_DEADLINE_MS 5000

/* For requests whose answer only matters when it is a failure. */
static bool failed(struct session *s, struct vmm_answer *a)
{
	if (session_over(s))
		return true;
	if (a->status < 0)
		session_fail(s, &a->why);
	/* What was asked before the network was lost is to no purpose any more. */
	return a->status < 0 || s->state == SESSION_RECONNECTING;
}

static void on_gone(void *arg, const struct err *why)
{
	struct session *s = arg;

	if (session_over(s) || s->state == SESSION_UNDECIDED)
		return;
	/* Fenced it has nothing to do with whose the guest is: the target's answer decides. */
	if (s->fenced && s->state == SESSION_COMMITTING)
		log_warn(s->name, "its VMM here has ended before the target answered: %s",
			why->text);
	else
		session_fail(s, why);
}

static void on_vmm(void *arg, struct vmm_answer *a)
{
	struct session *s = arg;

	if (failed(s, a))
		return;
	watch_know_vmm(s);
	stall_begin(&s->stall, s->vmm->pid, s->vmm->vcpus, s->vmm->nvcpus);
	if (s->vmm->state != GODWIT_RUNNING) {
		session_failf(s, EBUSY,
			"the VMM at %s does not run a guest (it is %s); give the socket of the VMM "
			"whose guest is to go",
			s->where.socket,
			s->vmm->state == GODWIT_INCOMING || s->vmm->state == GODWIT_LOADED
				? "waiting for one"
			: s->vmm->state == GODWIT_FENCED
				? "fenced by an earlier migration, see `godwit resolve`"
				: "not in a state to migrate");
		return;
	}
	throttle_try(s);
}

void source_vmm(struct session *s)
{
	struct err e;

	if (vmm_open(&s->vmm, s->host->base, &s->where, VMM_DEADLINE_MS, on_vmm, s, &e) < 0) {
		session_fail(s, &e);
		return;
	}
	s->vmm->gone = on_gone;
	s->vmm->gone_arg = s;
}

static void on_hello(struct session *s, json_t *answer)
{
	if (session_over(s) || !peer_speaks(s, answer))
		return;
	s->peer = json_incref(answer);
	stage_done(s);
}

static void on_dialled(void *arg, int fd, struct tls *tls, const struct err *why)
{
	struct session *s = arg;
	struct err e;

	s->dial = NULL;
	if (fd < 0) {
		session_fail(s, why);
		return;
	}
	s->conn = conn_new(s->host->base, fd, tls, &e);
	if (s->conn == NULL) {
		session_fail(s, &e);
		return;
	}
	conn_own(s->conn, &peer_ops, s);
	peer_ask(s,
		json_pack("{s:i, s:s, s:s, s:o}", "protocol", SESSION_PROTOCOL, "godwit",
			GODWIT_VERSION, "name", s->name, "can", peer_tell(s)),
		on_hello);
}

void source_connect(struct session *s)
{
	struct err e;

	s->dial = peer_dial(s, DIAL_DEADLINE_MS, on_dialled, &e);
	if (s->dial == NULL)
		session_fail(s, &e);
}

/* Bytes that are no holes; the regions are mapped later. */
int source_count_populated(struct session *s, struct err *e)
{
	s->fig.populated_bytes = 0;
	for (unsigned i = 0; i < s->vmm->map.n; i++) {
		const struct region *r = &s->vmm->map.r[i];
		uint64_t bytes;
		int rc = hole_measure(r->fd, r->bytes, &bytes);

		if (rc < 0)
			return err_sys(e, -rc, "cannot find the holes of region %s", r->name);
		s->fig.populated_bytes += bytes;
	}
	return 0;
}

/* For how long the target is to wait: as long as this side, once it has noticed too. */
static uint64_t reconnect_ms(const struct session *s)
{
	uint64_t wait = s->reconnect.wait_ns;

	return (wait == 0 ? 0 : wait + s->peer_timeout_ns) / NS_PER_MS;
}

static void on_preflight(struct session *s, json_t *answer)
{
	(void)answer;
	if (session_over(s))
		return;
	if (s->opt.dry_run)
		session_end(s, RESULT_DRY_RUN, NULL);
	else
		stage_done(s);
}

static json_t *codec_names(void)
{
	json_t *names = json_array();

	for (const struct codec_ops *const *c = codec_table; *c != NULL; c++)
		json_array_append_new(names, json_string((*c)->name));
	return names;
}

void source_preflight(struct session *s)
{
	struct err e;
	json_t *ask;

	if (source_count_populated(s, &e) < 0 || session_seal_choose(s, &e) < 0 ||
		flows_nic_choose(s, &e) < 0 || peer_can_all(s, &e) < 0) {
		session_fail(s, &e);
		return;
	}
	ask = json_pack("{s:o, s:s, s:s, s:s, s:s, s:i, s:I, s:I}", "regions",
		describe_regions(&s->vmm->map), "hypervisor", s->vmm->hello.hypervisor, "link",
		s->opt.link, "seal", session_seal_name(s), "codec", s->opt.codec->name, "flows",
		(int)s->opt.flows, "populated_bytes", (json_int_t)s->fig.populated_bytes,
		"reconnect_ms", (json_int_t)reconnect_ms(s));
	if (s->vmm->about != NULL)
		json_object_set(ask, "machine", s->vmm->about);
	if (s->opt.codec == &codec_auto) {
		json_object_set_new(ask, "codecs", codec_names());
		json_object_set_new(ask, "busy", json_true());
	}
	flows_nic_describe(s, ask);
	flows_rdma_describe(s, ask);
	peer_ask(s, ask, on_preflight);
}

/* Law 11: the target kept what the memory of these regions held, so all of it counts as held: what
 * is not sent becomes a hole there. */
static bool take_kept(struct session *s, json_t *answer)
{
	struct region_map *map = &s->vmm->map;
	json_t *at;
	size_t i;

	json_array_foreach(json_object_get(answer, "kept"), i, at)
	{
		json_int_t n = json_integer_value(at);
		const struct region *r;

		if (!json_is_integer(at) || n < 0 || n >= (json_int_t)map->n)
			return false;
		r = &map->r[n];
		dirty_touch(&s->dirty, r->first_chunk, r->nchunks);
		bits_set_range(s->dirty.held + r->first_chunk, 0, r->bytes >> PAGE_SHIFT);
	}
	return true;
}

static void on_prepared(struct session *s, json_t *answer)
{
	struct err e;

	if (session_over(s))
		return;
	if (!peer_get_token(answer, "token", s->token, &e) ||
		!peer_get_token(answer, "secret", s->reconnect.secret, &e)) {
		session_fail(s, &e);
		return;
	}
	if (!take_kept(s, answer)) {
		session_failf(s, EPROTO,
			"the target's daemon kept memory of a region that the guest has not");
		return;
	}
	if (flows_rdma_take_keys(s, answer, &e) < 0)
		session_fail(s, &e);
	else
		source_ready(s);
}

void source_prepare(struct session *s)
{
	struct region_map *map = &s->vmm->map;
	struct err e;

	for (unsigned i = 0; i < map->n; i++)
		if (region_mmap(&map->r[i], false, &e) < 0) {
			session_fail(s, &e);
			return;
		}
	reserve_find_nodes(map);
	if (precopy_init(s, &e) < 0 || handover_begin(s, &e) < 0) {
		session_fail(s, &e);
		return;
	}
	flows_rdma_lend(s);
	peer_ask(s, json_pack("{s:b}", "keep", 1), on_prepared);
}

static void on_tracking(void *arg, struct vmm_answer *a)
{
	struct session *s = arg;

	s->tracked = a->status >= 0;
	if (failed(s, a))
		return;
	s->granule_bytes = a->b;
	if (s->granule_bytes > PAGE_BYTES)
		watch_text(s, LOG_INFO,
			"a write to a page is told as one to %llu KiB, all of which goes again",
			(unsigned long long)s->granule_bytes / 1024);
	stage_done(s);
}

void source_track(struct session *s)
{
	if (s->tracked) { /* resumed: it never ended */
		stage_done(s);
		return;
	}
	s->tracking = true;
	stall_arm(&s->stall);
	vmm_ask(s->vmm, AGENT_TRACK_START, 0, 0, -1, on_tracking, s);
}

static void on_undone(void *arg, struct vmm_answer *a)
{
	struct session *s = arg;

	close_fd(&a->fd);
	watch_warn(s, a);
	if (a->status < 0)
		log_warn(s->name, "roll-back: %s", a->why.text);
	if (s->undoing > 0)
		s->undoing--;
}

static void undo(struct session *s, uint16_t type)
{
	s->undoing++;
	vmm_ask(s->vmm, type, 0, 0, -1, on_undone, s);
}

void source_track_undo(struct session *s)
{
	throttle_lift(s);
	if (s->tracking)
		undo(s, AGENT_TRACK_STOP);
	s->tracking = s->tracked = false;
}

static void on_paused(void *arg, struct vmm_answer *a)
{
	struct session *s = arg;

	uint64_t now = clock_ns();

	if (failed(s, a))
		return;
	/* The VMM says for how long it has stood still; it may have prepared for that before. */
	if (a->b < now - s->fig.pause_began_ns)
		s->fig.pause_began_ns = now - a->b;
	s->stays_paused = a->a == 1;
	stage_done(s);
}

void source_pause(struct session *s)
{
	stall_look(&s->stall);
	s->fig.pause_began_ns = clock_ns();
	s->paused = true;
	vmm_ask(s->vmm, AGENT_PAUSE, 0, 0, -1, on_paused, s);
}

/* Not for a fenced guest: that is handover.c's to decide. */
void source_pause_undo(struct session *s)
{
	if (s->paused && !s->fenced)
		undo(s, AGENT_RESUME);
	s->paused = false;
}

static void on_state_kept(struct session *s, json_t *answer)
{
	(void)answer;
	if (!session_over(s))
		stage_done(s);
}

static void on_saved(void *arg, struct vmm_answer *a)
{
	struct session *s = arg;
	struct err e;

	/* The network was lost meanwhile, and the VMM told to let it be: the next pause saves. */
	if (s->state == SESSION_RECONNECTING && a->status == -ECANCELED)
		return;
	if (failed(s, a)) {
		close_fd(&a->fd);
		return;
	}
	if (a->fd < 0 || spool_from_fd(&s->spool, a->fd, a->a, &e) < 0) {
		if (a->fd < 0)
			err_set(&e, EPROTO, "the VMM saved its state and passed no file");
		session_fail(s, &e);
		return;
	}
	s->fig.state_bytes = s->spool->bytes;
	peer_ask(s,
		json_pack("{s:I, s:I}", "bytes", (json_int_t)s->spool->bytes, "crc",
			(json_int_t)s->spool->crc),
		on_state_kept);
	if (spool_send(s->spool, s->conn, &e) < 0)
		reconnect_or_fail(s, &e);
}

void source_save(struct session *s)
{
	vmm_ask(s->vmm, AGENT_SAVE, 0, 0, -1, on_saved, s);
}

static void on_loaded(struct session *s, json_t *answer)
{
	struct err e;

	if (session_over(s))
		return;
	if (flows_rdma_take_end(s, answer, &e) < 0)
		session_fail(s, &e);
	else
		stage_done(s);
}

void source_load(struct session *s)
{
	/* The digest's time is reported apart from the pause. */
	if (s->verify_began_ns != 0)
		s->verify_took_ns = clock_ns() - s->verify_began_ns;
	/* What was found since the last tick is not looked at later. */
	if (!flows_nic_work(s))
		return;
	/* All is placed: the target says goodbye to the flows now. */
	s->leaving = true;
	peer_ask(s, json_object(), on_loaded);
}
