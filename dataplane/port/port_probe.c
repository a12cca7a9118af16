// SPDX-License-Identifier: BSD-3-Clause
// Finds a port's device, asks what it can do, and sets it up. Run by control threads.
//
// Nothing is assumed: what the device does not report is not used, and what was asked for and can't
// be had is an error that says so. What was chosen stands in info, as figures or as notes.

#include "port_impl.h"

#include "lcore.h"

#include <errno.h>
#include <rte_dev.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DESCRIPTORS 1024u
#define L2_BYTES    (UDP_ETHER_BYTES + UDP_VLAN_BYTES)
#define POOL_CACHE  64u
#define RX_SPARE    512u // packets that links have in hand
#define TX_SPARE    256u
#define ROOM_SPARE  64u // what a device puts before a frame
#define RSS_WANTED  (RTE_ETH_RSS_NONFRAG_IPV4_UDP | RTE_ETH_RSS_NONFRAG_IPV6_UDP)
#define TX_WANTED                                                                                  \
	(RTE_ETH_TX_OFFLOAD_IPV4_CKSUM | RTE_ETH_TX_OFFLOAD_UDP_CKSUM |                            \
		RTE_ETH_TX_OFFLOAD_MULTI_SEGS)
#define RX_WANTED    (RTE_ETH_RX_OFFLOAD_IPV4_CKSUM | RTE_ETH_RX_OFFLOAD_UDP_CKSUM)
#define DEVICE_BYTES 256u

// What is known of drivers that don't say it themselves.
static const struct driver {
	const char *name;
	bool copies;           // has read a packet when it says that it took it
	const char *no_ext;    // why pages can't be attached to its packets
	const char *frame_arg; // the option that bounds a frame, its default, what it holds besides
	unsigned frame_default, frame_more;
} drivers[] = {
	{"net_memif", true, NULL, "bsize", 2048, 0},
	{"net_af_packet", true, NULL, "framesz", 2048, 96},
	// Where the memory goes away under it (law 7), the lock stays taken.
	{"net_vhost", true, "its driver reads packets under a lock", NULL, 0, 0},
	{"net_pcap", true, NULL, NULL, 0, 0},
	{"net_virtio", false, "its driver can't send memory of others", NULL, 0, 0},
	{"net_virtio_user", false, "its driver can't send memory of others", NULL, 0, 0},
	{"net_af_xdp", false, "its driver spoils packets of several pieces", NULL, 0, 0},
};

static const struct driver *driver_of(const char *name)
{
	for (size_t i = 0; i < sizeof(drivers) / sizeof(drivers[0]); i++)
		if (strcmp(name, drivers[i].name) == 0)
			return &drivers[i];
	return NULL;
}

void port_note(struct port *p, const char *fmt, ...)
{
	va_list ap;

	if (p->info.nnotes == PORT_NOTES)
		return;
	va_start(ap, fmt);
	vsnprintf(p->info.note[p->info.nnotes++], PORT_NOTE_BYTES, fmt, ap);
	va_end(ap);
}

// The number behind "name=" among a device's options, or `otherwise`.
static unsigned device_option(const char *device, const char *name, unsigned otherwise)
{
	size_t len = strlen(name);

	for (const char *at = strchr(device, ','); at != NULL; at = strchr(at + 1, ','))
		if (strncmp(at + 1, name, len) == 0 && at[1 + len] == '=')
			return (unsigned)strtoul(at + 2 + len, NULL, 0);
	return otherwise;
}

// "net_memif0" is made by the driver "net_memif".
static const struct driver *driver_of_device(const char *device)
{
	size_t len = strcspn(device, ",");
	char name[DEVICE_BYTES];

	snprintf(name, sizeof(name), "%.*s", (int)len, device);
	for (len = strlen(name); len > 0 && name[len - 1] >= '0' && name[len - 1] <= '9'; len--)
		name[len - 1] = 0;
	return driver_of(name);
}

static int check_frame(const struct port_config *c, struct err *e)
{
	const struct driver *d = driver_of_device(c->device);
	unsigned mtu = c->mtu > 0 ? c->mtu : 1500, has, need;

	if (d == NULL || d->frame_arg == NULL)
		return 0;
	has = device_option(c->device, d->frame_arg, d->frame_default);
	need = mtu + L2_BYTES + d->frame_more;
	if (has >= need)
		return 0;
	return err_set(e, EINVAL,
		"port %s: frames of an MTU of %u bytes need %s=%u or more in \"%s\" (it has %u)",
		c->name, mtu, d->frame_arg, need, c->device, has);
}

