// SPDX-License-Identifier: BSD-3-Clause
// Guest memory that is mapped for a device by DPDK's own calls is given back before its port is
// gone, also where the session has ended before; and a second port is served like the first. What a
// card holds whose cable is cut comes back when it is mended, though no session is there any more.

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "port_impl.h"

#include "extmem_window_impl.h"
#include "lcore.h"

#include <rte_ethdev.h>

#define GUEST_MB  4
#define WAIT_NAPS 30000
#define SILENT    20

// A card that holds one piece of guest memory for as long as its cable is cut, and gives it back to
// who asks, or when it is stopped.
static struct fake {
	_Atomic bool cut, mute; /* mute: it can't be asked */
	_Atomic bool holds;
	_Atomic unsigned asked;
	struct extmem_piece piece;
} card;

int __wrap_rte_eth_tx_done_cleanup(uint16_t id, uint16_t queue, uint32_t n);
int __real_rte_eth_dev_stop(uint16_t id);
int __wrap_rte_eth_dev_stop(uint16_t id);

static void let_go(void)
{
	if (atomic_exchange(&card.holds, false))
		extmem_window_give(&card.piece, 1);
}

int __wrap_rte_eth_tx_done_cleanup(uint16_t id, uint16_t queue, uint32_t n)
{
	(void)id, (void)queue, (void)n;
	atomic_fetch_add(&card.asked, 1);
	if (atomic_load(&card.mute))
		return -ENOTSUP;
	if (!atomic_load(&card.cut))
		let_go();
	return 0;
}

int __wrap_rte_eth_dev_stop(uint16_t id)
{
	let_go();
	return __real_rte_eth_dev_stop(id);
}

static void wrong(const char *what)
{
	printf("WRONG: %s\n", what);
	exit(1);
}

static void must(int rc, const struct err *e)
{
	if (rc >= 0)
		return;
	printf("%s\n", e->text);
	exit(1);
}

static struct port *open_port(const char *device, const char *ipv4)
{
	struct port_config c = {.name = "test", .device = device, .queues = 1, .ipv4 = ipv4};
	struct port *p = NULL;
	struct err e;

	must(port_open(&p, &c, &e), &e);
	return p;
}

static void nap_us(uint64_t us)
{
	const struct timespec t = {.tv_nsec = (long)(us * 1000)};

	nanosleep(&t, NULL);
}

static int all(int fd, uint64_t offset, uint64_t len,
	int (*run)(void *arg, uint64_t offset, uint64_t bytes), void *arg)
{
	(void)fd;
	return run(arg, offset, len);
}

// A guest's memory, all of it mapped for the port.
static struct extmem_window *map_guest(struct port *p, struct region_map *map)
{
	struct extmem_window_info i = {0};
	struct extmem_window *w;
	struct err e;
	int fd = memfd_create("ram", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, GUEST_MB << 20) != 0 ||
		fallocate(fd, 0, 0, GUEST_MB << 20) != 0)
		must(err_set(&e, errno, "no memory"), &e);
	region_map_init(map);
	must(region_add(map, "ram", fd, GUEST_MB << 20, PAGE_BYTES, &e), &e);
	must(region_mmap(&map->r[0], false, &e), &e);
	must(extmem_window_new(&w,
		     &(struct extmem_window_config){.port = p, .map = map, .lanes = 1, .walk = all},
		     &e),
		&e);
	while (i.looks == 0) {
		nap_us(1000);
		extmem_window_info(w, &i);
	}
	if (i.mapped_bytes != map->bytes) {
		printf("WRONG: %llu bytes are mapped: %s\n", (unsigned long long)i.mapped_bytes,
			i.why.text);
		exit(1);
	}
	return w;
}

// On a device that maps nothing: the calls are DPDK's own.
static void is_given_back(void)
{
	struct port *p = open_port("net_null0", "192.0.2.3/24");
	struct region_map map;
	struct extmem_window *w = map_guest(p, &map);

	region_map_close(&map); // the session may end first
	extmem_window_free(w);
	port_close(p);
}

