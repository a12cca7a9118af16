// SPDX-License-Identifier: BSD-3-Clause
// The tcp link while it runs: kernel sockets, one stream a flow. Run by the flow's polling core; no
// system call but sendmsg, send and recv on a socket that never blocks.
//
// Invariants: frames below link.sent were copied by the kernel, their segments are free (those of a
// sealed link as soon as they are queued: link_tcp_seal.c). Every
// frame is reported by done() once, in order. What the peer says is checked against what was really
// sent: an answer to a frame that never left ends the link. The receiver copies the stream into
// memory of its own first, so nothing unchecked ever reaches guest memory.

#include "link_tcp.h"

#include "bits.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

// Answers are looked for in every poll that could not send, and in one of so many that could.
#define ANSWER_POLLS 8u

static int64_t broken(struct link_tcp *t, int errnum)
{
	t->link.error = errnum;
	return -errnum;
}

static int64_t broken_sys(struct link_tcp *t, const char *what)
{
	int errnum = errno;

	if (errnum == EFAULT)
		err_set(&t->link.why, errnum,
			"tcp: guest memory can't be read: its file shrank, or its memory ran out; "
			"see the VMM's log");
	else
		err_sys(&t->link.why, errnum,
			"tcp: cannot %s; check the network and the peer's log", what);
	return broken(t, errnum);
}