// Once connected, DPDK's driver closes the file that EAL keeps its memory in, and EAL does not
// know: the next user of that number, a guest's RAM file perhaps, would be handed to peers, or
// mapped as EAL's memory grows.
static int check_memif(const struct port_config *c, struct err *e)
{
	if (strncmp(c->device, "net_memif", strlen("net_memif")) != 0 ||
		strstr(c->device, ",zero-copy=") == NULL)
		return 0;
	return err_set(e, EINVAL,
		"port %s: leave zero-copy out of \"%s\": net_memif then closes a file that DPDK "
		"goes on to use, and another one would be in its place",
		c->name, c->device);
}

int port_config_check(const struct port_config *c, struct err *e)
{
	struct port p = {0};

	if (c->name == NULL || c->name[0] == 0 || strlen(c->name) >= PORT_NAME)
		return err_set(e, EINVAL, "a port needs a name of 1 to %u bytes", PORT_NAME - 1);
	if (c->device == NULL || c->device[0] == 0 || strlen(c->device) >= DEVICE_BYTES)
		return err_set(e, EINVAL, "port %s needs a device of 1 to %u bytes", c->name,
			DEVICE_BYTES - 1);
	if (c->queues > PORT_QUEUES)
		return err_set(e, EINVAL, "port %s: %u queues are too many, %u are the most",
			c->name, c->queues, PORT_QUEUES);
	if (c->mtu != 0 && (c->mtu < PORT_MTU_LEAST || c->mtu > PORT_MTU_MOST))
		return err_set(e, EINVAL, "port %s: the MTU is %u, it can be from %u to %u",
			c->name, c->mtu, PORT_MTU_LEAST, PORT_MTU_MOST);
	if (c->vlan > 4094)
		return err_set(e, EINVAL, "port %s: VLAN %u does not exist, 1 to 4094 do", c->name,
			c->vlan);
	if (check_frame(c, e) < 0 || check_memif(c, e) < 0)
		return -EINVAL;
	return port_addresses(&p, c, e);
}

static int find_device(struct port *p, const struct port_config *c, struct err *e)
{
	char name[DEVICE_BYTES];
	struct rte_eth_dev_info i;
	uint16_t id;
	int rc = rte_dev_probe(c->device);

	if (rc < 0 && rc != -EEXIST)
		return err_set(e, rc == -ENODEV || rc == -ENOENT ? ENODEV : EIO,
			"port %s: DPDK can't use device \"%s\" (%s): check its name and options, "
			"that its driver is bound to vfio-pci, and that the daemon was told of it "
			"at its start",
			c->name, c->device, rte_strerror(-rc));
	snprintf(name, sizeof(name), "%.*s", (int)strcspn(c->device, ","), c->device);
	RTE_ETH_FOREACH_DEV(id)
	if (rte_eth_dev_info_get(id, &i) == 0 && strcmp(rte_dev_name(i.device), name) == 0) {
		p->id = id;
		p->device = i.device;
		return 0;
	}
	return err_set(e, ENODEV, "port %s: device \"%s\" is there, but is no network device",
		c->name, c->device);
}

static int choose_queues(struct port *p, const struct port_config *c,
	const struct rte_eth_dev_info *i, struct err *e)
{
	unsigned most = i->max_rx_queues < i->max_tx_queues ? i->max_rx_queues : i->max_tx_queues;
	unsigned self = lcore_count() < PORT_QUEUES_SELF ? lcore_count() : PORT_QUEUES_SELF;

	if (most > PORT_QUEUES)
		most = PORT_QUEUES;
	if (c->queues > most)
		return err_set(e, EINVAL,
			"port %s: %u queues were asked for, but its device has %u as it is set up "
			"(virtual devices take a number of queues among their options)",
			c->name, c->queues, most);
	p->nqueues = c->queues > 0 ? c->queues : self < most ? self : most;
	p->info.queues = p->nqueues;
	return 0;
}

// Pages as they lie, attached to packets: where the device can, and where that is known to work.
static int choose_zero_copy(struct port *p, const struct port_config *c, struct err *e)
{
	const struct driver *d = driver_of(p->info.driver);
	const char *why = NULL;

	if (d != NULL && d->frame_arg != NULL)
		p->rx_frame_bytes = device_option(c->device, d->frame_arg, d->frame_default);
	p->copies = d != NULL && d->copies;
	if (!p->info.multi_seg)
		why = "its driver sends no packets of several pieces";
	else if (d != NULL && d->no_ext != NULL)
		why = d->no_ext;
	if (why != NULL && c->zero_copy == PORT_YES)
		return err_set(
			e, ENOTSUP, "port %s can't send pages without a copy: %s", c->name, why);
	p->info.must_zero_copy = c->zero_copy == PORT_YES;
	p->info.zero_copy = why == NULL && c->zero_copy != PORT_NO;
	p->info.maps = p->info.zero_copy && !p->copies;
	p->info.must_copy = c->zero_copy == PORT_NO ? "as was asked for" : why;
	if (p->info.maps)
		port_note(p, "pages leave guest memory by DMA where it can be mapped for that, "
			     "but for sealed ones");
	else if (p->info.zero_copy)
		port_note(p,
			"pages leave guest memory without a copy by Godwit, but for sealed ones");
	else
		port_note(p, "pages are copied into packets: %s", p->info.must_copy);
	return 0;
}

