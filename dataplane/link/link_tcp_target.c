// SPDX-License-Identifier: BSD-3-Clause
// The target's end of the tcp link: frames in, answers out. Run by the flow's polling core; see
// link_tcp.c for what holds.

#include "link_tcp.h"

#include <sys/socket.h>

static bool put_answer(struct link_tcp *t, struct frame *f)
{
	if (t->answer_end + TCP_ANSWER_BYTES > TCP_ANSWERS * TCP_ANSWER_BYTES)
		return false;
	if (!link_tcp_put(t, f, t->answers + t->answer_end))
		link_tcp_seal_failed(t);
	else
		t->answer_end += FRAME_HDR_BYTES + t->tag_bytes;
	return true;
}

// What waits to be acknowledged goes before a barrier's answer, so that the source reads them in
// the order of the frames; a torn frame's answer may go before the ACK that passes it by.
static bool put_ack(struct link_tcp *t)
{
	struct frame f = {.type = FRAME_ACK, .seq = t->ack, .busy = link_busy(&t->link)};

	if (t->ack == t->ack_out)
		return true;
	if (!put_answer(t, &f))
		return false;
	t->ack_out = t->ack;
	t->busy_out = f.busy;
	return true;
}

bool link_tcp_answer(struct link *l, const struct frame *f)
{
	struct link_tcp *t = (struct link_tcp *)l;
	struct frame copy = *f;

	if (t->source || l->error != 0)
		return true; // nobody will read it
	if (f->type == FRAME_BARRIER_ACK && !put_ack(t))
		return false;
	if (f->type != FRAME_ACK && !put_answer(t, &copy))
		return false;
	t->ack = f->seq + 1;
	if (f->type == FRAME_BARRIER_ACK)
		t->ack_out = t->ack;
	return true;
}

static int64_t write_answers(struct link_tcp *t)
{
	ssize_t sent;

	if (t->answer_at == t->answer_end)
		return 0;
	sent = send(t->fd, t->answers + t->answer_at, t->answer_end - t->answer_at,
		MSG_DONTWAIT | MSG_NOSIGNAL);
	if (sent < 0)
		return link_tcp_would_block() ? 0 : link_tcp_broken_sys(t, "send");
	t->link.tx_bytes += (uint64_t)sent;
	t->answer_at += (size_t)sent;
	if (t->answer_at == t->answer_end)
		t->answer_at = t->answer_end = 0;
	return sent;
}

static int64_t read_frames(struct link_tcp *t)
{
	ssize_t got;

	t->head = t->at;
	// Full of frames that wait for room among the answers; receiving nothing would look like
	// the end.
	if (t->tail - t->head == TCP_RING_BYTES)
		return 0;
	got = recv(t->fd, t->ring + t->tail % TCP_RING_BYTES,
		TCP_RING_BYTES - (size_t)(t->tail - t->head), MSG_DONTWAIT);
	if (got < 0)
		return link_tcp_would_block() ? 0 : link_tcp_broken_sys(t, "receive");
	if (got == 0)
		return link_tcp_peer_left(t);
	t->tail += (uint64_t)got;
	t->link.rx_bytes += (uint64_t)got;
	return got;
}

// The frame at t->at: 1 it is whole and good, 0 more has to come, negative: the link is broken.
// What it says of itself is believed once its seal is open; only its length is used before.
static int next_frame(struct link_tcp *t, struct frame *f, uint8_t *p)
{
	uint64_t have = t->tail - t->at;
	int rc;

	if (have < FRAME_HDR_BYTES)
		return 0;
	rc = frame_decode(f, p);
	if (rc == 0 && have < FRAME_HDR_BYTES + f->payload_bytes + t->tag_bytes)
		return 0;
	if (rc == 0 && !link_tcp_unseal(t, p, f->payload_bytes))
		return (int)link_tcp_seal_wrong(t);
	if (rc == 0 && f->type == FRAME_BYE)
		return (int)link_tcp_said_bye(t, f);
	if (rc == 0 && f->seq != t->link.next_seq)
		rc = -FRAME_BAD_ORDER;
	return rc < 0 ? (int)link_tcp_wrong(t, t->link.next_seq, rc) : 1;
}

unsigned link_tcp_rx(struct link *l, struct link_rx *f, unsigned n)
{
	struct link_tcp *t = (struct link_tcp *)l;
	unsigned i = 0;

	if (t->source || l->error != 0)
		return 0;
	while (i < n) {
		uint8_t *p = t->ring + t->at % TCP_RING_BYTES;

		if (next_frame(t, &f[i].hdr, p) <= 0)
			break;
		f[i].payload = p + FRAME_HDR_BYTES;
		t->at += FRAME_HDR_BYTES + f[i].hdr.payload_bytes + t->tag_bytes;
		l->next_seq++;
		i++;
	}
	return i;
}

int64_t link_tcp_poll_target(struct link_tcp *t)
{
	int64_t got = read_frames(t);
	int64_t sent;

	if (got < 0)
		return got;
	if (got == 0 || t->ack - t->ack_out >= TCP_ACK_FRAMES || link_busy(&t->link) != t->busy_out)
		put_ack(t);
	sent = write_answers(t);
	return sent < 0 ? sent : got + sent;
}
