// SPDX-License-Identifier: BSD-3-Clause
// The VMM's end of vhost-user, as far as a network card without a guest driver needs it: features,
// memory table, log, one queue pair. One thread. Each packet has a chain of two buffers: the header
// in the ring's own region, the data where the test says.

#include "card.h"

#include "card_back.h"

#include <errno.h>
#include <linux/vhost.h>
#include <linux/virtio_ring.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define RING_GPA   0x1000000u
#define RING_BYTES (16u * 4096)
#define RING_NUM   64u
#define QUEUE_STEP (8u * 4096) /* receive queue, then the other, which is never used */
#define HDR_OFFSET 0x3000u
#define FEATURES                                                                                   \
	(UINT64_C(1) << 32 | UINT64_C(1) << 30) /* version 1; protocol features can be asked for   \
						 */
#define PROTOCOL (UINT64_C(1) << 1 | UINT64_C(1) << 3) /* log in a memfd; answers */

enum {
	SET_FEATURES = 2,
	SET_OWNER = 3,
	SET_MEM_TABLE = 5,
	SET_LOG_BASE = 6,
	SET_VRING_NUM = 8,
	SET_VRING_ADDR = 9,
	SET_VRING_BASE = 10,
	SET_VRING_KICK = 12,
	SET_VRING_CALL = 13,
	SET_PROTOCOL_FEATURES = 16,
	SET_VRING_ENABLE = 18,
};

struct card {
	pid_t pid;
	int pipe, sock, ring_fd;
	int kick[2], call[2];
	char path[64];
	uint8_t *ring;
	uint16_t next;
};

struct message {
	uint32_t request, flags, size;
	union {
		uint64_t u64[2];
		struct vhost_vring_state state;
		struct vhost_vring_addr addr;
		struct {
			uint32_t n, pad;
			struct {
				uint64_t gpa, bytes, addr, offset;
			} r[8];
		} mem;
	} p;
} __attribute__((packed));

#define HEAD 12u

static bool receive(struct card *c, void *p, size_t bytes)
{
	return bytes == 0 || recv(c->sock, p, bytes, MSG_WAITALL) == (ssize_t)bytes;
}

/* Sends with fds; waits for the answer, which says that it was taken. */
static int ask(struct card *c, struct message *m, const int *fds, unsigned nfds)
{
	char control[CMSG_SPACE(8 * sizeof(int))] = {0};
	struct iovec iov = {m, HEAD + m->size};
	struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1};
	struct message answer;

	m->flags = 1 | 1 << 3;
	if (nfds > 0) {
		struct cmsghdr *cm;

		h.msg_control = control;
		h.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
		cm = CMSG_FIRSTHDR(&h);
		cm->cmsg_level = SOL_SOCKET;
		cm->cmsg_type = SCM_RIGHTS;
		cm->cmsg_len = CMSG_LEN(nfds * sizeof(int));
		memcpy(CMSG_DATA(cm), fds, nfds * sizeof(int));
	}
	if (sendmsg(c->sock, &h, MSG_NOSIGNAL) != (ssize_t)iov.iov_len)
		return -EIO;
	if (m->request == SET_OWNER || m->request == SET_PROTOCOL_FEATURES)
		return 0; /* answers were not agreed on before; one may come all the same */
	do
		if (!receive(c, &answer, HEAD) || answer.size > sizeof(answer.p) ||
			!receive(c, &answer.p, answer.size))
			return -EIO;
	while (answer.request != m->request);
	/* The log's answer has no status. */
	return m->request == SET_LOG_BASE || answer.p.u64[0] == 0 ? 0 : -EPROTO;
}

static int ask_u64(struct card *c, uint32_t request, uint64_t v, const int *fd)
{
	struct message m = {.request = request, .size = 8, .p.u64 = {v}};

	return ask(c, &m, fd, fd != NULL);
}

static int ask_state(struct card *c, uint32_t request, unsigned queue, unsigned num)
{
	struct message m = {.request = request, .size = 8, .p.state = {queue, num}};

	return ask(c, &m, NULL, 0);
}

static int set_memory(struct card *c, const struct region_map *map)
{
	struct message m = {.request = SET_MEM_TABLE};
	int fds[8];
	unsigned n = 1;

	m.p.mem.r[0].gpa = RING_GPA;
	m.p.mem.r[0].bytes = RING_BYTES;
	m.p.mem.r[0].addr = (uintptr_t)c->ring;
	fds[0] = c->ring_fd;
	for (unsigned i = 0; i < map->n; i++)
		for (unsigned j = 0; j < map->r[i].nviews && n < 8; j++, n++) {
			const struct view *v = &map->r[i].views[j];

			m.p.mem.r[n].gpa = v->gpa;
			m.p.mem.r[n].bytes = v->bytes;
			m.p.mem.r[n].addr = (uintptr_t)map->r[i].base + v->offset_bytes;
			m.p.mem.r[n].offset = v->offset_bytes;
			fds[n] = map->r[i].fd;
		}
	m.p.mem.n = n;
	m.size = 8 + n * 32;
	return ask(c, &m, fds, n);
}

static uint8_t *queue_at(const struct card *c, unsigned q, unsigned part)
{
	return c->ring + q * QUEUE_STEP + part * 0x1000;
}

