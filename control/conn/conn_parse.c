// SPDX-License-Identifier: BSD-3-Clause
// The pure reader of messages: what conn.c, the command line and the fuzzer trust with bytes from
// outside. No state, no system calls; the bounds are checked before anything is allocated.

#include "conn.h"

#include "wire.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

int64_t conn_parse(const uint8_t *buf, size_t len, enum conn_kind *kind, struct err *e)
{
	struct wire_reader r;
	uint16_t magic;
	uint8_t version, what;
	uint32_t bytes, most;

	if (len < CONN_HDR_BYTES)
		return 0;
	wire_read_init(&r, buf, CONN_HDR_BYTES);
	magic = wire_u16(&r);
	version = wire_u8(&r);
	what = wire_u8(&r);
	bytes = wire_u32(&r);
	if (magic != CONN_MAGIC)
		return err_set(e, EPROTO,
			"not a godwit message (it begins with 0x%04x): is the other side godwit?",
			magic);
	if (version != CONN_VERSION)
		return err_set(e, EPROTO,
			"message of version %u, this side speaks %u: install the same godwit on "
			"both sides",
			version, CONN_VERSION);
	if (what != CONN_JSON && what != CONN_BLOB)
		return err_set(e, EPROTO, "message of unknown kind %u", what);
	most = what == CONN_JSON ? CONN_JSON_BYTES : CONN_BLOB_BYTES;
	if (bytes > most)
		return err_set(e, EPROTO,
			"message of %" PRIu32 " bytes, at most %" PRIu32 " are allowed", bytes,
			most);
	*kind = (enum conn_kind)what;
	return len - CONN_HDR_BYTES < bytes ? 0 : (int64_t)CONN_HDR_BYTES + bytes;
}

size_t conn_body_bytes(const uint8_t hdr[CONN_HDR_BYTES])
{
	struct wire_reader r;

	wire_read_init(&r, hdr + CONN_HDR_BYTES - sizeof(uint32_t), sizeof(uint32_t));
	return wire_u32(&r);
}

void conn_put_header(uint8_t hdr[CONN_HDR_BYTES], enum conn_kind kind, size_t bytes)
{
	struct wire_writer w;

	wire_write_init(&w, hdr, CONN_HDR_BYTES);
	wire_put_u16(&w, CONN_MAGIC);
	wire_put_u8(&w, CONN_VERSION);
	wire_put_u8(&w, (uint8_t)kind);
	wire_put_u32(&w, (uint32_t)bytes);
}

/* The deepest nesting of brackets outside of strings. jansson recurses, so it is bounded first. */
static unsigned nesting(const uint8_t *buf, size_t len)
{
	unsigned depth = 0, most = 0;
	bool in_text = false;

	for (size_t i = 0; i < len; i++) {
		if (in_text) {
			if (buf[i] == '\\')
				i++;
			else if (buf[i] == '"')
				in_text = false;
			continue;
		}
		if (buf[i] == '"')
			in_text = true;
		else if (buf[i] == '{' || buf[i] == '[')
			most = ++depth > most ? depth : most;
		else if ((buf[i] == '}' || buf[i] == ']') && depth > 0)
			depth--;
	}
	return most;
}

json_t *conn_parse_json(const uint8_t *buf, size_t len, struct err *e)
{
	json_error_t why;
	json_t *msg;

	if (len > CONN_JSON_BYTES) {
		err_set(e, EPROTO, "JSON message of %zu bytes, at most %u are allowed", len,
			CONN_JSON_BYTES);
		return NULL;
	}
	if (nesting(buf, len) > CONN_JSON_DEPTH) {
		err_set(e, EPROTO, "JSON message nested deeper than %d", CONN_JSON_DEPTH);
		return NULL;
	}
	msg = json_loadb((const char *)buf, len, JSON_REJECT_DUPLICATES, &why);
	if (msg == NULL) {
		err_set(e, EPROTO, "message is no JSON: %s at byte %d", why.text, why.position);
		return NULL;
	}
	if (!json_is_object(msg)) {
		json_decref(msg);
		err_set(e, EPROTO, "message is JSON, but no object");
		return NULL;
	}
	return msg;
}