// A session on a port that is held, which ends while the card holds a piece of its guest, or (lost)
// its driver has left one nobody knows where.
static void session_ends(struct port *p, bool lost)
{
	struct region_map map;
	struct extmem_window *w;

	if (port_hold(p) < 0)
		wrong("the port can't be held");
	w = map_guest(p, &map);
	if (!extmem_window_take(w, 0, &(struct iovec){map.r[0].base, PAGE_BYTES}, 1, &card.piece))
		wrong("a page is not mapped");
	atomic_store(&card.holds, true);
	if (lost)
		extmem_window_lost(w);
	region_map_close(&map);
	extmem_window_free(w);
	port_release(p);
}

static bool is_polled(struct port *p)
{
	return !atomic_load(&p->queue[0]->poller.detached);
}

static void wait_unpinned(struct port *p, const char *what)
{
	for (unsigned n = 0; n < WAIT_NAPS && atomic_load(&p->windows) > 0; n++)
		nap_us(1000);
	if (atomic_load(&p->windows) > 0)
		wrong(what);
}

static void wait_left(struct port *p)
{
	for (unsigned n = 0; n < WAIT_NAPS && is_polled(p); n++)
		nap_us(1000);
	if (is_polled(p))
		wrong("an lcore polls a port that nobody holds");
}

static void comes_back_without_a_session(struct port *p)
{
	unsigned asked;

	atomic_store(&card.cut, true);
	session_ends(p, false);
	asked = atomic_load(&card.asked);
	for (unsigned n = 0; n < WAIT_NAPS && atomic_load(&card.asked) < asked + 2; n++)
		nap_us(1000);
	if (!is_polled(p) || atomic_load(&p->windows) != 1)
		wrong("guest memory is given back while the card holds it");
	atomic_store(&card.cut, false);
	wait_unpinned(p, "guest memory stays mapped once the cable is mended");
	wait_left(p);
}

// The next session comes while the card still holds something of the last one.
static void next_session_comes(struct port *p)
{
	atomic_store(&card.cut, true);
	session_ends(p, false);
	for (unsigned n = 0; n < SILENT; n++)
		nap_us(1000);
	if (port_hold(p) < 0 || !is_polled(p))
		wrong("the port can't be held again");
	atomic_store(&card.cut, false);
	wait_unpinned(p, "guest memory stays mapped while another session is there");
	for (unsigned n = 0; n < SILENT; n++)
		nap_us(1000);
	if (!is_polled(p))
		wrong("a port that is held is not polled");
	port_release(p);
	wait_left(p);
}

// A card that can't be asked looks when there is more to send.
static void is_nudged(struct port *p)
{
	struct port_counts before, now;

	atomic_store(&card.mute, true);
	port_counts(p, &before);
	session_ends(p, false);
	now = before;
	for (unsigned n = 0; n < WAIT_NAPS && now.tx_packets == before.tx_packets; n++) {
		nap_us(1000);
		port_counts(p, &now);
	}
	if (now.tx_packets == before.tx_packets)
		wrong("nothing makes the card look");
	let_go();
	wait_unpinned(p, "guest memory stays mapped though the card has let go");
	wait_left(p);
	atomic_store(&card.mute, false);
}

// The driver read guest memory as its VMM took it away, and what it had in hand stays away: nobody
// waits for that, and the next session is served.
static void packets_are_lost(struct port *p)
{
	atomic_store(&card.cut, true);
	session_ends(p, true);
	wait_unpinned(p, "the thread waits for packets that are lost");
	wait_left(p);
	let_go(); // or some come after all
	atomic_store(&card.cut, false);
	comes_back_without_a_session(p);
}

static void cable_is_cut(void)
{
	struct port *p = open_port("net_null0", "192.0.2.3/24");

	comes_back_without_a_session(p);
	next_session_comes(p);
	is_nudged(p);
	packets_are_lost(p);
	// Where the port is closed, the device is stopped, and so gives all back.
	atomic_store(&card.cut, true);
	session_ends(p, false);
	port_close(p);
	if (atomic_load(&card.holds))
		wrong("a port was closed, and its device not stopped");
	atomic_store(&card.cut, false);
}

int main(void)
{
	struct eal_config c = {
		.cores = "0", .mem_mb = 128, .no_huge = true, .idle = LCORE_IDLE_YIELD};
	struct eal_info info;
	struct err e;

	must(eal_start(&c, &info, &e), &e);
	is_given_back();
	is_given_back();
	cable_is_cut();
	is_given_back(); // a device of that name can be again
	eal_stop();
	return 0;
}
