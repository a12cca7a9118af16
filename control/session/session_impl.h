/* SPDX-License-Identifier: BSD-3-Clause */
/* The inside of a session, for the files that make it up: session.c (life, list, API), stage.c (the
 * table of stages), stage_source.c and stage_target.c (what each side does), precopy.c (the passes
 * at the source), handover.c (commit and its answer), undecided.c (what is
 * left undecided), peer.c (requests to the other daemon),
 * watch.c (events and report). All run on the control loop; a session is touched by nobody else. */
#ifndef GODWIT_CONTROL_SESSION_IMPL_H
#define GODWIT_CONTROL_SESSION_IMPL_H

#include <sys/queue.h>

#include "carry.h"
#include "clock.h"
#include "conn.h"
#include "figures.h"
#include "flow.h"
#include "flows.h"
#include "journal.h"
#include "log.h"
#include "pass.h"
#include "populate.h"
#include "punch.h"
#include "reconnect.h"
#include "session.h"
#include "spool.h"
#include "stall.h"
#include "verify.h"
#include "vmm.h"

#define SESSION_PROTOCOL 1 /* version of the control messages, see PROTOCOL.md */

/* See session_moves[] in session.c for which follow which. */
enum session_state {
	SESSION_WAITING,      /* target: for a source to come */
	SESSION_PREPARING,    /* before anything is copied */
	SESSION_READY,        /* source: prepared, the operator holds the beginning back */
	SESSION_RECONNECTING, /* the network was lost; see reconnect.c */
	SESSION_COPYING,      /* live passes; the guest runs at the source */
	SESSION_HOLDING,      /* live passes go on, the operator holds the switch-over back */
	SESSION_SWITCHING,    /* source: the guest is paused, under lease. target: state arrives */
	SESSION_COMMITTING,   /* source: the commit is written. target: it is being taken over */
	SESSION_UNDECIDED,    /* source: silence after commit. The operator decides */
	SESSION_ENDING,       /* letting go of flows and the VMM */
	SESSION_ENDED,
	SESSION_STATES
};

enum session_result {
	RESULT_NONE,
	RESULT_DONE,
	RESULT_FAILED,
	RESULT_CANCELLED,
	RESULT_UNDECIDED,
	RESULT_REFUSED, /* by preflight: nothing was touched */
	RESULT_DRY_RUN,
	RESULTS
};

struct session_watch {
	LIST_ENTRY(session_watch) next;
	struct session *s;  /* NULL once the session is gone */
	struct event *late; /* reports "end" to one who came late */
	void (*fn)(void *arg, json_t *event);
	void *arg;
};

typedef void (*peer_fn)(struct session *s, json_t *answer);

struct session {
	TAILQ_ENTRY(session) next;
	struct session_host *host;
	char name[SESSION_NAME];
	struct vmm_where where;
	bool source;
	bool begun;     /* source: the first stage was entered */
	bool recovered; /* from a journal: has no VMM connection, only resolve touches it */
	bool totalled;  /* its counters are in the daemon's totals */
	bool settling;  /* the operator's decision is being carried out, beside the loop */

	enum session_state state;
	unsigned stage;    /* index into stage_table */
	uint64_t stage_ns; /* when it began */
	enum session_result result;
	struct err why;
	struct session_figures fig;
	LIST_HEAD(, session_watch) watches;

	struct event *tick;     /* polls lcores' words while flows are attached */
	struct event *deadline; /* of the stage */
	uint64_t deadline_s;    /* of it, when it began */
	uint64_t progress_seen, progress_ns;

	struct vmm *vmm;
	struct agent_hello hello; /* of the VMM; stays for the report when the VMM is let go */
	uint32_t page_bytes;      /* largest backing page of its regions; 0: VMM not known yet */
	uint64_t granule_bytes;   /* what its tracker tells apart; 0: not tracked yet */
	bool vmm_ready;           /* target: the VMM answered and waits for a guest */
	bool tracking, tracked;   /* asked for; answered */
	bool paused, fenced, loaded;
	bool stays_paused; /* others had paused the guest before: nobody is to resume it */
	json_t *direct;    /* source, from commit on: as in struct vmm */
	unsigned undoing;  /* requests of the roll-back under way */
	uint64_t ending_ns;

