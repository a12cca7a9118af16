/* SPDX-License-Identifier: BSD-3-Clause */
/* The daemon's one TCP port: control connections and flows arrive there. The connecting side begins
 * with a preamble of 32 bytes, little-endian, that says what the connection is:
 *    0 u32 magic "GDWT"   4 u16 version   6 u16 kind (1 control, 2 flow)
 *    8 u8[16] token (flow; zeros for control)   24 u32 flow index   28 u32 reserved, 0
 * The preamble is read without blocking, within a deadline; half-open connections are bounded. */
#ifndef GODWIT_CONTROL_LISTEN_H
#define GODWIT_CONTROL_LISTEN_H

#include <event2/event.h>
#include <stdint.h>

#include "err.h"

#define PREAMBLE_BYTES   32u
#define PREAMBLE_MAGIC   0x54574447u /* "GDWT" */
#define PREAMBLE_VERSION 1
#define TOKEN_BYTES      16u
#define LISTEN_HALF_OPEN 64u /* connections whose preamble is awaited, at most */
#define LISTEN_WAIT_S    5   /* for the preamble */

enum preamble_kind { PREAMBLE_CONTROL = 1, PREAMBLE_FLOW = 2 };

struct preamble {
	uint16_t kind;
	uint8_t token[TOKEN_BYTES];
	uint32_t flow;
};

void preamble_encode(const struct preamble *p, uint8_t buf[PREAMBLE_BYTES]);
int preamble_decode(struct preamble *p, const uint8_t buf[PREAMBLE_BYTES], struct err *e);

struct listen;
/* fd is the callee's. */
typedef void (*listen_fn)(void *arg, int fd, const struct preamble *p);

/* address "HOST:PORT", "[v6]:PORT", ":PORT". The port in use is an error that says what to do. */
int listen_new(struct listen **l, struct event_base *base, const char *address, listen_fn fn,
	void *arg, struct err *e);
void listen_free(struct listen *l);
/* Port bound (for ":0"). */
uint16_t listen_port(const struct listen *l);

/* Connects without blocking, sends the preamble, calls done(arg, fd or -1, why) once, within
 * deadline_ms. Returns a handle for dial_cancel(), or NULL with e set (bad address). */
struct dial;
typedef void (*dial_fn)(void *arg, int fd, const struct err *why);
struct dial *dial_new(struct event_base *base, const char *address, const struct preamble *p,
	unsigned deadline_ms, dial_fn done, void *arg, struct err *e);
/* Before done was called; done is not called then. NULL is allowed. */
void dial_cancel(struct dial *d);

#endif
