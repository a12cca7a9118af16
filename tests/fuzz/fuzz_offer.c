// SPDX-License-Identifier: BSD-3-Clause
// What the target's daemon says of its ports, from any texts and numbers. libFuzzer runs it.

#include <stdlib.h>
#include <string.h>

#include "../unit/control/stub_port.h"
#include "config.h"
#include "offer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* A text up to the next NUL. */
static json_t *piece(const uint8_t **at, const uint8_t *end)
{
	const uint8_t *from = *at, *to = memchr(from, 0, (size_t)(end - from));

	if (to == NULL)
		to = end;
	*at = to < end ? to + 1 : end;
	return json_stringn((const char *)from, (size_t)(to - from));
}

/* Two ports out of the bytes: JSON by itself a fuzzer hardly ever finds. */
static json_t *make(const uint8_t *data, size_t bytes)
{
	static const char *const keys[] = {"name", "ipv4", "ipv6"};
	const uint8_t *at = data, *end = data + bytes;
	json_t *list = json_array();

	for (unsigned i = 0; i < 2 && end - at > 3; i++) {
		json_t *port = json_pack("{s:b, s:i}", "up", at[0] & 1, "mtu", at[1] << 8 | at[2]);

		at += 3;
		for (unsigned k = 0; k < 3; k++) {
			json_t *text = piece(&at, end);

			if (text != NULL) /* NULL: no UTF-8, which no reader of JSON lets in */
				json_object_set_new(port, keys[k], text);
		}
		json_array_append_new(list, port);
	}
	return list;
}

static json_t *make_spread(const uint8_t *data, size_t bytes)
{
	const uint8_t *at = data, *end = data + bytes;
	json_t *key = piece(&at, end), *queues = piece(&at, end);

	return json_pack("{s:o*, s:o*}", "key", key, "queues", queues);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	static const char text[] = "[port a]\ndevice = x\nipv4 = 192.0.2.1/9\nipv4-gateway = "
				   "192.0.2.2\nipv6 = ::1/1\n";
	static struct port stub = {.info = {.mtu = 9000, .link_up = true, .steering = "rss"}};
	static struct ports ports;
	struct option_set options;
	struct offer_choice c;
	struct err e;
	struct port_rss rss;
	json_t *offer;

	if (ports.n == 0) {
		option_init(&options, option_godwitd, OPTION_FILE);
		if (config_parse(&options, &ports, "fuzz", text, strlen(text), &e) < 0)
			abort();
		ports.one[0].port = &stub;
	}
	offer = make(data, bytes);
	if (offer_choose(&c, &ports, offer, &e) == 0 &&
		(c.port != &stub || c.mtu < PORT_MTU_LEAST || c.mtu > 9000 ||
			strlen(c.there) >= PORT_NAME || strlen(c.reached) >= PORT_ADDRESS_TEXT))
		abort();
	json_decref(offer);
	offer = make_spread(data, bytes);
	if (offer_read_spread(&rss, offer, &e) == 0 &&
		(rss.entries == 0 || rss.entries > PORT_RETA || rss.key_bytes < PORT_RSS_LEAST))
		abort();
	json_decref(offer);
	return 0;
}
