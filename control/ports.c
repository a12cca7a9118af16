// SPDX-License-Identifier: BSD-3-Clause
// The daemon's ports: read from its configuration file, checked, opened, told about. Run by main
// and the control loop; nothing here is touched by lcores.

#include "ports.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "log.h"
#include "sysfs.h"

#define PORTS_MEMORY_MB 64u  /* of the data path, where nobody said how much, */
#define PORT_MEMORY_MB  256u /* and for each port */

int ports_add(struct ports *p, const char *name, struct option_set **set, struct err *e)
{
	struct ports_one *one;

	if (name[0] == '\0' || strlen(name) >= PORT_NAME ||
		strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") !=
			strlen(name))
		return err_set(e, EINVAL,
			"'%.70s' is no name of a port: letters, digits, dots, dashes, %u at most",
			name, PORT_NAME - 1);
	for (unsigned i = 0; i < p->n; i++)
		if (strcmp(p->one[i].name, name) == 0)
			return err_set(e, EINVAL, "a port of the name %s was there before", name);
	if (p->n == PORTS_MOST)
		return err_set(e, EINVAL, "more than %u ports", PORTS_MOST);
	one = &p->one[p->n++];
	snprintf(one->name, sizeof(one->name), "%s", name);
	option_init(&one->options, option_port, OPTION_PORT);
	*set = &one->options;
	return 0;
}

static const char *text_or_null(const struct option_set *o, const char *name)
{
	return option_given(o, name) ? option_text(o, name) : NULL;
}

static void fill(struct port_config *c, const struct ports_one *one)
{
	const struct option_set *o = &one->options;

	*c = (struct port_config){
		.name = one->name,
		.device = option_text(o, "device"),
		.queues = (unsigned)option_number(o, "queues"),
		.rx_descriptors = (unsigned)option_number(o, "rx-descriptors"),
		.tx_descriptors = (unsigned)option_number(o, "tx-descriptors"),
		.mtu = (unsigned)option_number(o, "mtu"),
		.ipv4 = text_or_null(o, "ipv4"),
		.ipv6 = text_or_null(o, "ipv6"),
		.ipv4_gateway = text_or_null(o, "ipv4-gateway"),
		.ipv6_gateway = text_or_null(o, "ipv6-gateway"),
		.vlan = (unsigned)option_number(o, "vlan"),
		.zero_copy = (enum port_choice)option_number(o, "zero-copy"),
	};
}

int ports_check(const struct ports *p, struct err *e)
{
	for (unsigned i = 0; i < p->n; i++) {
		struct port_config c;
		struct err why;

		for (unsigned k = 0; k < i; k++)
			if (strcmp(option_text(&p->one[i].options, "device"),
				    option_text(&p->one[k].options, "device")) == 0)
				return err_set(e, EINVAL, "ports %s and %s are the same device",
					p->one[k].name, p->one[i].name);
		if (!option_given(&p->one[i].options, "device"))
			return err_set(e, EINVAL,
				"port %s: device is missing: a PCI address, or a virtual device "
				"with its arguments, see godwit.conf(5)",
				p->one[i].name);
		fill(&c, &p->one[i]);
		if (port_config_check(&c, &why) < 0)
			return err_set(e, EINVAL, "port %s: %s", p->one[i].name, why.text);
	}
	return 0;
}

/* "0000:81:00.0", options after a comma or not. */
static bool is_pci(const char *device)
{
	unsigned domain, bus, slot, function;

	return isxdigit((unsigned char)device[0]) &&
	       sscanf(device, "%x:%x:%x.%x", &domain, &bus, &slot, &function) == 4;
}

void ports_need(struct ports *p, struct eal_config *c)
{
	unsigned npci = 0;

	for (unsigned i = 0; i < p->n; i++) {
		const char *device = option_text(&p->one[i].options, "device");

		if (is_pci(device))
			p->pci[npci++] = device;
	}
	p->pci[npci] = NULL;
	c->pci = p->pci;
	if (c->mem_mb == 0)
		c->mem_mb = PORTS_MEMORY_MB + p->n * PORT_MEMORY_MB;
}

/* The value of "iface=eth1" in a device's arguments. */
static bool argument(const char *device, const char *key, char value[SYSFS_TEXT])
{
	const char *at = device;
	size_t len = strlen(key);

	while ((at = strchr(at, ',')) != NULL) {
		at++;
		if (strncmp(at, key, len) == 0 && at[len] == '=') {
			snprintf(value, SYSFS_TEXT, "%.*s", (int)strcspn(at + len + 1, ","),
				at + len + 1);
			return true;
		}
	}
	return false;
}

