/* SPDX-License-Identifier: BSD-3-Clause */
/* A real session for the fuzzers of what daemons say to each other: its VMM has one region and
 * answers what the fuzzer wants answered, there are no cores and no flows, and nobody reads what it
 * sends. What can't be is an abort(). */
#ifndef SESSION_RIG_H
#define SESSION_RIG_H

#include "session_impl.h"

#define RIG_RAM_BYTES (4 * CHUNK_BYTES)

extern struct session_host rig_host;
extern struct region_map rig_map;

/* Once. state_dir: for journals. */
void rig_open(const char *state_dir);
/* A session "guest" whose VMM has said hello, at that stage, with a connection. about: what its
 * QEMU told, or NULL; stolen. */
struct session *rig_stand(bool source, const char *stage, json_t *about);
/* Answers what the VMM was asked, in order. */
void rig_answer(struct session *s);
/* Puts something else into one of the object's members. object: NULL is allowed. */
void rig_spoil(json_t *object, uint8_t which, uint8_t how, const char *word);
/* Its flows will go over nic, on a port that is made up (rig_port.c): it stands before flows. A
 * flow whose words are good is counted in rig_flows, and then refused: there are no cores. */
void rig_nic(struct session *s);
extern unsigned rig_flows;
/* "address", "lanes" of that many flows and "spread", added to a message. */
void rig_lanes(json_t *msg, unsigned n);
/* The target's memory is registered by turns: two of its four windows at a time. What was asked for
 * is done, or refused, and told. Before rig_end(): no more. */
void rig_turns(struct session *s);
void rig_register(struct session *s, bool refuse);
void rig_turns_end(struct session *s);
/* Ends it, and all that it holds. */
void rig_end(struct session *s);

#endif
