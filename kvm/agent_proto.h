/* SPDX-License-Identifier: BSD-3-Clause */
/* The agent protocol: godwitd (asks) and libgodwit (answers) on a unix SOCK_SEQPACKET socket.
 *
 * One packet is one message: a header of 32 bytes and up to AGENT_BODY_BYTES of body,
 * little-endian. Every request gets one answer with its type | AGENT_ANSWER and its seq, in the
 * order of the requests; several may be under way. A failed request answers with a status (negative
 * errno) and a sentence as its body. File descriptors travel by SCM_RIGHTS, at most one a message.
 *
 *    0 u32 magic  "GWA1"        8 u32 seq            16 u64 a   (by type)
 *    4 u16 version             12 i32 status         24 u64 b   (by type)
 *    6 u16 type
 *
 * Planes. HELLO's answer passes a memfd of 2 * nchunks words: plane OUT (library to daemon), then
 * plane IN (daemon to library), one 64-bit word a chunk in the numbering of base/region.h. A
 * request hands both planes to the library, its answer hands them back for that request's range;
 * requests under way at once have ranges that do not overlap (LOOK, TRACK_*, PUT_BACK stand alone).
 * The library writes only words that are not zero; the daemon zeroes each OUT word it has read. */
#ifndef GODWIT_KVM_AGENT_PROTO_H
#define GODWIT_KVM_AGENT_PROTO_H

#include <stddef.h>
#include <stdint.h>

#include "err.h"
#include "region.h"

#define AGENT_MAGIC      0x31415747u /* "GWA1" */
#define AGENT_VERSION    3
#define AGENT_HDR_BYTES  32u
#define AGENT_BODY_BYTES 4096u
#define AGENT_MSG_BYTES  (AGENT_HDR_BYTES + AGENT_BODY_BYTES)
#define AGENT_ANSWER     0x8000u

/* The state a VMM is in, as HELLO reports it; the values of enum godwit_state. */

enum agent_type {
	/* a: version of the asker. Answer: a = state, b = nchunks; body struct agent_hello; fd =
	 * the planes. First message on a connection. A second daemon gets -EBUSY. */
	AGENT_HELLO = 1,
	/* a: region index. Answer: a = bytes, b = page_bytes | nviews << 32; body: name (64 bytes),
	 * then for each view gpa, offset, bytes (u64), slot, as_id (u32); fd = the RAM file. */
	AGENT_REGION,
	/* Start to track writes: from the answer on, every write is seen by some later LOOK or ARM.
	 * Answer: a = 1 if all pages are reported dirty to begin with (daemon treats all as dirty
	 * in pass 0 anyway), b = granule in bytes. Idempotent. */
	AGENT_TRACK_START,
	/* Stop tracking and leave the guest's memory as it was. Idempotent. */
	AGENT_TRACK_STOP,
	/* Begin pass: look which pages were written and not armed since; OUT words of all chunks.
	 * Takes nothing from the guest. a: 1 for the last scan, which covers all, guest paused.
	 * Answer: a = pages reported, b = ns it took. */
	AGENT_LOOK,
	/* Arm chunks [a, a + b): IN words are the pages about to be sent. Their dirty bits are
	 * cleared and later writes are seen again. OUT words: every page whose report this arming
	 * consumed; the daemon sends them too. Answer: a = pages in OUT. */
	AGENT_ARM,
	/* Chunks [a, a + b), IN words: pages that were armed but not sent; the source reports them
	 * again. For a daemon that leaves; within a session the dirty set keeps them. */
	AGENT_PUT_BACK,
	/* Pause under lease. Answer: b = ns it took. */
	AGENT_PAUSE,
	/* Resume. From PAUSED and FENCED (refused by the target: a = 1 confirms), and on the target
	 * from LOADED: the guest is taken over. */
	AGENT_RESUME,
	/* a: percent of vCPU time, 1 to 100. */
	AGENT_THROTTLE,
	/* Save device state. Guest paused. Answer: a = bytes; fd = memfd with it. */
	AGENT_SAVE,
	/* Load device state: a = bytes; fd = memfd. INCOMING or LOADED. Answer: state LOADED. */
	AGENT_LOAD,
	/* The lease ends: PAUSED becomes FENCED; end of file no longer resumes. */
	AGENT_FENCE,
	/* The guest runs elsewhere or will not run here; the VMM is told to end. From FENCED,
	 * INCOMING, LOADED; from others -EPERM. Answered before the callback is called. */
	AGENT_END,
	/* Nothing; tells that the VMM answers. Answer: a = state. */
	AGENT_PING,
	/* What is known of pages that need not go. Answer: a = AGENT_HINT_*; fd = a memfd of 2 *
	 * nchunks words: plane BALLOON (pages in the balloon, at any moment), plane FREE. */
	AGENT_HINTS,
	/* Ask the guest which of its pages are free; a: id of the request, or 0: no answer is
	 * wanted any more. */
	AGENT_FREE,
	/* Takes what was reported for request a since the last time: FREE words of all chunks, and
	 * after that, if there is any, looks as LOOK does: OUT words of all chunks. Takes nothing
	 * from the guest. Answer: a = pages reported, b = 1: the guest has told all. The daemon
	 * zeroes each word it has read. May be under way with ARM. */
	AGENT_FREE_LOOK,
	/* Target: the guest that comes has these pages of chunks [a, a + b) in its balloon: IN
	 * words. */
	AGENT_BALLOON,
	AGENT_TYPES /* one above the highest */
};

enum agent_hint {
	AGENT_HINT_BALLOON = 1, /* the guest tells before it uses a page of the balloon */
	AGENT_HINT_FREE = 2,    /* the guest can be asked for free pages */
	AGENT_HINT_KEEPS = 4,   /* the VMM makes no holes in its RAM files */
};

struct agent_msg {
	uint16_t type;
	uint32_t seq;
	int32_t status;
	uint64_t a;
	uint64_t b;
	size_t body_bytes;
	uint8_t body[AGENT_BODY_BYTES];
	int fd; /* owned by the holder of the message; -1 for none */
};

/* Body of HELLO's answer, 192 bytes on the wire in this order. */
struct agent_hello {
	char name[64];       /* of the guest */
	char tracker[32];    /* dirty source in use: "kvm-log", "pagemap-scan" */
	char mode[48];       /* how that works here: "manual protect" */
	char hypervisor[32]; /* "kvm", "none (software guest)" */
	uint32_t nregions;
	uint32_t pid;
	uint64_t granule_bytes;
};

/* Encoding is total: a message always fits. decode returns 0 or -EPROTO with e set, for any bytes.
 */
size_t agent_encode(const struct agent_msg *m, uint8_t buf[AGENT_MSG_BYTES]);
int agent_decode(struct agent_msg *m, const uint8_t *buf, size_t len, struct err *e);

void agent_put_hello(struct agent_msg *m, const struct agent_hello *h);
int agent_get_hello(const struct agent_msg *m, struct agent_hello *h, struct err *e);
void agent_put_region(struct agent_msg *m, const struct region *r);
/* Adds the region (with fd taken over from m) and its views to map, checking all of it. */
int agent_get_region(struct agent_msg *m, struct region_map *map, struct err *e);

/* Sends or receives one packet on a connected SOCK_SEQPACKET socket, with its fd. 0; -EAGAIN where
 * the socket does not block; -EPIPE at end of file; -EPROTO (too long, too many fds, bad header).
 */
int agent_send(int sock, const struct agent_msg *m);
int agent_recv(int sock, struct agent_msg *m, struct err *e);

#endif
