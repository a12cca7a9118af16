/* SPDX-License-Identifier: BSD-3-Clause */
/* A connection that carries messages: JSON objects and blobs, bounded and versioned. Used for the
 * peer daemon and for the local API. Control loop only.
 *
 * Each message has a header of 8 bytes, little-endian, then its bytes:
 *    0 u16 magic 0x6d67    2 u8 version 1    3 u8 kind (1 JSON, 2 blob)    4 u32 bytes */
#ifndef GODWIT_CONTROL_CONN_H
#define GODWIT_CONTROL_CONN_H

#include <event2/event.h>
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"
#include "tls.h"

#define CONN_MAGIC      0x6d67u
#define CONN_VERSION    1
#define CONN_HDR_BYTES  8u
#define CONN_JSON_BYTES (256u << 10)                       /* most of one JSON message */
#define CONN_BLOB_BYTES (1u << 20)                         /* most of one blob */
#define CONN_MSG_BYTES  (CONN_HDR_BYTES + CONN_BLOB_BYTES) /* most of any message */
#define CONN_OUT_BYTES  (64u << 20) /* output that may wait for a slow reader; more is an error */
#define CONN_JSON_DEPTH 16          /* nesting of a JSON message */

enum conn_kind { CONN_JSON = 1, CONN_BLOB = 2 };

struct conn;

struct conn_ops {
	/* A message; the object is borrowed for the call. */
	void (*json)(void *arg, json_t *msg);
	/* A blob, borrowed; NULL: a blob is a protocol error. */
	void (*blob)(void *arg, const uint8_t *data, size_t bytes);
	/* The connection is over: end of file (why->errnum ECONNRESET), protocol error, time-out.
	 * Called once; afterwards the owner calls conn_free(). Never called from within
	 * conn_send(). */
	void (*closed)(void *arg, const struct err *why);
};

/* Takes over a connected socket, and tls unless it is NULL (plain text). ops may be set later with
 * conn_own(): until then nothing is read.
 */
struct conn *conn_new(struct event_base *base, int fd, struct tls *tls, struct err *e);
void conn_own(struct conn *c, const struct conn_ops *ops, void *arg);
/* May be called from any of its callbacks. NULL is allowed. Output already queued is still sent
 * where the socket takes it at once. */
void conn_free(struct conn *c);

/* Sends msg, whose reference is stolen. 0 or -errno: -ENOBUFS (the reader is too slow), -EMSGSIZE;
 * each breaks the connection. A broken connection reports closed() later. */
int conn_send(struct conn *c, json_t *msg);
int conn_send_blob(struct conn *c, const void *data, size_t bytes);
/* Bytes queued and not yet taken by the kernel. */
size_t conn_backlog(const struct conn *c);
int conn_fd(const struct conn *c);
/* NULL: plain text. */
struct tls *conn_tls(const struct conn *c);
/* Who it is, for messages: "192.0.2.7:4646", "uid 1000 pid 77". */
const char *conn_peer_name(const struct conn *c);

/* The pure reader behind it, for tests and fuzzing: looks at len bytes. Returns bytes of the first
 * whole message (header included), 0 if more are needed, -EPROTO with e set. */
int64_t conn_parse(const uint8_t *buf, size_t len, enum conn_kind *kind, struct err *e);
/* Reads the JSON text of a message: an object, no duplicate keys, bounded depth. NULL with e set.
 */
json_t *conn_parse_json(const uint8_t *buf, size_t len, struct err *e);

/* The length that a header announces; conn_parse() has found the header good. */
size_t conn_body_bytes(const uint8_t hdr[CONN_HDR_BYTES]);
/* The header of a message that is about to be sent. */
void conn_put_header(uint8_t hdr[CONN_HDR_BYTES], enum conn_kind kind, size_t bytes);

#endif
