/* SPDX-License-Identifier: BSD-3-Clause */
/* The datagrams of the nic link: what stands in them. PROTOCOL.md has the pictures. All begin with
 * 48 bytes, little-endian:
 *
 *    0 u16 magic 0x4e47      4 u16 bytes, all of them    8 u64 token
 *    2 u8  version           6 u16 flags                16 u64 packet number
 *    3 u8  type          24 u64 word, by type           32 tag, 16 bytes: CRC32C, then zeros
 *
 * The tag covers everything but itself and a PING's padding. It stands in front, so that a datagram
 * is a header and pages where they lie. On a sealed flow the tag is the seal's: what stands before
 * it is authenticated, what comes after it, as far as it is covered, is encrypted too. What is
 * encrypted before the pages is a whole number of the cipher's blocks, so that they begin at one.
 *
 * DATA carries a part of one frame and that frame's whole header, so that a part can be placed
 * whatever else is missing. PING asks for an ACK, and with padding probes the path's MTU. ACK is
 * the target's whole state, never a change, so that losing one does no harm. BYE ends the flow. */
#ifndef GODWIT_DATAPLANE_PACKET_H
#define GODWIT_DATAPLANE_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "frame.h"

#define PACKET_MAGIC      0x4e47u
#define PACKET_VERSION    3
#define PACKET_HDR_BYTES  48u
#define PACKET_TAG_AT     32u
#define PACKET_TAG_BYTES  16u
#define PACKET_AAD_BYTES  PACKET_TAG_AT /* of a sealed one: in the clear, authenticated */
#define PACKET_DATA_BYTES 128u          /* what stands before the part in DATA */
#define PACKET_PING_BYTES 64u
#define PACKET_BYE_BYTES  48u
#define PACKET_AWAY_NS    262144u
#define PACKET_LINE_BYTES 64u /* parts begin at multiples of it in the payload */

#define PACKET_FRAMES    4096u /* frames that can be in flight; the most a window can hold */
#define PACKET_ACK_WORDS 32u   /* of the newest packet numbers */
#define PACKET_ACK_FRAMES                                                                          \
	(PACKET_FRAMES / 64 + 1) /* words of frames; they need not begin at one                    \
				  */
#define PACKET_ACK_MARKS 24u     /* frames that were not placed */
#define PACKET_ACK_BYTES 88u     /* of an ACK without lists */
#define PACKET_ACK_MOST                                                                            \
	(PACKET_ACK_BYTES + 8 * (PACKET_ACK_WORDS + PACKET_ACK_FRAMES + PACKET_ACK_MARKS) +        \
		FRAME_HDR_BYTES)

enum packet_type { PACKET_DATA = 1, PACKET_PING, PACKET_ACK, PACKET_BYE };

#define PACKET_ACK_NOW   1u    /* flag of DATA: acknowledge at once */
#define PACKET_BYE_AGAIN 1u    /* flag of BYE: an answer to one */
#define PACKET_BUSY      0xffu /* flags of ACK: of 255 cycles of the core, so many had work */

/* What all types begin with. */
struct packet {
	uint8_t type;
	uint16_t bytes; /* of the datagram; never 0 */
	uint16_t flags;
	uint64_t token;
	uint64_t number;
};

struct packet_data {
	uint64_t pos;              /* of the frame's payload in the stream of all payloads */
	uint16_t settled_back;     /* the frame's seq - the first frame that is not settled */
	uint16_t marks_known;      /* the source has read all marks before this one */
	uint32_t settled_pos_back; /* pos - that frame's pos */
	uint32_t offset;           /* of the part in the payload */
	uint32_t bytes;            /* of the part */
	const uint8_t *frame;      /* FRAME_HDR_BYTES */
	const uint8_t *part;       /* decoding only */
};

/* Frames below settled are of no more interest to the source: answered, or given up. */
struct packet_ping {
	uint64_t settled;
	uint64_t settled_pos; /* where the payload of frame settled begins */
	uint16_t marks_known;
};

