// SPDX-License-Identifier: BSD-3-Clause
// Bounded little-endian reading and writing. Run by any thread, polling cores too; no state.

#include "wire.h"

#include <endian.h>
#include <string.h>

void wire_read_init(struct wire_reader *r, const void *buf, size_t len)
{
	r->at = buf;
	r->end = (const uint8_t *)buf + len;
	r->bad = false;
}

void wire_bytes(struct wire_reader *r, void *dst, size_t n)
{
	if (r->bad || n > wire_left(r)) {
		memset(dst, 0, n);
		r->bad = true;
		return;
	}
	memcpy(dst, r->at, n);
	r->at += n;
}

uint8_t wire_u8(struct wire_reader *r)
{
	uint8_t v;

	wire_bytes(r, &v, sizeof(v));
	return v;
}

uint16_t wire_u16(struct wire_reader *r)
{
	uint16_t v;

	wire_bytes(r, &v, sizeof(v));
	return le16toh(v);
}

uint32_t wire_u32(struct wire_reader *r)
{
	uint32_t v;

	wire_bytes(r, &v, sizeof(v));
	return le32toh(v);
}

uint64_t wire_u64(struct wire_reader *r)
{
	uint64_t v;

	wire_bytes(r, &v, sizeof(v));
	return le64toh(v);
}

void wire_text(struct wire_reader *r, char *dst, size_t n)
{
	wire_bytes(r, dst, n);
	if (n > 0)
		dst[n - 1] = '\0';
}

void wire_write_init(struct wire_writer *w, void *buf, size_t len)
{
	w->at = buf;
	w->end = (uint8_t *)buf + len;
	w->bad = false;
}

void wire_put_bytes(struct wire_writer *w, const void *src, size_t n)
{
	if (w->bad || n > (size_t)(w->end - w->at)) {
		w->bad = true;
		return;
	}
	memcpy(w->at, src, n);
	w->at += n;
}

void wire_put_u8(struct wire_writer *w, uint8_t v)
{
	wire_put_bytes(w, &v, sizeof(v));
}

void wire_put_u16(struct wire_writer *w, uint16_t v)
{
	v = htole16(v);
	wire_put_bytes(w, &v, sizeof(v));
}

void wire_put_u32(struct wire_writer *w, uint32_t v)
{
	v = htole32(v);
	wire_put_bytes(w, &v, sizeof(v));
}

void wire_put_u64(struct wire_writer *w, uint64_t v)
{
	v = htole64(v);
	wire_put_bytes(w, &v, sizeof(v));
}

void wire_put_text(struct wire_writer *w, const char *text, size_t n)
{
	size_t len = strnlen(text, n > 0 ? n - 1 : 0);

	if (w->bad || n > (size_t)(w->end - w->at)) {
		w->bad = true;
		return;
	}
	memset(w->at, 0, n);
	memcpy(w->at, text, len);
	w->at += n;
}