	struct conn *conn;
	struct dial *dial;
	uint32_t ask_seq; /* of the one request under way */
	peer_fn answered; /* NULL: none under way */
	json_t *peer;     /* the other side's hello */

	unsigned nflows;
	struct flow *flow[SESSION_FLOWS];
	bool attached[SESSION_FLOWS];
	struct dial *flow_dial[SESSION_FLOWS];
	unsigned flow_cpu[SESSION_FLOWS];
	unsigned flows_up;
	bool leaving;             /* all is placed: what becomes of the flows matters no more */
	uint64_t peer_timeout_ns; /* silence on the wire that ends the session */
	struct session_nic nic;
	struct session_rdma rdma;
	struct session_reconnect reconnect;
	uint8_t token[TOKEN_BYTES];
	bool have_token;
	enum seal_wish seal_wish;
	const struct seal_ops *seal; /* NULL: flows are in plain text. Set by preflight */

	struct populate *populating; /* NULL: no memory is populated or mapped now */
	struct journal *journal;
	struct spool *spool;
	struct verify *verify;
	char digest[33];

	/* source */
	struct migrate_options opt;
	bool readying; /* --prepare: memory is mapped, or `begin` waited for; see stage_ready.c */
	bool begin_now;
	bool switch_now;
	bool giving_back; /* after a commit that did not go out, or was refused */
	bool keep_target; /* the operator's word on an undecided session */
	struct dirty dirty;
	struct claim claim;
	struct send_job send;
	struct exclude exclude;
	struct carry carry;
	struct pass pass;
	bool have_pass;
	struct converge_throttle throttle;
	unsigned throttle_least; /* percent, so far */
	struct stall stall;
	struct session_seen seen;
	uint64_t arm_range[PASS_WINDOWS + 1][2]; /* armings under way, in order */
	unsigned arm_head, arm_tail;
	uint32_t next_pass; /* number of the next pass */
	uint32_t live_passes;
	unsigned repeats;       /* of the last pass */
	uint64_t rest_until_ns; /* between live passes */
	char peer_digest[33];
	uint64_t verify_began_ns, verify_took_ns;

	/* target */
	struct recv_job recv;
	bool have_recv;
	bool tells_busy;         /* the source wants to hear how busy cores are here */
	bool populate;           /* all of its memory, before a page is copied */
	char from[256];          /* as in struct receive_options */
	bool clearing;           /* what its files hold from before is punched out */
	uint64_t balloon_end;    /* chunks of plane IN up to which a balloon came; 0: none */
	bool loading;            /* flows are let go of, then the VMM gets its state */
	struct vmm_death *death; /* a VMM that must not run the guest is being ended */
	uint32_t reply_seq;      /* of the source's request that is being worked on; 0: none */
	uint64_t reserved_bytes;
};

/* session.c */
struct session *session_new(struct session_host *h, const char *name, const struct vmm_where *where,
	bool source, struct err *e);
/* A session that moves a guest needs it; one that is only remembered does not. 0 or -ENOENT. */
int session_check_helper(
	const struct session_host *h, const struct vmm_where *where, struct err *e);
void session_set_state(struct session *s, enum session_state to);
/* Target: a session of that name which waits for its lost source ends, so that its name and its VMM
 * are free. Whoever may receive may cancel, too. */
void session_give_way(const char *name);
/* Ends the session: rolls back what is not committed, lets go of everything, then tells the
 * watchers. why: NULL for success. Safe to call twice; the first result stays. */
