// SPDX-License-Identifier: BSD-3-Clause
// Which ports of two hosts can talk to each other. Run by the control loop.

#include "offer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const families[] = {"ipv4", "ipv6"};

static const char *text(const json_t *o, const char *key)
{
	const char *t = json_string_value(json_object_get(o, key));

	return t != NULL ? t : "";
}

json_t *offer_make(const struct ports *p)
{
	json_t *list = ports_status(p), *one;
	size_t i;

	json_array_foreach(list, i, one)
	{
		json_t *said = json_object();
		static const char *const keys[] = {"name", "up", "mtu", "ipv4", "ipv6"};

		for (size_t k = 0; k < sizeof(keys) / sizeof(keys[0]); k++)
			json_object_set(said, keys[k], json_object_get(one, keys[k]));
		json_array_set_new(list, i, said);
	}
	return list;
}

/* A queue each; those of a key are the first 16. */
static const char digits[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+-";
_Static_assert(sizeof(digits) == PORT_QUEUES + 1, "each queue has a digit");

json_t *offer_make_spread(const struct port_rss *r)
{
	char key[2 * PORT_RSS_KEY], queues[PORT_RETA];

	if (r == NULL)
		return NULL;
	for (unsigned i = 0; i < r->key_bytes; i++) {
		key[2 * i] = digits[r->key[i] >> 4];
		key[2 * i + 1] = digits[r->key[i] & 15];
	}
	for (unsigned i = 0; i < r->entries; i++)
		queues[i] = digits[r->queue[i] % PORT_QUEUES];
	return json_pack("{s:s%, s:s%}", "key", key, (size_t)2 * r->key_bytes, "queues", queues,
		(size_t)r->entries);
}

/* One of the first so many digits; -1: it is none. */
static int digit(char c, unsigned base)
{
	const char *at = c != '\0' ? strchr(digits, c) : NULL;

	return at != NULL && (size_t)(at - digits) < base ? (int)(at - digits) : -1;
}

int offer_read_spread(struct port_rss *r, const json_t *told, struct err *e)
{
	const char *key = text(told, "key"), *queues = text(told, "queues");
	size_t nkey = strlen(key), nqueues = strlen(queues);
	bool good = nkey % 2 == 0 && nkey >= (size_t)2 * PORT_RSS_LEAST &&
		    nkey <= (size_t)2 * PORT_RSS_KEY && nqueues > 0 && nqueues <= PORT_RETA;

	memset(r, 0, sizeof(*r));
	for (size_t i = 0; good && i < nkey; i++) {
		good = digit(key[i], 16) >= 0;
		r->key[i / 2] = (uint8_t)(r->key[i / 2] << 4 | (digit(key[i], 16) & 15));
	}
	for (size_t i = 0; good && i < nqueues; i++) {
		good = digit(queues[i], PORT_QUEUES) >= 0;
		r->queue[i] = (uint8_t)digit(queues[i], PORT_QUEUES);
	}
	if (!good)
		return err_set(e, EPROTO,
			"the other daemon's word on how its device spreads packets is no key and "
			"table");
	r->key_bytes = (uint8_t)(nkey / 2);
	r->entries = (uint16_t)nqueues;
	r->udp4 = r->udp6 = true;
	return 0;
}

/* Do the first bits of both agree? */
static bool same_bits(const uint8_t *a, const uint8_t *b, unsigned bits)
{
	unsigned whole = bits / 8, rest = bits % 8;

	if (memcmp(a, b, whole) != 0)
		return false;
	return rest == 0 || (a[whole] ^ b[whole]) >> (8 - rest) == 0;
}

/* prefix: "192.0.2.7/24", as port_config_check() has passed it. */
static bool inside(int family, const char *prefix, const char *address)
{
	char base[PORT_ADDRESS_TEXT];
	uint8_t a[16], b[16];
	const char *slash = strchr(prefix, '/');

	if (slash == NULL || (size_t)(slash - prefix) >= sizeof(base))
		return false;
	snprintf(base, sizeof(base), "%.*s", (int)(slash - prefix), prefix);
	return inet_pton(family, base, a) == 1 && inet_pton(family, address, b) == 1 &&
	       same_bits(a, b, (unsigned)strtoul(slash + 1, NULL, 10));
}

static bool reaches(const struct ports_one *one, unsigned family, const char *address)
{
	char gateway[32];

	if (!option_given(&one->options, families[family]))
		return false;
	snprintf(gateway, sizeof(gateway), "%s-gateway", families[family]);
	return option_given(&one->options, gateway) ||
	       inside(family == 0 ? AF_INET : AF_INET6,
		       option_text(&one->options, families[family]), address);
}

static int take(struct offer_choice *c, const struct ports_one *one, const struct port_info *info,
	const json_t *their, unsigned family, struct err *e)
{
	const char *name = text(their, "name"), *address;
	json_int_t mtu = json_integer_value(json_object_get(their, "mtu"));

	address = text(their, families[family]);
	if (strlen(name) >= sizeof(c->there) || name[0] == '\0' ||
		strlen(address) >= sizeof(c->reached) || mtu < PORT_MTU_LEAST ||
		mtu > PORT_MTU_MOST)
		return err_set(e, EPROTO, "the target's daemon describes a port that can't be");
	c->port = one->port;
	memcpy(c->name, one->name, sizeof(c->name));
	strcpy(c->there, name);
	strcpy(c->reached, address);
	port_address_text(family == 0 ? &info->ipv4 : &info->ipv6, c->address);
	c->mtu = info->mtu < (unsigned)mtu ? info->mtu : (unsigned)mtu;
	return 0;
}

int offer_choose(
	struct offer_choice *c, const struct ports *here, const json_t *theirs, struct err *e)
{
	const json_t *their;
	size_t k;

	memset(c, 0, sizeof(*c));
	if (here->n == 0)
		return err_set(e, ENODEV,
			"this daemon has no network port; give it one in its configuration file, "
			"see godwit.conf(5)");
	if (json_array_size(theirs) == 0)
		return err_set(e, ENODEV,
			"the target's daemon has no network port; give it one in its "
			"configuration file, see godwit.conf(5)");
	err_set(e, EHOSTUNREACH,
		"no port here reaches one of the target's: both need IPv4 or IPv6 addresses of one "
		"network, or a gateway; `godwit status` lists them");
	for (unsigned i = 0; i < here->n; i++) {
		struct port_info info;

		port_info(here->one[i].port, &info);
		json_array_foreach(theirs, k, their)
		{
			for (unsigned f = 0; f < 2; f++) {
				const char *address = text(their, families[f]);

				if (address[0] == '\0' || !reaches(&here->one[i], f, address))
					continue;
				if (!info.link_up)
					err_set(e, EHOSTUNREACH,
						"port %s here has no link; look at the cable, the "
						"switch, or the device's other end",
						here->one[i].name);
				else if (!json_is_true(json_object_get(their, "up")))
					err_set(e, EHOSTUNREACH,
						"port %.60s of the target has no link; look at the "
						"cable, the switch, or the device's other end",
						text(their, "name"));
				else
					return take(c, &here->one[i], &info, their, f, e);
			}
		}
	}
	return -e->errnum;
}
