// SPDX-License-Identifier: BSD-3-Clause
// Addresses of a port, as text and as bytes, and who the next hop is. Run by control threads.

#include "port_impl.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool parse_plain(struct udp_addr *a, const char *text, bool v6)
{
	memset(a, 0, sizeof(*a));
	a->v6 = v6;
	return inet_pton(v6 ? AF_INET6 : AF_INET, text, a->ip) == 1;
}

// "ADDRESS/BITS"
static int parse_prefix(struct udp_addr *a, uint8_t *bits, const char *text, bool v6, struct err *e)
{
	const char *slash = strchr(text, '/');
	unsigned most = v6 ? 128 : 32;
	char plain[INET6_ADDRSTRLEN], *end;
	unsigned long n;

	if (slash == NULL || (size_t)(slash - text) >= sizeof(plain) || slash[1] < '0' ||
		slash[1] > '9')
		return err_set(e, EINVAL,
			"%s is no address with a prefix length: write it as in %s", text,
			v6 ? "2001:db8::7/64" : "192.0.2.7/24");
	snprintf(plain, sizeof(plain), "%.*s", (int)(slash - text), text);
	n = strtoul(slash + 1, &end, 10);
	if (*end != 0 || n == 0 || n > most || !parse_plain(a, plain, v6) ||
		(v6 ? a->ip[0] == 0xff : a->ip[0] >= 224 || a->ip[0] == 0))
		return err_set(e, EINVAL, "%s is no IPv%c address of a host with 1 to %u bits",
			text, v6 ? '6' : '4', most);
	*bits = (uint8_t)n;
	return 0;
}

static bool same_prefix(const struct udp_addr *a, const struct udp_addr *b, unsigned bits)
{
	unsigned bytes = bits / 8, rest = bits % 8;

	return memcmp(a->ip, b->ip, bytes) == 0 &&
	       (rest == 0 || (a->ip[bytes] ^ b->ip[bytes]) >> (8 - rest) == 0);
}

static int parse_gateway(const char *name, struct udp_addr *g, bool *has, const char *text, bool v6,
	const struct udp_addr *own, const uint8_t *bits, struct err *e)
{
	*has = text != NULL;
	if (text == NULL)
		return 0;
	if (own == NULL)
		return err_set(e, EINVAL, "port %s has a gateway %s, but no address of its kind",
			name, text);
	if (!parse_plain(g, text, v6))
		return err_set(e, EINVAL, "port %s: gateway %s is no IPv%c address", name, text,
			v6 ? '6' : '4');
	if (!same_prefix(own, g, *bits) && !(v6 && g->ip[0] == 0xfe && (g->ip[1] & 0xc0) == 0x80))
		return err_set(e, EINVAL,
			"port %s: gateway %s is outside of the prefix of its own address", name,
			text);
	return 0;
}

int port_addresses(struct port *p, const struct port_config *c, struct err *e)
{
	struct udp_own *own = &p->own;
	int rc = 0;

	own->has4 = c->ipv4 != NULL;
	own->has6 = c->ipv6 != NULL;
	if (!own->has4 && !own->has6)
		return err_set(
			e, EINVAL, "port %s has no address: give it an IPv4 or IPv6 one", c->name);
	if (own->has4)
		rc = parse_prefix(&own->ip4, &p->prefix4, c->ipv4, false, e);
	if (rc == 0 && own->has6)
		rc = parse_prefix(&own->ip6, &p->prefix6, c->ipv6, true, e);
	if (rc == 0)
		rc = parse_gateway(c->name, &p->gateway4, &p->has_gateway4, c->ipv4_gateway, false,
			own->has4 ? &own->ip4 : NULL, &p->prefix4, e);
	if (rc == 0)
		rc = parse_gateway(c->name, &p->gateway6, &p->has_gateway6, c->ipv6_gateway, true,
			own->has6 ? &own->ip6 : NULL, &p->prefix6, e);
	own->vlan = (uint16_t)c->vlan;
	return rc;
}

int port_next_hop(const struct port *p, const struct udp_addr *peer, struct udp_addr *hop)
{
	const struct udp_addr *own = peer->v6 ? &p->own.ip6 : &p->own.ip4;

	if (peer->v6 ? !p->own.has6 : !p->own.has4)
		return -EAFNOSUPPORT;
	*hop = *peer;
	if (same_prefix(own, peer, peer->v6 ? p->prefix6 : p->prefix4))
		return 0;
	if (peer->v6 ? !p->has_gateway6 : !p->has_gateway4)
		return -ENETUNREACH;
	*hop = peer->v6 ? p->gateway6 : p->gateway4;
	return 0;
}

int port_addr_of(struct udp_addr *a, uint16_t *udp_port, const struct sockaddr_storage *s)
{
	const struct sockaddr_in *s4 = (const void *)s;
	const struct sockaddr_in6 *s6 = (const void *)s;

	memset(a, 0, sizeof(*a));
	if (s->ss_family == AF_INET) {
		memcpy(a->ip, &s4->sin_addr, 4);
		*udp_port = ntohs(s4->sin_port);
	} else if (s->ss_family == AF_INET6) {
		a->v6 = true;
		memcpy(a->ip, &s6->sin6_addr, 16);
		*udp_port = ntohs(s6->sin6_port);
	} else {
		return -EINVAL;
	}
	return 0;
}

int port_address_parse(struct sockaddr_storage *a, const char *text, uint16_t udp_port)
{
	struct sockaddr_in *s4 = (void *)a;
	struct sockaddr_in6 *s6 = (void *)a;

	memset(a, 0, sizeof(*a));
	if (inet_pton(AF_INET, text, &s4->sin_addr) == 1) {
		s4->sin_family = AF_INET;
		s4->sin_port = htons(udp_port);
		return 0;
	}
	if (inet_pton(AF_INET6, text, &s6->sin6_addr) != 1)
		return -EINVAL;
	s6->sin6_family = AF_INET6;
	s6->sin6_port = htons(udp_port);
	return 0;
}

void port_address_text(const struct sockaddr_storage *a, char text[PORT_ADDRESS_TEXT])
{
	const struct sockaddr_in *s4 = (const void *)a;
	const struct sockaddr_in6 *s6 = (const void *)a;

	text[0] = 0;
	if (a->ss_family == AF_INET)
		inet_ntop(AF_INET, &s4->sin_addr, text, PORT_ADDRESS_TEXT);
	else if (a->ss_family == AF_INET6)
		inet_ntop(AF_INET6, &s6->sin6_addr, text, PORT_ADDRESS_TEXT);
}
