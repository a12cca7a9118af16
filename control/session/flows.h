/* SPDX-License-Identifier: BSD-3-Clause */
/* The flows of a session: what is the same for all links (session_flows.c), and how each link's are
 * opened on both sides (source_flows.c for tcp, flows_nic.c, flows_rdma.c). Control loop only. */
#ifndef GODWIT_CONTROL_FLOWS_H
#define GODWIT_CONTROL_FLOWS_H

#include <jansson.h>

#include "link_nic.h"
#include "link_rdma.h"
#include "link_rdma_pool.h"
#include "offer.h"
#include "session.h"

/* Flows over the nic link, see flows_nic.c. */
struct nic_lane {
	unsigned queue;
	uint16_t udp_port;
	bool taken;     /* the UDP port is still the session's */
	uint64_t token; /* that the peer has to show */
};

struct session_nic {
	struct port *port; /* held; NULL: the link is another one */
	struct offer_choice offer;
	struct nic_lane lane[SESSION_FLOWS];
	char about[PORTS_ABOUT];       /* of the port, for the report */
	struct extmem_window *windows; /* source: the guest's memory for the device; NULL: none */
	struct extmem_window_info mapped; /* as of the last look; of windows that are gone too */
	char copies[ERR_TEXT_BYTES];      /* source: why pages are copied; "": not known to be */
	struct port_info info;            /* as it was at the start */
	struct link_nic_info links;       /* sums over flows; the largest MTU and round trip */
	struct link_nic_info links_gone;  /* of those, of flows that a lost network ended */
};

/* Flows over the rdma link, see flows_rdma.c. */
struct rdma_lane {
	struct session *s;
	unsigned flow;
	struct link_rdma_end *end; /* a connection being made */
};

/* The target's memory registered by turns, see flows_rdma_turns.c. */
struct session_turns {
	uint64_t window_bytes;
	uint32_t most;                    /* windows at a time; 0: all are, from the start */
	uint64_t asked, dropped, refused; /* windows */
};

struct session_rdma {
	bool on;                         /* the link is this one */
	bool direct;                     /* both sides trust the fabric, and nothing is sealed */
	struct link_rdma_domain *domain; /* of this session's queue pairs and memory */
	struct link_rdma_memory *memory; /* registered, or being so: to be written, or to be read */
	char copied[ERR_TEXT_BYTES];     /* source: why pages are copied first; "": they are not */
	bool registering;
	struct link_rdma_key keys[REGION_MAX];        /* source: of the target's regions */
	struct link_rdma_windows windows[REGION_MAX]; /* of those that have no one key */
	bool can_turn;                                /* target: the source can ask for windows */
	struct session_turns turns;                   /* of the target's memory */
	struct link_rdma_pool *pool;                  /* source: which of them; NULL: all */
	struct link_rdma_registered figures;          /* of the target's memory */
	struct link_rdma_registered lent;      /* source: of its own, once that was let go of */
	char address[LINK_RDMA_ADDRESS_BYTES]; /* source: where the target's daemon listens */
	uint16_t port;
	struct link_rdma_info info; /* of the device here */
	struct rdma_lane lane[SESSION_FLOWS];
	void (*all_up)(struct session *s); /* every flow has its core */
};

/* session_flows.c */
/* Every flow: sums their counters into fig.stats. */
void session_sum_stats(struct session *s);
/* Seals the link, which is taken over, and gives flow i on it to its core. 0 or -errno with e set;
 * what was made of the flow then ends with the session. */
int session_flow_begin(
	struct session *s, unsigned i, struct link *link, unsigned lcore, struct err *e);
/* Has a flow broken, has anything moved? False when the session has failed. */
bool session_flows_work(struct session *s);
/* Source: each has the answer to the barrier of the pass under way. */
bool session_flows_passed(const struct session *s);
/* All of their lcores have let go. */
bool session_flows_detached(const struct session *s);
/* Frees the flows once all of their lcores have let go. True when none is left. */
bool session_flows_gone(struct session *s);

/* source_flows.c, either side: all flows are attached. */
void flows_up(struct session *s);

/* Target, in preflight: can it have this link? 0, or -errno with e set. */
int flows_accept(struct session *s, const char *link, json_t *msg, struct err *e);

/* flows_nic.c */
/* Source, before preflight: makes "nic" or "tcp" of the link that was asked for, and holds a port
 * for nic. 0, or -errno with e set: nic was asked for and can't be. */
