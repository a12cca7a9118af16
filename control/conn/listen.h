/* SPDX-License-Identifier: BSD-3-Clause */
/* The daemon's one TCP port: control connections and flows arrive there. The connecting side begins
 * with a preamble of 32 bytes, little-endian, that says what the connection is:
 *    0 u32 magic "GDWT"   4 u16 version   6 u16 kind (1 control, 2 flow, 3 control over TLS)
 *    8 u8[16] token (flow; zeros else)   24 u32 flow index   28 u32 reserved, 0
 * After a preamble of kind 3 comes a TLS handshake (tls.h). Preamble and handshake are read without
 * blocking, within a deadline; half-open connections are bounded. */
#ifndef GODWIT_CONTROL_LISTEN_H
#define GODWIT_CONTROL_LISTEN_H

#include <event2/event.h>
#include <stdint.h>

#include "err.h"
#include "tls.h"

#define PREAMBLE_BYTES   32u
#define PREAMBLE_MAGIC   0x54574447u /* "GDWT" */
#define PREAMBLE_VERSION 1
#define TOKEN_BYTES      16u
#define LISTEN_HALF_OPEN 64u /* connections that have not said who they are, at most */
#define LISTEN_WAIT_S    5   /* for the preamble and the handshake */

enum preamble_kind { PREAMBLE_CONTROL = 1, PREAMBLE_FLOW = 2, PREAMBLE_CONTROL_TLS = 3 };

struct preamble {
	uint16_t kind;
	uint8_t token[TOKEN_BYTES];
	uint32_t flow;
};

void preamble_encode(const struct preamble *p, uint8_t buf[PREAMBLE_BYTES]);
int preamble_decode(struct preamble *p, const uint8_t buf[PREAMBLE_BYTES], struct err *e);

struct listen;
/* fd is the callee's, and tls, which is NULL but for PREAMBLE_CONTROL_TLS. */
typedef void (*listen_fn)(void *arg, int fd, struct tls *tls, const struct preamble *p);

/* A socket that listens there; or -errno with a sentence and its cure. Looks names up, and blocks.
 */
int listen_bind(const char *address, struct err *e);

/* address "HOST:PORT", "[v6]:PORT", ":PORT". The port in use is an error that says what to do. */
int listen_new(struct listen **l, struct event_base *base, const char *address, listen_fn fn,
	void *arg, struct err *e);
/* Before the loop runs: TLS is spoken with these keys, which outlive l. Without: with nobody. */
void listen_secure(struct listen *l, struct tls_host *tls);
void listen_free(struct listen *l);
/* Port bound (for ":0"). */
uint16_t listen_port(const struct listen *l);

/* Connects without blocking, sends the preamble, calls done(arg, fd or -1, tls, why) once, within
 * deadline_ms. Returns a handle for dial_cancel(), or NULL with e set (bad address). */
struct dial;
typedef void (*dial_fn)(void *arg, int fd, struct tls *tls, const struct err *why);
struct dial *dial_new(struct event_base *base, const char *address, const struct preamble *p,
	unsigned deadline_ms, dial_fn done, void *arg, struct err *e);
/* Right after dial_new(), with a preamble of kind PREAMBLE_CONTROL_TLS: shakes hands before done is
 * called. peer: the name that the other side must bear, "": the host that is dialled. */
void dial_secure(struct dial *d, struct tls_host *tls, const char *peer);
/* Before done was called; done is not called then. NULL is allowed. */
void dial_cancel(struct dial *d);

#endif