static bool would_block(void)
{
	return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

static int64_t peer_left(struct link_tcp *t)
{
	err_set(&t->link.why, EPIPE, "tcp: the peer closed the connection; see its log");
	return broken(t, EPIPE);
}

static int64_t peer_said_bye(struct link_tcp *t, const struct frame *f)
{
	if (f->data == 0)
		err_set(&t->link.why, ESHUTDOWN, "tcp: the peer has ended this flow");
	else
		err_set(&t->link.why, ESHUTDOWN, "tcp: the peer gave this flow up: %s",
			f->data < 4096 ? strerrordesc_np((int)f->data) : "unknown reason");
	return broken(t, ESHUTDOWN);
}

static int64_t peer_is_wrong(struct link_tcp *t, uint64_t seq, int bad)
{
	err_set(&t->link.why, EPROTO, "frame %llu of flow: %s; the peer or the wire is faulty",
		(unsigned long long)seq, frame_bad_text(bad));
	return broken(t, EPROTO);
}

static int64_t seal_is_wrong(struct link_tcp *t)
{
	err_set(&t->link.why, EBADMSG,
		"packet %llu of flow: its seal does not match; it was changed, repeated, left out "
		"or "
		"made up on the way",
		(unsigned long long)t->number_in - 1);
	return broken(t, EBADMSG);
}

static int64_t seal_failed(struct link_tcp *t)
{
	err_set(&t->link.why, EIO, "tcp: the library that seals frames failed; nothing was sent");
	return broken(t, EIO);
}

// Source.

static bool room(const struct link_tcp *t, const struct link_tx *f)
{
	uint64_t seq = t->link.next_seq;

	if (seq - t->link.sent == TCP_TX_FRAMES || seq - t->reported == LINK_INFLIGHT)
		return false;
	if (t->seal_out != NULL)
		return t->queued_bytes - t->out_bytes + FRAME_HDR_BYTES + f->hdr.payload_bytes +
			       SEAL_TAG_BYTES <=
		       TCP_STAGE_BYTES;
	return TCP_IOV - (t->iov_tail - t->iov_head) >= f->nseg + 1;
}

static void queue_segments(struct link_tcp *t, const struct link_tx *f, uint8_t *hdr)
{
	t->iov[t->iov_tail++ % TCP_IOV] = (struct iovec){hdr, FRAME_HDR_BYTES};
	for (unsigned i = 0; i < f->nseg; i++)
		t->iov[t->iov_tail++ % TCP_IOV] = f->seg[i];
}

static bool tx_one(struct link_tcp *t, struct link_tx *f)
{
	uint64_t seq = t->link.next_seq;
	unsigned slot = seq % TCP_TX_FRAMES;

	if (!room(t, f))
		return false;
	f->hdr.seq = seq;
	frame_encode(&f->hdr, t->hdr[slot]);
	if (t->seal_out != NULL && !link_tcp_stage(t, f, t->hdr[slot])) {
		seal_failed(t);
		return false;
	}
	if (t->seal_out == NULL)
		queue_segments(t, f, t->hdr[slot]);
	t->queued_bytes += FRAME_HDR_BYTES + f->hdr.payload_bytes + t->tag_bytes;
	t->end[slot] = t->queued_bytes;
	t->inflight[seq % LINK_INFLIGHT] = f->hdr;
	bits_clear(t->torn, seq % LINK_INFLIGHT);
	if (f->hdr.type == FRAME_BARRIER)
		t->barrier = seq;
	t->link.next_seq++;
	return true;
}

static unsigned tcp_tx(struct link *l, struct link_tx *f, unsigned n)
{
	struct link_tcp *t = (struct link_tcp *)l;
	unsigned i = 0;

	if (!t->source || l->error != 0)
		return 0;
	while (i < n && tx_one(t, &f[i]))
		i++;
	return i;
}

// The kernel took n bytes.
static void advance(struct link_tcp *t, size_t n)
{
	t->out_bytes += n;
	t->link.tx_bytes += n;
	while (n > 0 && t->seal_out == NULL) {
		struct iovec *v = &t->iov[t->iov_head % TCP_IOV];

		if (n < v->iov_len) {
			v->iov_base = (uint8_t *)v->iov_base + n;
			v->iov_len -= n;
			break;
		}
		n -= v->iov_len;
		t->iov_head++;
	}
	while (t->link.sent < t->link.next_seq &&
		t->end[t->link.sent % TCP_TX_FRAMES] <= t->out_bytes)
		t->link.sent++;
}

static int64_t write_stage(struct link_tcp *t)
{
	size_t n = t->queued_bytes - t->out_bytes;
	ssize_t sent;

	if (n == 0)
		return 0;
	sent = send(
		t->fd, t->stage + t->out_bytes % TCP_STAGE_BYTES, n, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (sent < 0)
		return would_block() ? 0 : broken_sys(t, "send");
	advance(t, (size_t)sent);
	return sent;
}

static int64_t write_frames(struct link_tcp *t)
{
	uint32_t n = t->iov_tail - t->iov_head;
	uint32_t head = t->iov_head % TCP_IOV;
	struct msghdr m = {.msg_iov = &t->iov[head]};
	ssize_t sent;

	if (n == 0)
		return 0;
	if (n > TCP_IOV - head)
		n = TCP_IOV - head;
	m.msg_iovlen = n > TCP_IOV_MAX ? TCP_IOV_MAX : n;
	sent = sendmsg(t->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (sent < 0)
		return would_block() ? 0 : broken_sys(t, "send");
	advance(t, (size_t)sent);
	return sent;
}

static int take_answer(struct link_tcp *t, const struct frame *f)
{
	uint64_t most = t->barrier < t->link.sent ? t->barrier : t->link.sent;

	switch (f->type) {
	case FRAME_ACK: // of all below; never of a barrier
		if (f->seq < t->answered || f->seq > most)
			return -FRAME_BAD_ORDER;
		t->answered = f->seq;
		return 0;
	case FRAME_TORN:
		if (f->seq < t->answered || f->seq >= most)
			return -FRAME_BAD_ORDER;
		bits_set(t->torn, f->seq % LINK_INFLIGHT);
		return 0;
	case FRAME_BARRIER_ACK:
		if (f->seq != t->barrier || f->seq >= t->link.sent)
			return -FRAME_BAD_ORDER;
		t->barrier_ack = *f;
		t->answered = f->seq + 1;
		t->barrier = TCP_NO_SEQ;
		return 0;
	default:
		return -FRAME_BAD_TYPE;
	}
}

static int64_t read_answers(struct link_tcp *t)
{
	uint64_t before = t->answered;
	ssize_t got = recv(t->fd, t->answers + t->answer_end,
		TCP_ANSWERS * TCP_ANSWER_BYTES - t->answer_end, MSG_DONTWAIT);

	if (got < 0)
		return would_block() ? 0 : broken_sys(t, "receive");
	if (got == 0)
		return peer_left(t);
	t->link.rx_bytes += (uint64_t)got;
	t->answer_end += (size_t)got;
	while (t->answer_end - t->answer_at >= FRAME_HDR_BYTES + t->tag_bytes) {
		struct frame f;
		int rc;

		if (!link_tcp_unseal(t, t->answers + t->answer_at, 0))
			return seal_is_wrong(t);
		rc = frame_decode(&f, t->answers + t->answer_at);
		if (rc == 0 && f.type == FRAME_BYE)
			return peer_said_bye(t, &f);
		if (rc == 0)
			rc = take_answer(t, &f);
		if (rc < 0)
			return peer_is_wrong(t, before, rc);
		t->answer_at += FRAME_HDR_BYTES + t->tag_bytes;
	}
	t->answer_end -= t->answer_at;
	memmove(t->answers, t->answers + t->answer_at, t->answer_end);
	t->answer_at = 0;
	return got;
}

static unsigned tcp_done(struct link *l, struct link_done *d, unsigned n)
{
	struct link_tcp *t = (struct link_tcp *)l;
	unsigned i = 0;

	while (i < n && t->reported < t->answered) {
		uint64_t slot = t->reported++ % LINK_INFLIGHT;
		const struct frame *f = &t->inflight[slot];

		d[i].hdr = *f;
		d[i].status = bits_test(t->torn, slot) ? LINK_TORN : LINK_PLACED;
		if (f->type == FRAME_BARRIER) {
			d[i].hdr = t->barrier_ack;
			d[i].status = LINK_BARRIER;
		}
		i++;
	}
	return i;
}

// Target.

static bool put_answer(struct link_tcp *t, struct frame *f)
{
	if (t->answer_end + TCP_ANSWER_BYTES > TCP_ANSWERS * TCP_ANSWER_BYTES)
		return false;
	if (!link_tcp_put(t, f, t->answers + t->answer_end))
		seal_failed(t);
	else
		t->answer_end += FRAME_HDR_BYTES + t->tag_bytes;
	return true;
}

// What waits to be acknowledged goes before a barrier's answer, so that the source reads them in
// the order of the frames; a torn frame's answer may go before the ACK that passes it by.
static bool put_ack(struct link_tcp *t)
{
	struct frame f = {.type = FRAME_ACK, .seq = t->ack};

	if (t->ack == t->ack_out)
		return true;
	if (!put_answer(t, &f))
		return false;
	t->ack_out = t->ack;
	return true;
}

static bool tcp_answer(struct link *l, const struct frame *f)
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
		return would_block() ? 0 : broken_sys(t, "send");
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
		return would_block() ? 0 : broken_sys(t, "receive");
	if (got == 0)
		return peer_left(t);
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
		return (int)seal_is_wrong(t);
	if (rc == 0 && f->type == FRAME_BYE)
		return (int)peer_said_bye(t, f);
	if (rc == 0 && f->seq != t->link.next_seq)
		rc = -FRAME_BAD_ORDER;
	return rc < 0 ? (int)peer_is_wrong(t, t->link.next_seq, rc) : 1;
}

static unsigned tcp_rx(struct link *l, struct link_rx *f, unsigned n)
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

// Both.

static int64_t poll_source(struct link_tcp *t)
{
	int64_t sent = t->seal_out != NULL ? write_stage(t) : write_frames(t);
	int64_t got = 0;

	if (sent < 0)
		return sent;
	if (sent == 0 || ++t->polls >= ANSWER_POLLS) {
		t->polls = 0;
		got = read_answers(t);
	}
	return got < 0 ? got : sent + got;
}

static int64_t poll_target(struct link_tcp *t)
{
	int64_t got = read_frames(t);
	int64_t sent;

	if (got < 0)
		return got;
	if (got == 0 || t->ack - t->ack_out >= TCP_ACK_FRAMES)
		put_ack(t);
	sent = write_answers(t);
	return sent < 0 ? sent : got + sent;
}

static int64_t tcp_poll(struct link *l)
{
	struct link_tcp *t = (struct link_tcp *)l;

	if (l->error != 0)
		return -l->error;
	return t->source ? poll_source(t) : poll_target(t);
}

const struct link_ops link_tcp = {
	.name = "tcp",
	.tx = tcp_tx,
	.poll = tcp_poll,
	.done = tcp_done,
	.rx = tcp_rx,
	.answer = tcp_answer,
	.close = link_tcp_close,
};
