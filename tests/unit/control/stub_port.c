// SPDX-License-Identifier: BSD-3-Clause
// A stand-in for DPDK's ports: none can be opened; a test may say that one is.

#include "stub_port.h"

#include <string.h>

int port_config_check(const struct port_config *c, struct err *e)
{
	return c->ipv4 == NULL && c->ipv6 == NULL ? err_set(e, 22, "the stub wants an address") : 0;
}

int port_open(struct port **p, const struct port_config *c, struct err *e)
{
	*p = NULL;
	return err_set(e, 95, "port %s: the stub has no devices", c->name);
}

void port_close(struct port *p)
{
	(void)p;
}

void port_info(struct port *p, struct port_info *i)
{
	*i = p->info;
}

void port_counts(const struct port *p, struct port_counts *c)
{
	(void)p;
	memset(c, 0, sizeof(*c));
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
