// SPDX-License-Identifier: BSD-3-Clause
// Bounded little-endian reading and writing. Run by any thread, polling cores too; no state.

#include "wire.h"

#include <string.h>

void wire_read_init(struct wire_reader *r, const void *buf, size_t len)
{
	r->at = buf;
	r->end = (const uint8_t *)buf + len;
	r->bad = false;
}

void wire_bytes(struct wire_reader *r, void *dst, size_t n)
{
	if (!wire_has(r, n)) {
		memset(dst, 0, n);
		return;
	}
	memcpy(dst, r->at, n);
	r->at += n;
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
	if (!wire_fits(w, n))
		return;
	memcpy(w->at, src, n);
	w->at += n;
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