uint64_t ports_nodes(const struct ports *p)
{
	uint64_t nodes = 0;

	for (unsigned i = 0; i < p->n; i++) {
		const char *device = option_text(&p->one[i].options, "device");
		char iface[SYSFS_TEXT];
		long long node = -1;

		if (is_pci(device))
			node = sysfs_number(-1, "/sys/bus/pci/devices/%.*s/numa_node",
				(int)strcspn(device, ","), device);
		else if (argument(device, "iface", iface) && strchr(iface, '/') == NULL)
			node = sysfs_number(-1, "/sys/class/net/%s/device/numa_node", iface);
		if (node >= 0 && node < 64)
			nodes |= UINT64_C(1) << node;
	}
	return nodes;
}

void ports_about(const struct port_info *i, char text[PORTS_ABOUT])
{
	char speed[32] = "speed unknown", vlan[24] = "", node[24] = "";

	if (i->speed_mbps >= 1000)
		snprintf(speed, sizeof(speed), "%u Gbit/s", i->speed_mbps / 1000);
	else if (i->speed_mbps > 0)
		snprintf(speed, sizeof(speed), "%u Mbit/s", i->speed_mbps);
	if (i->node >= 0)
		snprintf(node, sizeof(node), ", node %d", i->node);
	if (i->vlan > 0)
		snprintf(vlan, sizeof(vlan), ", VLAN %u", i->vlan);
	snprintf(text, PORTS_ABOUT, "%s%s, link %s, %s, MTU %u%s, queues %u, steering %s, %s, %s",
		i->driver, node, i->link_up ? "up" : "down", speed, i->mtu, vlan, i->queues,
		i->steering, i->zero_copy ? "zero copy where pages are not sealed" : "copies pages",
		i->udp_checksum ? "device checksums" : "software checksums");
}

int ports_open(struct ports *p, struct err *e)
{
	for (unsigned i = 0; i < p->n; i++) {
		struct ports_one *one = &p->one[i];
		char about[PORTS_ABOUT];
		struct port_config c;
		struct port_info info;
		int rc;

		fill(&c, one);
		rc = port_open(&one->port, &c, e);
		if (rc < 0) {
			one->port = NULL;
			return rc;
		}
		port_info(one->port, &info);
		ports_about(&info, about);
		log_info("port", "%s: %s", one->name, about);
		for (unsigned k = 0; k < info.nnotes; k++)
			log_info("port", "%s: %s", one->name, info.note[k]);
	}
	return 0;
}

void ports_close(struct ports *p)
{
	for (unsigned i = 0; i < p->n; i++) {
		port_close(p->one[i].port);
		p->one[i].port = NULL;
	}
}

static json_t *address(const struct sockaddr_storage *a)
{
	char text[PORT_ADDRESS_TEXT];

	if (a->ss_family == AF_UNSPEC)
		return json_null();
	port_address_text(a, text);
	return json_string(text);
}

static json_t *counts(const struct port *port)
{
	struct port_counts c;

	port_counts(port, &c);
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "rx_packets",
		(json_int_t)c.rx_packets, "rx_bytes", (json_int_t)c.rx_bytes, "tx_packets",
		(json_int_t)c.tx_packets, "tx_bytes", (json_int_t)c.tx_bytes, "rx_strange",
		(json_int_t)c.rx_strange, "rx_nobody", (json_int_t)c.rx_nobody, "rx_forwarded",
		(json_int_t)c.rx_forwarded, "rx_dropped", (json_int_t)c.rx_dropped, "tx_full",
		(json_int_t)c.tx_full, "neighbours", (json_int_t)c.neighbours);
}

json_t *ports_status(const struct ports *p)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < p->n; i++) {
		char about[PORTS_ABOUT], mac[18];
		json_t *notes = json_array();
		struct port_info f;

		if (p->one[i].port == NULL)
			continue;
		port_info(p->one[i].port, &f);
		ports_about(&f, about);
		snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", f.mac[0], f.mac[1],
			f.mac[2], f.mac[3], f.mac[4], f.mac[5]);
		for (unsigned k = 0; k < f.nnotes; k++)
			json_array_append_new(notes, json_string(f.note[k]));
		json_array_append_new(list,
			json_pack("{s:s, s:s, s:s, s:i, s:s, s:b, s:i, s:i, s:i, s:s, s:b, s:o, "
				  "s:o, s:o, s:o}",
				"name", f.name, "about", about, "driver", f.driver, "node", f.node,
				"mac", mac, "up", f.link_up, "speed_mbps", (int)f.speed_mbps, "mtu",
				(int)f.mtu, "queues", (int)f.queues, "steering", f.steering,
				"zero_copy", f.zero_copy, "ipv4", address(&f.ipv4), "ipv6",
				address(&f.ipv6), "counts", counts(p->one[i].port), "notes",
				notes));
	}
	return list;
}
