/* SPDX-License-Identifier: BSD-3-Clause */
/* The source's end of a reliable flow: cuts frames into parts, paces them out, sends again what was
 * lost under a new packet number, and says what became of each frame.
 *
 * A line of a payload has one carrier at a time: it is not yet cut, or in one packet in flight, or
 * in the frame's map of lost lines. So nothing is kept of a payload but where it is, and how often
 * it was sent does not matter. */
#ifndef GODWIT_DATAPLANE_REL_SEND_H
#define GODWIT_DATAPLANE_REL_SEND_H

#include "congestion.h"
#include "frame.h"
#include "path.h"
#include "rel.h"

#define REL_SEND_REORDER                                                                           \
	32u /* packets that may overtake one before it counts as lost, at first                    \
	     */

struct rel_send_frame {
	struct frame hdr;
	uint8_t raw[FRAME_HDR_BYTES];
	uint64_t pos;
	uint32_t lines;
	uint32_t flying; /* packets that carry a part of it */
	uint32_t lost;   /* lines to be sent again */
	uint8_t state;   /* enum rel_frame_state */
	bool reported;
};

enum rel_frame_state { REL_FRAME_OUT, REL_FRAME_PLACED, REL_FRAME_TORN, REL_FRAME_LOST };

struct rel_send_packet {
	uint64_t seq;
	uint64_t sent_ns;
	uint32_t line; /* first of the part */
	uint16_t lines;
	uint16_t bytes;           /* of the IP packet */
	uint16_t away, peer_away; /* of both cores, so far, when it was sent */
	uint8_t kind;             /* enum rel_packet_kind */
	uint8_t state;            /* enum rel_packet_state */
};

/* Lines of a frame's payload that go into one packet. */
struct rel_send_part {
	uint64_t seq;
	uint32_t line, lines;
	bool resend;
};

enum rel_packet_kind { REL_PACKET_PART, REL_PACKET_PING, REL_PACKET_PROBE };
enum rel_packet_state { REL_PACKET_GONE, REL_PACKET_FLYING, REL_PACKET_LOST };

struct rel_send {
	struct rel c;
	struct congestion cc;
	struct path path;
	uint64_t bytes_per_s; /* on the wire; 0: no limit. May be changed at any time */
	double ns_per_byte;   /* at which packets leave now */

	/* Frames: taken <= settled <= next; cut is where new parts come from. */
	struct rel_send_frame *frame; /* [frames], at seq % frames */
	uint64_t *lost_line;          /* [frames][REL_LINE_WORDS] */
	uint64_t *lost_frame;         /* [frames / 64]: slots with lost lines */
	uint64_t *done;               /* [frames / 64]: slots that are settled */
	uint32_t lost_frames;
	uint64_t next, next_pos;
	uint64_t cut;
	uint32_t cut_line;
	uint64_t settled; /* all below are answered or given up */
	uint64_t free;    /* of all below, no part will be read again */
	uint64_t taken;   /* all below were reported */
	uint64_t *report; /* [frames]: seqs to be reported, in a ring */
	uint64_t report_head, report_tail;
	uint64_t frame_limit, pos_limit; /* credits */
	uint64_t barrier;                /* seq of the one that is out; REL_NEVER: none */
	uint64_t barrier_from_ns; /* when there were news of it last; REL_NEVER: none are awaited */
	uint64_t barrier_away_ns; /* c.away_sum_ns then: nobody listened meanwhile */
	struct frame barrier_answer;
	uint16_t marks_known; /* the next of the target's marks that is new */

	/* Packets: [floor, c.number) can be in flight. */
	struct rel_send_packet *packet; /* [packets], at number % packets */
	uint64_t *seen;                 /* [packets / 64]: acknowledged */
	uint64_t floor;
	uint64_t flying, flying_bytes;
	bool any_acked;
	uint64_t largest;    /* number acknowledged */
	uint64_t ack_number; /* newest ACK; its counts replace older ones */
	uint32_t ce;
	uint16_t peer_away; /* of the target's core, by that ACK, */
	uint8_t peer_busy;  /* and how busy it is */
	uint64_t round_end; /* the round is over when this number is acknowledged */

	/* Loss: a packet is lost when one sent `reorder` later came, or late enough. */
	uint32_t reorder;
	unsigned reorder_rounds;  /* since a loss turned out to be none */
	unsigned reorder_eighths; /* of a round trip */
	uint64_t loss_ns;         /* when the oldest hole is old enough */
	uint64_t pto_from_ns;
	unsigned ptos;   /* in a row */
	unsigned probes; /* packets that may go whatever the window says */
	bool ping;

	uint64_t pace_ns; /* when the next packet may go */
	uint32_t since_ack_now;
};

/* What became of a frame. PLACED, TORN, LOST: hdr is the frame as sent. BARRIER: the answer. */
struct rel_done {
	enum rel_frame_state state;
	bool barrier;
	struct frame hdr;
};

size_t rel_send_bytes(const struct rel_config *cfg);
/* mem: rel_send_bytes() of zeros, aligned to 64. */
void rel_send_init(struct rel_send *s, const struct rel_config *cfg, void *mem, uint64_t now_ns);

/* Takes a frame: numbers and encodes its header (sets f->seq and f->hdr_crc). False where there is
 * no room, and after a barrier until its answer was taken by rel_send_take(). The payload must stay
 * readable until s->free has passed the frame; its content may change. */
bool rel_send_frame(struct rel_send *s, struct frame *f, uint64_t now_ns);
/* The next datagram, or false: nothing to say, or not yet. What it says counts as sent now. */
bool rel_send_next_packet(struct rel_send *s, uint64_t now_ns, struct rel_out *o);
/* A datagram came. */
void rel_send_packet_in(struct rel_send *s, uint64_t now_ns, const uint8_t *buf, size_t len);
/* What became of the next frame of which that is known. A barrier comes after all before it. */
bool rel_send_take(struct rel_send *s, struct rel_done *d);
/* Reports all frames that are not answered as lost, and tells the target to forget them; the
 * barrier that is out stays. */
void rel_send_give_up(struct rel_send *s);

void rel_send_timer(struct rel_send *s, uint64_t now_ns);
uint64_t rel_send_deadline(const struct rel_send *s);

/* rel_send.c, for the others */
void rel_send_news(struct rel_send *s, uint64_t now_ns); /* of the barrier that is out */
uint64_t rel_send_barrier_due(const struct rel_send *s); /* when it gives up; REL_NEVER: not */
struct rel_send_frame *rel_send_slot(const struct rel_send *s, uint64_t seq);
struct rel_send_packet *rel_send_packet_slot(const struct rel_send *s, uint64_t number);
void rel_send_settle(struct rel_send *s, uint64_t seq, enum rel_frame_state state);
void rel_send_advance(struct rel_send *s);
void rel_send_rate(struct rel_send *s);
/* rel_send_part.c */
bool rel_send_pick(const struct rel_send *s, struct rel_send_part *p);
void rel_send_carry(struct rel_send *s, const struct rel_send_part *p);
/* rel_send_loss.c */
void rel_send_lose(struct rel_send *s, uint64_t number, uint64_t now_ns);
void rel_send_gone(struct rel_send *s, uint64_t number);
void rel_send_spurious(struct rel_send *s, uint64_t number);
void rel_send_round(struct rel_send *s);
void rel_send_detect(struct rel_send *s, uint64_t now_ns);
uint64_t rel_send_pto_at(const struct rel_send *s);

#endif