void session_end(struct session *s, enum session_result result, const struct err *why);
/* The common way: RESULT_FAILED with a sentence. */
void session_fail(struct session *s, const struct err *why);
void session_failf(struct session *s, int errnum, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
extern const char *const session_state_name[SESSION_STATES];
const char *session_result_name(enum session_result r);
bool session_before_commit(const struct session *s);
/* It ends, or has ended: answers that still come change nothing. */
static inline bool session_over(const struct session *s)
{
	return s->state == SESSION_ENDING || s->state == SESSION_ENDED;
}
/* Is there memory for so much of a guest, less what other sessions were promised? See reserve.h. */
int session_reserve(const struct region_map *map, uint64_t bytes, struct err *e);
void session_tick_every(struct session *s, unsigned us);

/* tests/e2e/plant_stage.c: the session stands at its stage for now, so that a test can plant a
 * fault there. */
#ifdef GODWIT_PLANT
bool plant_stage(struct session *s);
#else
#define plant_stage(s) false
#endif

/* stage.c */
struct stage {
	const char *name;
	enum session_state state;          /* both sides are in it during the stage */
	void (*source)(struct session *s); /* begins; ends by stage_done() or session_fail() */
	void (*target)(struct session *s, json_t *msg); /* works on the source's request of that
							 * name; ends by peer_answer() or
							 * session_fail(); NULL: no request */
	void (*undo)(struct session *s); /* source: takes back what was begun; NULL: nothing */
	unsigned deadline_ms;            /* source: for the whole stage; 0: none */
	unsigned deadline_ms_gib;        /* and this for each GiB of the guest */
};
extern const struct stage stage_table[];
extern const unsigned stage_count;
unsigned stage_find(const char *name);                                    /* stage_count: none */
uint64_t stage_deadline_ms(const struct stage *st, uint64_t guest_bytes); /* 0: none */
void stage_begin(struct session *s, unsigned stage);
void stage_done(struct session *s);
/* The stage has ended: a line of the log, and an event. */
void stage_tell(struct session *s);
/* Source: the undo functions of all stages begun, last first. */
void stage_undo(struct session *s);

/* stage_source.c */
void source_vmm(struct session *s);
void source_connect(struct session *s);
void source_preflight(struct session *s);
void source_prepare(struct session *s);
void source_flows(struct session *s);
void source_track(struct session *s);
void source_track_undo(struct session *s);
void source_pause(struct session *s);
void source_pause_undo(struct session *s);
void source_save(struct session *s);
void source_verify(struct session *s);
void source_load(struct session *s);

/* stage_source.c: figures' populated_bytes. 0 or -errno with e set. */
int source_count_populated(struct session *s, struct err *e);

/* stage_ready.c */
/* The end of stage prepare: at once, or with --prepare when `begin` is asked for. */
void source_ready(struct session *s);
void source_ready_tick(struct session *s);
/* The request of stage flows: with what the guest has now, where its beginning was waited for. */
json_t *source_flows_tell(struct session *s, json_t *msg);

/* source_verify.c, for both sides */
/* The digest of all memory is taken. False: it is not, and the session ends, or has ended. */
bool session_digested(struct session *s, const struct verify_result *r);

/* precopy.c */
void precopy_live(struct session *s);
void precopy_last(struct session *s);
void precopy_late(struct session *s);
/* The dirty set, the queues and the pass; regions are mapped. */
int precopy_init(struct session *s, struct err *e);
void precopy_fini(struct session *s);
/* From the tick, in stages that copy. */
void precopy_tick(struct session *s);

/* From asking to pause until the guest runs, with nothing dirty. */
#define PRECOPY_OVERHEAD_NS (20 * NS_PER_MS)

/* progress.c */
void progress_pass_begins(struct session *s);
/* It was looked at what it has to send, and d decided. */
void progress_pass(struct session *s, const struct converge_decision *d);
/* None is under way any more. */
void progress_pass_none(struct session *s);
/* Its barriers are acknowledged; adds it to the report, and takes its rate. */
void progress_pass_over(struct session *s, uint64_t now);
/* From the tick, in stages that copy. */
void progress_tick(struct session *s);
/* The same at the target, while its flows are there. */
void progress_placing(struct session *s);

/* totals.c: the session has ended. */
void totals_ended(struct session *s);

/* stage_target.c */
void target_preflight(struct session *s, json_t *msg);
void target_prepare(struct session *s, json_t *msg);
void target_flows(struct session *s, json_t *msg);
void target_save(struct session *s, json_t *msg);
void target_verify(struct session *s, json_t *msg);
void target_load(struct session *s, json_t *msg);
/* From the tick. */
void target_tick(struct session *s);
void target_prepare_on(struct session *s); /* one step of it */
/* Request flows of a source that was told to wait: its guest may have grown since preflight. */
int target_book_again(struct session *s, json_t *msg, struct err *e);
/* What only the target holds. Its flows are gone. */
void target_fini(struct session *s);
/* A source's control connection said hello for this session; takes the connection over. */
void target_hello(struct session *s, struct conn *c, json_t *msg);
/* The source has left: true where nothing was begun yet, and the session waits for one again. */
bool target_waits_again(struct session *s, const struct err *why);
void target_flow(struct session *s, int fd, uint32_t index);
void target_blob(struct session *s, const uint8_t *data, size_t bytes);

/* handover.c */
/* Either side, while preparing: opens the journal. */
int handover_begin(struct session *s, struct err *e);
void handover_commit(struct session *s);
void handover_finish(struct session *s);
void handover_taken(struct session *s, json_t *msg);
/* Source: the control connection broke, or was silent, after the commit went out. */
void handover_silence(struct session *s, const struct err *why);
/* Source, committing: it is certain that the target does not run the guest; it goes on here. */
void handover_give_back(struct session *s, const struct err *why);

/* session_seal.c */
/* Sets s->seal by the wish and the connection. 0 or -errno with e set. */
int session_seal_choose(struct session *s, struct err *e);
/* "aes-256-gcm" or "none", as it goes to the other side. */
const char *session_seal_name(const struct session *s);
/* Target: chooses, and compares with what the source chose. */
int session_seal_agree(struct session *s, const char *theirs, struct err *e);
/* The secrets of one flow, from this side: out seals, in opens. Once for each flow. */
int session_seal_secrets(struct session *s, unsigned flow, struct seal_secret *out,
	struct seal_secret *in, struct err *e);
/* Seals a link where flows are sealed; closes it when that fails. */
int session_seal_link(struct session *s, struct link *link, unsigned flow, int node, struct err *e);

/* peer.c */
extern const struct conn_ops peer_ops;
/* Source: asks the target; one request at a time. msg is stolen; its "op" is the stage's name. */
void peer_ask(struct session *s, json_t *msg, peer_fn answered);
/* Target: answers the request under way. fields: more members (stolen) or NULL. */
void peer_answer(struct session *s, json_t *fields);
/* Either: tells the other side why this one ends. */
void peer_abort(struct session *s, const struct err *why);
/* Source: dials the target for a control connection. NULL with e set. */
struct dial *peer_dial(struct session *s, unsigned deadline_ms, dial_fn done, struct err *e);
/* Target: makes a token for the flows, and the message that tells of it. NULL with e set. */
json_t *peer_new_token(struct session *s, struct err *e);
#define TOKEN_TEXT (2 * TOKEN_BYTES + 1)
void peer_token_text(const uint8_t token[TOKEN_BYTES], char text[TOKEN_TEXT]);
bool peer_get_token(json_t *msg, const char *key, uint8_t token[TOKEN_BYTES], struct err *e);
/* Members of messages, checked: each returns false and fills e if it is absent or of another kind.
 */
bool peer_get_text(json_t *msg, const char *key, char *dst, size_t bytes, struct err *e);
bool peer_get_u64(json_t *msg, const char *key, uint64_t max, uint64_t *v, struct err *e);
/* Source: does the target's hello name our control protocol, and what its side can? Else the
 * session has failed. */
bool peer_speaks(struct session *s, json_t *hello);
/* Do both sides have it, by their hellos? See can_need(). */
int peer_can(struct session *s, const char *list, const char *name, struct err *e);
/* Source, before preflight: all that the session is to use. */
int peer_can_all(struct session *s, struct err *e);
/* What this side's hello says of that. New reference. */
json_t *peer_tell(const struct session *s);

/* watch.c */
void watch_emit(struct session *s, json_t *event); /* steals the reference */
void watch_state(struct session *s);
/* The VMM answered: keeps what reports tell of it. */
void watch_know_vmm(struct session *s);
void watch_end(struct session *s);
json_t *watch_report(struct session *s);
void watch_text(struct session *s, enum log_level level, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* What a VMM's answer tells besides. */
void watch_warn(struct session *s, const struct vmm_answer *a);
void watch_drop_all(struct session *s);

#endif
