// SPDX-License-Identifier: BSD-3-Clause
// The two sides of a nic test. See the header.

#include "nic_world.h"

#include "clock.h"
#include "lcore.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static bool verbose;

void world_fail(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	fflush(stdout);
	_exit(1);
}

static void skip(const char *why)
{
	printf("SKIP: %s\n", why);
	exit(77);
}

static void check(int rc, const struct err *e)
{
	if (rc < 0)
		world_fail("%s", e->text);
}

static void nap(void)
{
	const struct timespec t = {.tv_nsec = (long)NS_PER_MS};

	nanosleep(&t, NULL);
}

// Parent.

static void add_region(struct region_map *m, const char *name, uint64_t bytes)
{
	int fd = memfd_create(name, MFD_CLOEXEC);
	struct err e;

	if (fd < 0 || ftruncate(fd, (off_t)bytes) != 0)
		world_fail("no memory for %s", name);
	check(region_add(m, name, fd, bytes, 4096, &e), &e);
	check(region_mmap(&m->r[m->n - 1], true, &e), &e);
}

// The target's end is in a network namespace of its own, as on another host.
static void make_veth(struct world *w)
{
	char cmd[512];

	if (geteuid() != 0)
		skip("a veth pair takes root");
	snprintf(w->netns, sizeof(w->netns), "gwn%d", getpid());
	snprintf(w->veth[0], sizeof(w->veth[0]), "gwa%d", getpid());
	snprintf(w->veth[1], sizeof(w->veth[1]), "gwb%d", getpid());
	snprintf(cmd, sizeof(cmd),
		"ip netns add %s && "
		"ip link add %s mtu 9000 type veth peer name %s mtu 9000 netns %s && "
		"ip link set %s up && ip -n %s link set %s up",
		w->netns, w->veth[0], w->veth[1], w->netns, w->veth[0], w->netns, w->veth[1]);
	if (system(cmd) != 0)
		skip("no veth pair between network namespaces can be made here");
}

static void enter_netns(const struct world *w)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/run/netns/%s", w->netns);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || setns(fd, CLONE_NEWNET) != 0)
		world_fail("can't enter network namespace %s", w->netns);
	close(fd);
}

void world_open(struct world *w, const struct world_options *o)
{
	memset(w, 0, sizeof(*w));
	w->o = *o;
	verbose = getenv("NIC_VERBOSE") != NULL;
	region_map_init(&w->from);
	region_map_init(&w->to);
	for (unsigned i = 0; i < 2; i++) {
		// The second one is no multiple of a chunk.
		uint64_t bytes = i == 0 ? (uint64_t)o->mib << 20 : 77 * PAGE_BYTES;

		add_region(&w->from, i == 0 ? "ram0" : "ram1", bytes);
		add_region(&w->to, i == 0 ? "ram0" : "ram1", bytes);
		memset(w->to.r[i].base, 0x5a, o->keep ? bytes : bytes / 2);
	}
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, w->wire) != 0)
		world_fail("no socket pair");
	snprintf(w->dir, sizeof(w->dir), "/tmp/nic-test-XXXXXX");
	if (mkdtemp(w->dir) == NULL)
		world_fail("no folder for sockets");
	if (strcmp(o->device, "packet") == 0)
		make_veth(w);
}

void world_close(struct world *w)
{
	char cmd[128];

	snprintf(cmd, sizeof(cmd), "rm -rf %s", w->dir);
	if (system(cmd) != 0)
		printf("%s is left behind\n", w->dir);
	if (w->veth[0][0] != 0) {
		snprintf(cmd, sizeof(cmd), "ip netns del %s; ip link del %s 2>/dev/null", w->netns,
			w->veth[0]);
		(void)!system(cmd); // the pair may be gone with its namespace
	}
	region_map_close(&w->from);
	region_map_close(&w->to);
}

void world_wire(struct world *w, bool up)
{
	char cmd[64];

	snprintf(cmd, sizeof(cmd), "ip link set %s %s", w->veth[0], up ? "up" : "down");
	if (w->veth[0][0] == 0 || system(cmd) != 0)
		world_fail("the wire can't be cut: %s", cmd);
}

const char *world_differs(const struct world *w)
{
	static char text[128];

	for (unsigned i = 0; i < w->from.n; i++)
		for (uint64_t at = 0; at < w->from.r[i].bytes; at += PAGE_BYTES)
			if (memcmp(w->from.r[i].base + at, w->to.r[i].base + at, PAGE_BYTES) != 0) {
				snprintf(text, sizeof(text), "%s differs in page %llu",
					w->from.r[i].name, (unsigned long long)(at / PAGE_BYTES));
				return text;
			}
	return NULL;
}

// A side.