/* A frame that was answered, but not as placed. */
#define PACKET_MARK_LOST (UINT64_C(1) << 63) /* dropped; without it: torn */

struct packet_ack {
	uint64_t largest;     /* packet number */
	uint32_t delay_ns;    /* since it came */
	uint32_t ce;          /* packets marked by the network so far, modulo 2^32 */
	uint64_t frame_limit; /* parts of frames below may be sent, */
	uint64_t pos_limit;   /* with payload below */
	uint64_t answered;    /* all frames below are */
	uint8_t nwords;       /* packets that came: word i is numbers 64 * (largest / 64 - i) on */
	uint8_t nframes;      /* frames answered: word i is frames 64 * (answered / 64 + i) on */
	uint8_t nmarks;       /* of them not placed; each seq, with PACKET_MARK_LOST or without */
	uint16_t first_mark;  /* marks are numbered as they come, modulo 2^16: of the first here */
	bool has_barrier;     /* the answer to the last barrier */
	uint16_t away; /* how long the core was away so far, in PACKET_AWAY_NS, modulo 2^16 */
	uint64_t word[PACKET_ACK_WORDS];
	uint64_t frame[PACKET_ACK_FRAMES];
	uint64_t mark[PACKET_ACK_MARKS];
	uint8_t barrier[FRAME_HDR_BYTES];
};

struct packet_bye {
	uint32_t reason; /* 0: done, else errno */
};

enum packet_bad {
	PACKET_BAD_SHORT = 1, /* shorter than it says, or than its type has to be */
	PACKET_BAD_MAGIC,
	PACKET_BAD_VERSION,
	PACKET_BAD_TYPE,
	PACKET_BAD_TOKEN,
	PACKET_BAD_SUM,
	PACKET_BAD_FIELD,
};

/* Headers, without their tag: packet_seal() sets that. Each returns the header's bytes. p->bytes
 * counts all of the datagram: for DATA and a padded PING the caller knows. */
size_t packet_put_data(
	uint8_t buf[PACKET_DATA_BYTES], const struct packet *p, const struct packet_data *d);
size_t packet_put_ping(
	uint8_t buf[PACKET_PING_BYTES], const struct packet *p, const struct packet_ping *g);
/* Sets the datagram's bytes by itself. */
size_t packet_put_ack(
	uint8_t buf[PACKET_ACK_MOST], const struct packet *p, const struct packet_ack *a);
size_t packet_put_bye(
	uint8_t buf[PACKET_BYE_BYTES], const struct packet *p, const struct packet_bye *b);

/* The number that a header has. */
uint64_t packet_number(const uint8_t hdr[PACKET_HDR_BYTES]);

/* Writes the tag: of the header, and for DATA of the part's segments. Their bytes are read here,
 * and may change later only where the datagram may be dropped for it. */
void packet_seal(uint8_t *hdr, size_t hdr_bytes, const struct iovec *seg, unsigned nseg);

/* Reads what all types begin with from a datagram of len bytes, and how many of them the tag
 * covers; 0 or a negative value of enum packet_bad. The tag is the caller's to check, who sealed
 * it. */
int packet_read(
	struct packet *p, uint64_t token, const uint8_t *buf, size_t len, size_t *covered_bytes);
/* The same, and checks the tag of a flow that is not sealed. Nothing of a datagram may be used
 * before one of the two checks. */
int packet_open(struct packet *p, uint64_t token, const uint8_t *buf, size_t len);
/* The rest, of one that was opened. 0 or -PACKET_BAD_FIELD. */
int packet_get_data(struct packet_data *d, const struct packet *p, const uint8_t *buf);
int packet_get_ping(struct packet_ping *g, const struct packet *p, const uint8_t *buf);
int packet_get_ack(struct packet_ack *a, const struct packet *p, const uint8_t *buf);
int packet_get_bye(struct packet_bye *b, const struct packet *p, const uint8_t *buf);

#endif