static unsigned descriptors(unsigned wanted, unsigned preferred, const struct rte_eth_desc_lim *lim)
{
	unsigned n = wanted > 0 ? wanted : preferred > 0 ? preferred : DESCRIPTORS;

	(void)lim; // rte_eth_dev_adjust_nb_rx_tx_desc() knows it
	return n > UINT16_MAX ? UINT16_MAX : n;
}

static int configure(
	struct port *p, const struct port_config *c, struct rte_eth_dev_info *i, struct err *e)
{
	struct rte_eth_conf conf = {0};
	uint16_t rx, tx;
	int rc;

	p->info.mtu = c->mtu > 0 ? c->mtu : 1500;
	if (p->info.mtu > i->max_mtu)
		return err_set(e, EINVAL, "port %s: an MTU of %u was asked for, its device has %u",
			c->name, p->info.mtu, i->max_mtu);
	// Some virtual devices report the size of a plain frame, take larger ones all the same, and
	// refuse to be told.
	if (i->max_rx_pktlen >= p->info.mtu + L2_BYTES)
		conf.rxmode.mtu = p->info.mtu;
	conf.rxmode.offloads = RX_WANTED & i->rx_offload_capa;
	conf.txmode.offloads = TX_WANTED & i->tx_offload_capa;
	if (p->nqueues > 1 && (i->flow_type_rss_offloads & RSS_WANTED) != 0) {
		conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
		conf.rx_adv_conf.rss_conf.rss_hf = RSS_WANTED & i->flow_type_rss_offloads;
	}
	p->spreads = conf.rxmode.mq_mode == RTE_ETH_MQ_RX_RSS;
	p->info.steering = p->spreads ? "rss" : "software";
	rc = rte_eth_dev_configure(p->id, (uint16_t)p->nqueues, (uint16_t)p->nqueues, &conf);
	if (rc < 0)
		return err_sys(e, -rc, "port %s: its device refuses %u queues with an MTU of %u",
			c->name, p->nqueues, p->info.mtu);
	p->info.ip_checksum = conf.txmode.offloads & RTE_ETH_TX_OFFLOAD_IPV4_CKSUM;
	p->info.udp_checksum = conf.txmode.offloads & RTE_ETH_TX_OFFLOAD_UDP_CKSUM;
	p->info.rx_checksum = (conf.rxmode.offloads & RX_WANTED) == RX_WANTED;
	p->info.multi_seg = conf.txmode.offloads & RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
	p->check_ip_sum = !(conf.rxmode.offloads & RTE_ETH_RX_OFFLOAD_IPV4_CKSUM);
	p->segs_most =
		i->tx_desc_lim.nb_mtu_seg_max > 1 ? i->tx_desc_lim.nb_mtu_seg_max - 1u : PORT_SEGS;
	if (p->segs_most > PORT_SEGS)
		p->segs_most = PORT_SEGS;
	rx = (uint16_t)descriptors(
		c->rx_descriptors, i->default_rxportconf.ring_size, &i->rx_desc_lim);
	tx = (uint16_t)descriptors(
		c->tx_descriptors, i->default_txportconf.ring_size, &i->tx_desc_lim);
	rc = rte_eth_dev_adjust_nb_rx_tx_desc(p->id, &rx, &tx);
	if (rc < 0)
		return err_sys(
			e, -rc, "port %s: its device has no such number of descriptors", c->name);
	p->info.rx_descriptors = rx;
	p->info.tx_descriptors = tx;
	return 0;
}

static struct rte_mempool *pool(
	const struct port_queue *q, const char *what, unsigned n, unsigned room, unsigned *bytes)
{
	char name[RTE_MEMPOOL_NAMESIZE];

	snprintf(name, sizeof(name), "gw_%s_%u_%u", what, q->id, q->index);
	*bytes += n * (room + (unsigned)sizeof(struct rte_mbuf) + 64u);
	return rte_pktmbuf_pool_create(
		name, n, POOL_CACHE, 0, (uint16_t)room, (int)rte_lcore_to_socket_id(q->lcore));
}

