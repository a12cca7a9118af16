// SPDX-License-Identifier: BSD-3-Clause
// Makes and ends the tcp link. Run by control threads.

#include "link_tcp.h"

#include "mem.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define IOV_BYTES      (TCP_IOV * sizeof(struct iovec))
#define HDR_BYTES      ((size_t)TCP_TX_FRAMES * FRAME_HDR_BYTES)
#define INFLIGHT_BYTES (LINK_INFLIGHT * sizeof(struct frame))
#define TORN_BYTES     (LINK_INFLIGHT / 8)
#define ANSWER_BYTES   ((size_t)TCP_ANSWERS * TCP_ANSWER_BYTES)

// The same memory twice in a row, so that a frame that wraps is whole. NULL with errno set.
static uint8_t *ring_new(size_t bytes, int node)
{
	_cleanup_(close_fd) int fd = memfd_create("godwit-ring", MFD_CLOEXEC);
	uint8_t *p;

	if (fd < 0 || ftruncate(fd, (off_t)bytes) != 0)
		return NULL;
	p = mmap(NULL, 2 * bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return NULL;
	for (int i = 0; i < 2; i++)
		if (mmap(p + (size_t)i * bytes, bytes, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED) {
			munmap(p, 2 * bytes);
			return NULL;
		}
	mem_prefer(p, 2 * bytes, node);
	// Both mappings are touched: a polling core takes no fault.
	memset(p, 0, 2 * bytes);
	return p;
}

static bool memory_new(struct link_tcp *t, int node)
{
	t->answers = mem_new(ANSWER_BYTES, node);
	if (t->answers == NULL)
		return false;
	if (!t->source) {
		t->ring = ring_new(TCP_RING_BYTES, node);
		return t->ring != NULL;
	}
	t->iov = mem_new(IOV_BYTES, node);
	t->hdr = mem_new(HDR_BYTES, node);
	t->inflight = mem_new(INFLIGHT_BYTES, node);
	t->torn = mem_new(TORN_BYTES, node);
	return t->iov != NULL && t->hdr != NULL && t->inflight != NULL && t->torn != NULL;
}

// As large as the host lets us: first past its limit, which only root may, then within.
static void ask_buffer(int fd, int force, int plain)
{
	int bytes = TCP_SOCKET_BYTES;

	if (setsockopt(fd, SOL_SOCKET, force, &bytes, sizeof(bytes)) != 0)
		(void)setsockopt(fd, SOL_SOCKET, plain, &bytes, sizeof(bytes));
}

// Of the source's buffer, as much as data is sure to fill: the kernel counts its own in.
static uint64_t buffer_bytes(int fd)
{
	int bytes = 0;
	socklen_t len = sizeof(bytes);

	if (getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, &len) != 0 || bytes < 0)
		return 0;
	return (uint64_t)bytes / 2;
}

static int socket_setup(int fd, bool source, struct err *e)
{
	int flags = fcntl(fd, F_GETFL);
	int one = 1;

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0)
		return err_sys(e, errno, "tcp: cannot make the flow's socket non-blocking");
	if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) != 0)
		return err_sys(e, errno, "tcp: cannot set TCP_NODELAY on the flow's socket");
	if (source)
		ask_buffer(fd, SO_SNDBUFFORCE, SO_SNDBUF);
	else
		ask_buffer(fd, SO_RCVBUFFORCE, SO_RCVBUF);
	return 0;
}

int link_tcp_open(struct link **l, int fd, bool source, int node, struct err *e)
{
	struct link_tcp *t = mem_new(sizeof(*t), node);
	int rc;

	if (t == NULL) {
		close(fd);
		return err_set(e, ENOMEM, "tcp: no memory for a flow");
	}
	t->link.ops = &link_tcp;
	t->fd = fd;
	t->source = source;
	t->barrier = TCP_NO_SEQ;
	rc = socket_setup(fd, source, e);
	if (rc == 0 && source) {
		t->link.buffer_bytes = buffer_bytes(fd);
		link_tcp_begin(t);
	}
	if (rc == 0 && !memory_new(t, node))
		rc = err_set(e, ENOMEM, "tcp: no memory for the buffers of a flow");
	if (rc < 0) {
		t->link.error = -rc; // no farewell
		link_tcp_close(&t->link);
		return rc;
	}
	*l = &t->link;
	return 0;
}

int link_tcp_seal(struct link *l, const struct seal_ops *ops, const struct seal_secret *out,
	const struct seal_secret *in, int node, struct err *e)
{
	struct link_tcp *t = (struct link_tcp *)l;
	int rc = seal_new(&t->seal_out, ops, out, node, e);

	if (rc == 0)
		rc = seal_new(&t->seal_in, ops, in, node, e);
	if (rc == 0 && t->source) {
		t->stage = ring_new(TCP_STAGE_BYTES, node);
		if (t->stage == NULL)
			rc = err_set(e, ENOMEM, "tcp: no memory for the seal of a flow");
	}
	if (rc < 0) {
		l->error = -rc; // no farewell
		return rc;
	}
	t->tag_bytes = SEAL_TAG_BYTES;
	l->sealed = true;
	return 0;
}

// Tells the peer that this is the end, where it would read it as a frame: nothing is half sent.
static void say_bye(struct link_tcp *t)
{
	struct frame f = {.type = FRAME_BYE, .seq = t->source ? t->link.next_seq : 0};
	uint8_t buf[TCP_ANSWER_BYTES];

	if (t->link.error != 0 || t->out_bytes != t->queued_bytes || t->answer_at != 0)
		return;
	if (link_tcp_put(t, &f, buf))
		(void)send(t->fd, buf, FRAME_HDR_BYTES + t->tag_bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
}

void link_tcp_close(struct link *l)
{
	struct link_tcp *t = (struct link_tcp *)l;

	if (t == NULL)
		return;
	say_bye(t);
	close(t->fd);
	mem_free(t->answers, ANSWER_BYTES);
	mem_free(t->iov, IOV_BYTES);
	mem_free(t->hdr, HDR_BYTES);
	mem_free(t->inflight, INFLIGHT_BYTES);
	mem_free(t->torn, TORN_BYTES);
	seal_free(t->seal_out);
	seal_free(t->seal_in);
	if (t->stage != NULL)
		munmap(t->stage, 2 * TCP_STAGE_BYTES);
	if (t->ring != NULL)
		munmap(t->ring, 2 * TCP_RING_BYTES);
	mem_free(t, sizeof(*t));
}
