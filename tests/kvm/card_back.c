// SPDX-License-Identifier: BSD-3-Clause
// DPDK's vhost-user back end as a network card: what it receives is copied to the guest's buffers,
// and logged while the VMM asks for that. One process, one queue pair.

#include "card_back.h"

#include <rte_eal.h>
#include <rte_mbuf.h>
#include <rte_vhost.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

static atomic_int device = -1;

static int on_new(int vid)
{
	atomic_store(&device, vid);
	return 0;
}

static void on_gone(int vid)
{
	(void)vid;
	atomic_store(&device, -1);
}

static const struct rte_vhost_device_ops ops = {.new_device = on_new, .destroy_device = on_gone};

static struct rte_mempool *start(const char *path)
{
	char prefix[64];
	char *args[] = {"card", "--no-pci", "--no-huge", "-m", "64", "--no-telemetry",
		"--no-shconf", "--iova-mode=va", "--log-level=error", "-l", "0", "--file-prefix",
		prefix, NULL};

	snprintf(prefix, sizeof(prefix), "godwit-card-%d", (int)getpid());
	if (rte_eal_init((int)(sizeof(args) / sizeof(args[0])) - 1, args) < 0)
		_exit(77);
	if (rte_vhost_driver_register(path, 0) < 0 ||
		rte_vhost_driver_callback_register(path, &ops) < 0 ||
		rte_vhost_driver_start(path) < 0)
		return NULL;
	return rte_pktmbuf_pool_create("card", 255, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
}

/* The VMM waits: whatever it changed before is taken up by the back end's own thread in its time.
 */
static int receive(struct rte_mempool *pool, uint32_t value)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(pool);
	unsigned sent = 0;

	memcpy(rte_pktmbuf_append(m, sizeof(value)), &value, sizeof(value));
	for (unsigned i = 0; sent == 0 && i < 20000; i++) {
		int vid = atomic_load(&device);

		if (vid >= 0)
			sent = rte_vhost_enqueue_burst((uint16_t)vid, 0, &m, 1);
		if (sent == 0)
			usleep(500);
	}
	rte_pktmbuf_free(m);
	return sent == 1;
}

_Noreturn void card_back(const char *path, int pipe)
{
	struct rte_mempool *pool;
	uint32_t value;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGPIPE, SIG_IGN);
	pool = start(path);
	if (pool == NULL || write(pipe, "r", 1) != 1)
		_exit(1);
	while (read(pipe, &value, sizeof(value)) == sizeof(value))
		if (!receive(pool, value) || write(pipe, "k", 1) != 1)
			_exit(1);
	_exit(0);
}
