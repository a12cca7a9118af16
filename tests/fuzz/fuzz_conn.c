// SPDX-License-Identifier: BSD-3-Clause
// Control messages, the balloon's bitmap, preambles and the fields of API requests, from any bytes.
// libFuzzer runs it.

#include <stdlib.h>

#include "carry.h"
#include "command.h"
#include "conn.h"
#include "listen.h"
#include "option.h"

#define BALLOON_CHUNKS 64u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void read_request(const uint8_t *text, size_t bytes)
{
	struct option_set options;
	struct err e;
	json_t *msg = conn_parse_json(text, bytes, &e);
	const char *what = json_string_value(json_object_get(msg, "do"));
	enum command c = what ? command_find(what) : COMMAND_MIGRATE;

	if (msg != NULL) {
		option_init(&options, option_godwit, 1u << c);
		if (option_from_json(&options, msg, &e) == 0)
			option_complete(&options, &e);
	}
	json_decref(msg);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	enum conn_kind kind = CONN_BLOB;
	uint64_t balloon[BALLOON_CHUNKS] = {0};
	struct preamble p;
	struct err e;
	size_t at = 0;
	int64_t n;

	while ((n = conn_parse(data + at, bytes - at, &kind, &e)) > 0) {
		if (n < CONN_HDR_BYTES || (size_t)n > bytes - at)
			abort();
		if (kind == CONN_JSON)
			read_request(data + at + CONN_HDR_BYTES, (size_t)n - CONN_HDR_BYTES);
		else
			carry_take(data + at + CONN_HDR_BYTES, (size_t)n - CONN_HDR_BYTES, balloon,
				BALLOON_CHUNKS, &e);
		at += (size_t)n;
	}
	read_request(data, bytes);
	if (bytes >= PREAMBLE_BYTES)
		preamble_decode(&p, data, &e);
	return 0;
}