static bool make_pools(struct port *p, struct port_queue *q, unsigned *bytes)
{
	unsigned full = RTE_ALIGN_CEIL(
		RTE_PKTMBUF_HEADROOM + p->info.mtu + L2_BYTES + ROOM_SPARE, RTE_CACHE_LINE_SIZE);
	unsigned rx = p->rx_frame_bytes + RTE_PKTMBUF_HEADROOM;
	unsigned tx = p->info.tx_descriptors;
	bool zero = p->info.zero_copy, copied = !zero || p->info.maps;
	unsigned pieces = RTE_MIN(2 * tx + TX_SPARE, UINT16_MAX - 1u); // as counts of them are

	q->rx_pool = pool(q, "rx", p->info.rx_descriptors + RX_SPARE, rx > full ? rx : full, bytes);
	q->full_pool = pool(q, "tx", copied ? tx + TX_SPARE : 2 * TX_SPARE, full, bytes);
	if (zero) {
		q->hdr_pool = pool(
			q, "hd", tx + TX_SPARE, RTE_PKTMBUF_HEADROOM + UDP_HDR_MOST + 256, bytes);
		q->ext_pool = pool(q, "ex", pieces, 0, bytes);
	}
	return q->rx_pool != NULL && q->full_pool != NULL &&
	       (!zero || (q->hdr_pool != NULL && q->ext_pool != NULL));
}

static int setup_queue(struct port *p, const struct port_config *c, unsigned n, struct err *e)
{
	struct port_queue *q = p->queue[n];
	unsigned bytes = 0, node = rte_lcore_to_socket_id(q->lcore);
	char name[RTE_RING_NAMESIZE];
	int rc;

	q->id = p->id;
	if (!make_pools(p, q, &bytes))
		return err_set(e, ENOMEM,
			"port %s: no memory for %u buffers of queue %u: %u queues need %u MiB of "
			"EAL's memory; give it more, or fewer descriptors, or a smaller MTU",
			c->name, p->info.rx_descriptors + p->info.tx_descriptors, n, p->nqueues,
			(unsigned)((uint64_t)bytes * p->nqueues >> 20) + 1);
	snprintf(name, sizeof(name), "gw_fw_%u_%u", p->id, n);
	q->forward = rte_ring_create(name, PORT_FORWARD, (int)node, RING_F_SC_DEQ);
	if (q->forward == NULL)
		return err_set(e, ENOMEM, "port %s: no memory for queue %u", c->name, n);
	rc = rte_eth_rx_queue_setup(
		p->id, (uint16_t)n, (uint16_t)p->info.rx_descriptors, node, NULL, q->rx_pool);
	if (rc == 0)
		rc = rte_eth_tx_queue_setup(
			p->id, (uint16_t)n, (uint16_t)p->info.tx_descriptors, node, NULL);
	if (rc < 0)
		return err_sys(e, -rc, "port %s: its device does not set up queue %u", c->name, n);
	return 0;
}

static int start(struct port *p, const struct port_config *c, struct err *e)
{
	struct rte_ether_addr mac;
	int rc = rte_eth_dev_start(p->id);

	if (rc < 0)
		return err_sys(e, -rc, "port %s: its device does not start", c->name);
	p->started = true;
	// Neighbours are solicited by multicast. A device that can't be told lets all pass.
	if (p->own.has6)
		(void)rte_eth_allmulticast_enable(p->id);
	rc = rte_eth_macaddr_get(p->id, &mac);
	if (rc < 0)
		return err_sys(e, -rc, "port %s: its device has no MAC address", c->name);
	memcpy(p->own.mac, mac.addr_bytes, sizeof(p->own.mac));
	memcpy(p->info.mac, mac.addr_bytes, sizeof(p->info.mac));
	return 0;
}

int port_probe(struct port *p, const struct port_config *c, struct err *e)
{
	struct rte_eth_dev_info i;
	int rc = find_device(p, c, e);

	if (rc < 0)
		return rc;
	rc = rte_eth_dev_info_get(p->id, &i);
	if (rc < 0)
		return err_sys(e, -rc, "port %s: its device says nothing of itself", c->name);
	snprintf(p->info.driver, sizeof(p->info.driver), "%s", i.driver_name);
	p->info.node = rte_eth_dev_socket_id(p->id);
	rc = choose_queues(p, c, &i, e);
	if (rc == 0)
		rc = configure(p, c, &i, e);
	if (rc == 0)
		rc = choose_zero_copy(p, c, e);
	for (unsigned n = 0; rc == 0 && n < p->nqueues; n++)
		rc = port_queue_new(p, n, e);
	for (unsigned n = 0; rc == 0 && n < p->nqueues; n++)
		rc = setup_queue(p, c, n, e);
	return rc == 0 ? start(p, c, e) : rc;
}

void port_stop(struct port *p)
{
	if (p->started)
		rte_eth_dev_stop(p->id);
	p->started = false;
}

void port_remove(struct port *p)
{
	if (p->id == UINT16_MAX)
		return;
	rte_eth_dev_close(p->id);
	rte_dev_remove(p->device);
}
