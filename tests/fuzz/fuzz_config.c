// SPDX-License-Identifier: BSD-3-Clause
// The configuration file and addresses, from any bytes. libFuzzer runs it.

#include <stdlib.h>
#include <string.h>

#include "address.h"
#include "config.h"
#include "cores.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	char host[ADDRESS_HOST], port[6], *text = malloc(bytes + 1);
	static struct ports ports;
	struct option_set options;
	struct cores cores;
	cpu_set_t all;
	struct err e;

	ports.n = 0;
	option_init(&options, option_godwitd, OPTION_FILE);
	if (config_parse(&options, &ports, "fuzz", (const char *)data, bytes, &e) == 0)
		ports_check(&ports, &e);
	if (text == NULL)
		return 0;
	memcpy(text, data, bytes);
	text[bytes] = '\0';
	if (address_split(text, host, port, &e) == 0 && (strlen(host) >= ADDRESS_HOST || !port[0]))
		abort();
	memset(&all, 0xff, sizeof(all));
	cores_choose(&cores, text, &all, "1-3", &all, &e);
	free(text);
	return 0;
}