static int set_queue(struct card *c, unsigned q)
{
	struct message m = {.request = SET_VRING_ADDR,
		.size = sizeof(m.p.addr),
		.p.addr = {.index = q,
			.desc_user_addr = (uintptr_t)queue_at(c, q, 0),
			.avail_user_addr = (uintptr_t)queue_at(c, q, 1),
			.used_user_addr = (uintptr_t)queue_at(c, q, 2)}};
	int rc = ask_state(c, SET_VRING_NUM, q, RING_NUM);

	c->kick[q] = eventfd(0, EFD_CLOEXEC);
	c->call[q] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (rc == 0)
		rc = ask_state(c, SET_VRING_BASE, q, 0);
	if (rc == 0)
		rc = ask(c, &m, NULL, 0);
	if (rc == 0)
		rc = ask_u64(c, SET_VRING_CALL, q, &c->call[q]);
	if (rc == 0)
		rc = ask_u64(c, SET_VRING_KICK, q, &c->kick[q]);
	return rc == 0 ? ask_state(c, SET_VRING_ENABLE, q, 1) : rc;
}

static int agree(struct card *c, const struct region_map *map)
{
	struct message owner = {.request = SET_OWNER};
	int rc = ask(c, &owner, NULL, 0);

	/* The order of a VMM: protocol features are set as soon as they are known to be there. */
	if (rc == 0)
		rc = ask_u64(c, SET_PROTOCOL_FEATURES, PROTOCOL, NULL);
	if (rc == 0)
		rc = ask_u64(c, SET_FEATURES, FEATURES, NULL);
	if (rc == 0)
		rc = set_memory(c, map);
	for (unsigned q = 0; rc == 0 && q < 2; q++)
		rc = set_queue(c, q);
	return rc;
}

/* 0, 77 when it can't start, else -errno. */
static int start_back(struct card *c)
{
	int pair[2], status = 0;
	char ready;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	c->pid = fork();
	if (c->pid == 0) {
		close(pair[0]);
		card_back(c->path, pair[1]);
	}
	close(pair[1]);
	c->pipe = pair[0];
	if (c->pid < 0)
		return -EAGAIN;
	if (read(c->pipe, &ready, 1) == 1)
		return 0;
	waitpid(c->pid, &status, 0);
	c->pid = -1;
	return WIFEXITED(status) && WEXITSTATUS(status) == 77 ? 77 : -EIO;
}

int card_open(struct card **out, const struct region_map *map, struct err *e)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct card *c = calloc(1, sizeof(*c));
	int rc;

	if (c == NULL)
		return -ENOMEM;
	c->pipe = c->sock = -1;
	snprintf(c->path, sizeof(c->path), "/tmp/godwit-card-%d", (int)getpid());
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", c->path);
	c->ring_fd = memfd_create("ring", MFD_CLOEXEC);
	if (c->ring_fd < 0 || ftruncate(c->ring_fd, RING_BYTES) < 0)
		abort();
	c->ring = mmap(NULL, RING_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, c->ring_fd, 0);
	rc = start_back(c);
	if (rc == 0) {
		c->sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		rc = connect(c->sock, (struct sockaddr *)&addr, sizeof(addr)) < 0 ? -errno
										  : agree(c, map);
	}
	if (rc != 0) {
		err_set(e, EIO, "no vhost-user back end here (%d)", rc);
		card_close(c);
		return rc == 77 ? 1 : -EIO;
	}
	*out = c;
	return 0;
}

void card_close(struct card *c)
{
	if (c == NULL)
		return;
	close_fd(&c->sock);
	close_fd(&c->pipe);
	if (c->pid > 0)
		waitpid(c->pid, NULL, 0);
	for (unsigned q = 0; q < 2; q++) {
		if (c->kick[q] > 0)
			close(c->kick[q]);
		if (c->call[q] > 0)
			close(c->call[q]);
	}
	munmap(c->ring, RING_BYTES);
	close_fd(&c->ring_fd);
	unlink(c->path);
	free(c);
}

int card_log(struct card *c, int fd, uint64_t bytes, struct err *e)
{
	uint64_t features = FEATURES | (fd >= 0 ? UINT64_C(1) << VHOST_F_LOG_ALL : 0);
	struct message m = {.request = SET_LOG_BASE, .size = 16, .p.u64 = {bytes, 0}};
	int rc = fd >= 0 ? ask(c, &m, &fd, 1) : 0;

	if (rc == 0)
		rc = ask_u64(c, SET_FEATURES, features, NULL);
	return rc < 0 ? err_set(e, -rc, "the back end does not log") : 0;
}

void card_write(struct card *c, uint64_t gpa, uint32_t value)
{
	struct vring_desc *desc = (void *)queue_at(c, 0, 0);
	struct vring_avail *avail = (void *)queue_at(c, 0, 1);
	uint16_t head = (uint16_t)(c->next % (RING_NUM / 2) * 2);
	char answer;

	desc[head] = (struct vring_desc){.addr = RING_GPA + HDR_OFFSET,
		.len = 12,
		.flags = VRING_DESC_F_WRITE | VRING_DESC_F_NEXT,
		.next = (uint16_t)(head + 1)};
	desc[head + 1] = (struct vring_desc){.addr = gpa, .len = 1024, .flags = VRING_DESC_F_WRITE};
	avail->ring[c->next % RING_NUM] = head;
	c->next++;
	__atomic_store_n(&avail->idx, c->next, __ATOMIC_RELEASE);
	if (write(c->pipe, &value, sizeof(value)) != sizeof(value) ||
		read(c->pipe, &answer, 1) != 1) {
		fprintf(stderr, "the card did not write %llx\n", (unsigned long long)gpa);
		abort();
	}
}
