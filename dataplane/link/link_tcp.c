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

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

static int64_t broken(struct link_tcp *t, int errnum)
{
	t->link.error = errnum;
	return -errnum;
}

int64_t link_tcp_broken_sys(struct link_tcp *t, const char *what)
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

bool link_tcp_would_block(void)
{
	return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

int64_t link_tcp_peer_left(struct link_tcp *t)
{
	err_set(&t->link.why, EPIPE, "tcp: the peer closed the connection; see its log");
	return broken(t, EPIPE);
}

int64_t link_tcp_said_bye(struct link_tcp *t, const struct frame *f)
{
	if (f->data == 0)
		err_set(&t->link.why, ESHUTDOWN, "tcp: the peer has ended this flow");
	else
		err_set(&t->link.why, ESHUTDOWN, "tcp: the peer gave this flow up: %s",
			f->data < 4096 ? strerrordesc_np((int)f->data) : "unknown reason");
	return broken(t, ESHUTDOWN);
}

int64_t link_tcp_wrong(struct link_tcp *t, uint64_t seq, int bad)
{
	err_set(&t->link.why, EPROTO, "frame %llu of flow: %s; the peer or the wire is faulty",
		(unsigned long long)seq, frame_bad_text(bad));
	return broken(t, EPROTO);
}

int64_t link_tcp_seal_wrong(struct link_tcp *t)
{
	err_set(&t->link.why, EBADMSG,
		"packet %llu of flow: its seal does not match; it was changed, repeated, left out "
		"or "
		"made up on the way",
		(unsigned long long)t->number_in - 1);
	return broken(t, EBADMSG);
}

int64_t link_tcp_seal_failed(struct link_tcp *t)
{
	err_set(&t->link.why, EIO, "tcp: the library that seals frames failed; nothing was sent");
	return broken(t, EIO);
}

static int64_t tcp_poll(struct link *l)
{
	struct link_tcp *t = (struct link_tcp *)l;

	if (l->error != 0)
		return -l->error;
	return t->source ? link_tcp_poll_source(t) : link_tcp_poll_target(t);
}

const struct link_ops link_tcp = {
	.name = "tcp",
	.tx = link_tcp_tx,
	.poll = tcp_poll,
	.done = link_tcp_done,
	.rx = link_tcp_rx,
	.answer = link_tcp_answer,
	.seal = link_tcp_seal,
	.close = link_tcp_close,
};