void world_say(struct world_side *s, uint64_t word)
{
	if (send(s->w->wire[!s->source], &word, sizeof(word), MSG_NOSIGNAL) != sizeof(word))
		world_fail("the other side is gone");
}

uint64_t world_hear(struct world_side *s)
{
	struct pollfd p = {.fd = s->w->wire[!s->source], .events = POLLIN};
	uint64_t word;

	if (poll(&p, 1, WORLD_WAIT_S * 1000) != 1 ||
		recv(p.fd, &word, sizeof(word), 0) != sizeof(word))
		world_fail(
			"the %s hears nothing of the other side", s->source ? "source" : "target");
	return word;
}

static void say_counts(struct world_side *s)
{
	struct port_counts c;
	struct link_nic_info i;

	port_counts(s->port, &c);
	printf("%s: rx %llu tx %llu strange %llu nobody %llu forwarded %llu dropped %llu full %llu "
	       "neighbours %llu\n",
		s->source ? "source" : "target", (unsigned long long)c.rx_packets,
		(unsigned long long)c.tx_packets, (unsigned long long)c.rx_strange,
		(unsigned long long)c.rx_nobody, (unsigned long long)c.rx_forwarded,
		(unsigned long long)c.rx_dropped, (unsigned long long)c.tx_full,
		(unsigned long long)c.neighbours);
	for (unsigned n = 0; n < s->w->o.flows; n++) {
		link_nic_info(s->flow[n]->link, &i);
		printf("  flow %u: out %llu in %llu lost %llu spurious %llu timeouts %llu bad %llu "
		       "mtu %u "
		       "rtt %llu us window %llu\n",
			n, (unsigned long long)i.packets_out, (unsigned long long)i.packets_in,
			(unsigned long long)i.lost, (unsigned long long)i.spurious,
			(unsigned long long)i.timeouts, (unsigned long long)i.bad, i.mtu,
			(unsigned long long)i.rtt_ns / 1000, (unsigned long long)i.window_bytes);
	}
	fflush(stdout);
}

static const char *device_of(const struct world_side *s, char *text, size_t bytes)
{
	const struct world *w = s->w;
	unsigned frame = w->o.mtu + 18;

	if (strcmp(w->o.device, "memif") == 0)
		snprintf(text, bytes,
			"net_memif0,role=%s,id=0,socket=%s/memif,bsize=%u,socket-abstract=no",
			s->source ? "client" : "server", w->dir, frame + 64);
	else if (strcmp(w->o.device, "vhost") == 0 && s->source)
		snprintf(text, bytes,
			"virtio_user0,path=%s/vhost,queues=%u,server=0,mrg_rxbuf=1,in_order=1",
			w->dir, w->o.queues);
	else if (strcmp(w->o.device, "vhost") == 0)
		snprintf(text, bytes, "net_vhost0,iface=%s/vhost,queues=%u", w->dir, w->o.queues);
	else
		snprintf(text, bytes,
			"net_af_packet0,iface=%s,qdisc_bypass=0,qpairs=%u,framesz=%u,blocksz=65536,"
			"framecnt="
			"512",
			w->veth[!s->source], w->o.queues, w->o.mtu > 1800 ? 16384 : 2048);
	return text;
}

static void open_port(struct world_side *s)
{
	const struct world_options *o = &s->w->o;
	struct port_info i;
	char device[256];
	struct port_config c = {
		.name = "test",
		.device = device_of(s, device, sizeof(device)),
		.queues = o->queues,
		.mtu = o->mtu,
		.vlan = o->vlan,
		.zero_copy = o->copy ? PORT_NO : PORT_AUTO,
	};
	struct err e;

	if (o->v6)
		c.ipv6 = s->source ? "fd00:6d::1/64" : "fd00:6d::2/64";
	else
		c.ipv4 = s->source ? "192.0.2.1/24" : "192.0.2.2/24";
	check(port_open(&s->port, &c, &e), &e);
	if (port_hold(s->port) < 0)
		world_fail("the port can't be held");
	port_info(s->port, &i);
	if (verbose)
		for (unsigned n = 0; n < i.nnotes; n++)
			printf("%s: %s: %s, steering %s, sums %d %d %d\n",
				s->source ? "source" : "target", i.driver, i.note[n], i.steering,
				i.ip_checksum, i.udp_checksum, i.rx_checksum);
}

static void seal_link(struct world_side *s, struct link *l, unsigned n)
{
	struct seal_secret secret[2] = {{.key = {(uint8_t)n, 1}}, {.key = {(uint8_t)n, 2}}};
	const struct seal_ops *ops = seal_best("aes-256-gcm");
	struct err e;

	if (ops == NULL)
		world_fail("this CPU can't seal");
	check(l->ops->seal(l, ops, &secret[!s->source], &secret[s->source], -1, &e), &e);
}