int flows_nic_choose(struct session *s, struct err *e);
/* Source: adds to the preflight message what the target has to agree on; nothing for tcp. */
void flows_nic_describe(const struct session *s, json_t *msg);
/* Target: does so, and holds its port. */
int flows_nic_accept(struct session *s, json_t *msg, struct err *e);
/* Stage flows. */
void source_flows_nic(struct session *s);
void target_flows_nic(struct session *s, json_t *msg);
/* Keeps what the links counted, as long as there are flows. */
void flows_nic_sum(struct session *s);
/* All flows were freed, others will come: only the port stays. */
void flows_nic_again(struct session *s);
/* All flows were freed: lets the port go. */
void flows_nic_gone(struct session *s);

/* flows_nic_map.c, source */
/* Before the first flow: has windows of the guest's memory mapped for a device that reads by DMA,
 * or says why pages are copied. 0 or -errno with e set: nothing but zero copy was wanted. */
int flows_nic_map(struct session *s, struct err *e);
/* From the tick: how the windows are. False: the session has failed. */
bool flows_nic_work(struct session *s);
/* A pass is over: they are to be looked at again. */
void flows_nic_look(struct session *s);
/* The flows are gone. */
void flows_nic_unmap(struct session *s);

/* flows_rdma.c */
/* Source, before preflight, where --link rdma asks for it. 0, or -errno with e set. */
int flows_rdma_choose(struct session *s, struct err *e);
void flows_rdma_describe(const struct session *s, json_t *msg);
int flows_rdma_accept(struct session *s, json_t *msg, struct err *e);
void source_flows_rdma(struct session *s);
int flows_rdma_removed_error(const struct session *s, struct err *e);
/* flows_rdma_register.c. Whose pages come to their place by themselves. */
bool flows_rdma_registers(const struct session *s, const struct region *r);
/* Target: may this process lock what flows and these regions need, or that of some of their windows
 * at a time? Sets turns. -ENOMEM with e set. */
int flows_rdma_may_lock(struct session *s, struct err *e);
/* Target, its memory being ready: begins to register what may be written directly; 1 where there is
 * nothing, or all is done; 0: ask again; -errno with e set. */
int flows_rdma_register(struct session *s, struct err *e);
/* flows_rdma_keys.c. Target: adds the keys to the answer of prepare. Source: takes them. -EPROTO
 * with e set. */
void flows_rdma_tell_keys(const struct session *s, json_t *msg);
int flows_rdma_take_keys(struct session *s, json_t *msg, struct err *e);
/* No flow uses them any more. */
void flows_rdma_forget_keys(struct session *s);
/* Target, flows have let go: nobody can write the guest's memory any more, and holes that waited
 * are made. As flows_rdma_register(). */
int flows_rdma_release(struct session *s, struct err *e);
/* How long that took: the target adds it to the answer of load (NULL: nothing to tell). Source:
 * takes it. -EPROTO with e set. */
json_t *flows_rdma_tell_end(const struct session *s);
int flows_rdma_take_end(struct session *s, json_t *msg, struct err *e);
/* flows_rdma_turns.c. Target: not all may be locked; can it be registered by turns? Sets how. */
bool flows_rdma_turns_fit(struct session *s);
json_t *flows_rdma_tell_turns(const struct session *s);
/* Is that so, and flows run? Then the source may say which windows it wants, and drops. */
bool flows_rdma_turning(const struct session *s);
void flows_rdma_hear_windows(struct session *s, json_t *msg);
/* From the tick: tells keys of windows that are registered. True: there will be more. */
bool flows_rdma_say_windows(struct session *s);
/* Either side, flows of a lost network are gone: no window is registered any more. False: again. */
bool flows_rdma_again(struct session *s);
/* flows_rdma_near.c. Source: takes what the target tells of windows with its keys; -errno with e
 * set. Keys of windows, as they are registered. From the tick of a pass: says what will be written
 * next. And what came of it all, for the report. */
int flows_rdma_take_turns(struct session *s, const json_t *told, struct err *e);
void flows_rdma_hear_keys(struct session *s, json_t *msg);
void flows_rdma_near(struct session *s);
void flows_rdma_count_turns(struct session *s);
/* flows_rdma_lend.c. Source, its memory being mapped: begins to let the device read it by itself,
 * where that can be. And what came of it, for the report. */
void flows_rdma_lend(struct session *s);
void flows_rdma_tell_lent(const struct session *s, json_t *report);
/* No connection will be made any more, and the session wants nothing of the device. */
void flows_rdma_gone(struct session *s);
/* For the report: the device, and how pages go. */
json_t *flows_rdma_report(const struct session *s);
/* Connections that are being made come to nothing. */
void flows_rdma_cancel(struct session *s);

#endif
