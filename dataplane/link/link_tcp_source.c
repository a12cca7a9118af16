// SPDX-License-Identifier: BSD-3-Clause
// The source's end of the tcp link: frames out, answers in. Run by the flow's polling core; see
// link_tcp.c for what holds.

#include "link_tcp.h"

#include "bits.h"
#include "cpu.h"

#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

// Answers are looked for in every poll that could not send, and in one of so many that could.
#define ANSWER_POLLS 8u

// From one look at what the socket holds to the next, while nothing is sent.
#define ASK_CYCLES (1u << 17)

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
		link_tcp_seal_failed(t);
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
	t->link.held_bytes += FRAME_HDR_BYTES + f->hdr.payload_bytes + t->tag_bytes;
	t->link.next_seq++;
	return true;
}

unsigned link_tcp_tx(struct link *l, struct link_tx *f, unsigned n)
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
		return link_tcp_would_block() ? 0 : link_tcp_broken_sys(t, "send");
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
		return link_tcp_would_block() ? 0 : link_tcp_broken_sys(t, "send");
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
		t->link.peer_busy = f->busy;
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
		return link_tcp_would_block() ? 0 : link_tcp_broken_sys(t, "receive");
	if (got == 0)
		return link_tcp_peer_left(t);
	t->link.rx_bytes += (uint64_t)got;
	t->answer_end += (size_t)got;
	while (t->answer_end - t->answer_at >= FRAME_HDR_BYTES + t->tag_bytes) {
		struct frame f;
		int rc;

		if (!link_tcp_unseal(t, t->answers + t->answer_at, 0))
			return link_tcp_seal_wrong(t);
		rc = frame_decode(&f, t->answers + t->answer_at);
		if (rc == 0 && f.type == FRAME_BYE)
			return link_tcp_said_bye(t, &f);
		if (rc == 0)
			rc = take_answer(t, &f);
		if (rc < 0)
			return link_tcp_wrong(t, before, rc);
		t->answer_at += FRAME_HDR_BYTES + t->tag_bytes;
	}
	t->answer_end -= t->answer_at;
	memmove(t->answers, t->answers + t->answer_at, t->answer_end);
	t->answer_at = 0;
	return got;
}

unsigned link_tcp_done(struct link *l, struct link_done *d, unsigned n)
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

static bool ask_kernel(int fd, struct tcp_info *i)
{
	socklen_t len = sizeof(*i);

	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, i, &len) == 0 &&
	       len >= offsetof(struct tcp_info, tcpi_delivery_rate) + sizeof(i->tcpi_delivery_rate);
}

void link_tcp_begin(struct link_tcp *t)
{
	struct tcp_info i, after;
	int queued = 0;

	if (!ask_kernel(t->fd, &after))
		return;
	do { // what is acknowledged between counts once
		i = after;
		if (ioctl(t->fd, SIOCOUTQ, &queued) != 0 || !ask_kernel(t->fd, &after))
			return;
	} while (i.tcpi_bytes_acked != after.tcpi_bytes_acked);
	t->acked_before = i.tcpi_bytes_acked + (uint64_t)queued;
}

// What the kernel has of the stream, and what waits for it. What is on its way is not held: it
// lasts for the shortest time there and back at the rate that it arrives at.
static void ask_held(struct link_tcp *t)
{
	struct tcp_info i;
	uint64_t left, flying, held;

	t->link.tells_held = ask_kernel(t->fd, &i);
	if (!t->link.tells_held)
		return;
	left = i.tcpi_bytes_acked > t->acked_before ? i.tcpi_bytes_acked - t->acked_before : 0;
	if (left > t->link.tx_bytes)
		left = t->link.tx_bytes;
	flying = i.tcpi_delivery_rate * i.tcpi_min_rtt / 1000000;
	t->link.told_cycles = cpu_cycles();
	t->link.left_bytes = left;
	held = t->link.tx_bytes - left;
	held -= flying < held ? flying : held;
	if (held < i.tcpi_notsent_bytes)
		held = i.tcpi_notsent_bytes;
	t->link.held_bytes = held + t->queued_bytes - t->out_bytes;
}

// Where nothing could be sent. Not while the socket is full, and seldom where there is nothing to
// send: the kernel has better to do with its lock.
static bool news_may_be(const struct link_tcp *t)
{
	return t->link.behind == 0 && t->link.left_bytes < t->link.tx_bytes &&
	       cpu_cycles() - t->link.told_cycles > ASK_CYCLES;
}

int64_t link_tcp_poll_source(struct link_tcp *t)
{
	int64_t sent = t->seal_out != NULL ? write_stage(t) : write_frames(t);
	int64_t got = 0;

	if (sent < 0)
		return sent;
	t->link.behind = (unsigned)(t->link.next_seq - t->link.sent);
	if (t->link.wants_held && (sent > 0 || news_may_be(t)))
		ask_held(t);
	if (sent == 0 || ++t->polls >= ANSWER_POLLS) {
		t->polls = 0;
		got = read_answers(t);
	}
	return got < 0 ? got : sent + got;
}