static void open_flow(struct world_side *s, unsigned n)
{
	const struct world_options *o = &s->w->o;
	unsigned queue = port_pick_queue(s->port, -1), lcore = port_queue_lcore(s->port, queue);
	struct link_nic_config c = {
		.port = s->port,
		.queue = queue,
		.source = s->source,
		.udp_port = port_udp_take(s->port, queue, NULL),
		.token_in = WORLD_TOKEN + 2 * n + s->source,
		.token_out = WORLD_TOKEN + 2 * n + !s->source,
		.mtu_most = o->mtu,
		.dead_ns = o->dead_ms * NS_PER_MS,
		.barrier_ns = o->barrier_ms * NS_PER_MS,
		.faults = {.lose = o->lose, .seed = o->seed + s->source},
	};
	const char *peer = o->v6 ? (s->source ? "fd00:6d::2" : "fd00:6d::1")
				 : (s->source ? "192.0.2.2" : "192.0.2.1");
	struct link *l;
	struct err e;

	world_say(s, c.udp_port);
	if (port_address_parse(&c.peer, peer, (uint16_t)world_hear(s)) < 0)
		world_fail("%s is no address", peer);
	check(link_nic_open(&l, &c, &e), &e);
	if (o->seal)
		seal_link(s, l, n);
	if (s->source)
		check(flow_send_new(&s->flow[n], &s->send_job, l, lcore, -1, &e), &e);
	else
		check(flow_recv_new(&s->flow[n], &s->recv_job, l, lcore, -1, &e), &e);
	if (flow_attach(s->flow[n]) < 0)
		world_fail("a flow can't be attached");
}

void world_side_open(struct world_side *s, struct world *w, bool source)
{
	struct eal_config c = {.cores = source ? "0" : "1",
		.mem_mb = 64 + w->o.queues * 48,
		.no_huge = true, // others may take them between the look and the start
		.idle = LCORE_IDLE_YIELD};
	struct eal_info info;
	struct err e;

	memset(s, 0, sizeof(*s));
	s->w = w;
	s->source = source;
	signal(SIGPIPE, SIG_IGN);
	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		c.cores = "0";
	if (!source && w->netns[0] != 0)
		enter_netns(w);
	check(eal_start(&c, &info, &e), &e);
	if (!source) {
		open_port(s);
		check(recv_job_init(&s->recv_job, &w->to, w->o.keep, &e), &e);
		world_say(s, 0);
	} else {
		world_hear(s); // the server's socket is there
		open_port(s);
		if (dirty_init(&s->dirty, w->from.nchunks) < 0 || claim_init(&s->claim, 1) < 0)
			world_fail("no memory");
		dirty_touch(&s->dirty, 0, w->from.nchunks);
		s->send_job.map = &w->from;
		s->send_job.dirty = &s->dirty;
		s->send_job.claim = &s->claim;
		s->send_job.codec = w->o.deflate ? &codec_isal : NULL;
		s->send_job.level = 1;
	}
	for (unsigned i = 0; i < w->o.flows; i++)
		open_flow(s, i);
}

void world_side_close(struct world_side *s, bool alone)
{
	uint64_t end = clock_ns() + WORLD_WAIT_S * NS_PER_S;

	for (unsigned i = 0; i < s->w->o.flows; i++)
		flow_detach(s->flow[i]);
	for (unsigned i = 0; i < s->w->o.flows; i++)
		while (!atomic_load(&s->flow[i]->detached)) {
			if (clock_ns() > end)
				world_fail("an lcore does not let go of a flow");
			nap();
		}
	if (verbose)
		say_counts(s);
	for (unsigned i = 0; i < s->w->o.flows; i++)
		flow_free(s->flow[i]);
	// Both have stopped to send before one of them takes its device away.
	if (!alone) {
		world_say(s, 1);
		world_hear(s);
	}
	port_release(s->port);
	if (!alone)
		world_let_the_other_go(s);
	port_close(s->port);
	if (s->source) {
		claim_fini(&s->claim);
		dirty_fini(&s->dirty);
	} else {
		recv_job_fini(&s->recv_job);
	}
	eal_stop();
}

void world_wait_pass(struct world_side *s, uint32_t pass)
{
	uint64_t end = clock_ns() + WORLD_WAIT_S * NS_PER_S;

	for (unsigned i = 0; i < s->w->o.flows; i++)
		while (atomic_load(&s->flow[i]->done_pass) != pass) {
			if (atomic_load(&s->flow[i]->error) != 0 && verbose)
				say_counts(s);
			if (atomic_load(&s->flow[i]->error) != 0)
				world_fail("%s: %s", s->source ? "source" : "target",
					s->flow[i]->why.text);
			if (clock_ns() > end) {
				say_counts(s);
				world_fail("%s: flow %u does not end pass %u",
					s->source ? "source" : "target", i, pass);
			}
			nap();
		}
}
