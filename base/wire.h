/* SPDX-License-Identifier: BSD-3-Clause */
/* The one bounded reader and writer. Every byte from outside passes through it.
 * Fields are little-endian. A read past the end yields zeros and makes the reader bad; check once,
 * at the end, with wire_ok(). */
#ifndef GODWIT_BASE_WIRE_H
#define GODWIT_BASE_WIRE_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct wire_reader {
	const uint8_t *at;
	const uint8_t *end;
	bool bad;
};

struct wire_writer {
	uint8_t *at;
	uint8_t *end;
	bool bad;
};

void wire_read_init(struct wire_reader *r, const void *buf, size_t len);
/* Copies n bytes out; zero-fills dst where the input is too short. */
void wire_bytes(struct wire_reader *r, void *dst, size_t n);

/* What follows stands here because a polling core reads and writes some twenty fields a packet:
 * inline, each is a move. */
static inline bool wire_has(struct wire_reader *r, size_t n)
{
	r->bad |= n > (size_t)(r->end - r->at);
	return !r->bad;
}

static inline uint8_t wire_u8(struct wire_reader *r)
{
	uint8_t v = 0;

	if (wire_has(r, sizeof(v))) {
		memcpy(&v, r->at, sizeof(v));
		r->at += sizeof(v);
	}
	return v;
}

static inline uint16_t wire_u16(struct wire_reader *r)
{
	uint16_t v = 0;

	if (wire_has(r, sizeof(v))) {
		memcpy(&v, r->at, sizeof(v));
		r->at += sizeof(v);
	}
	return le16toh(v);
}

static inline uint32_t wire_u32(struct wire_reader *r)
{
	uint32_t v = 0;

	if (wire_has(r, sizeof(v))) {
		memcpy(&v, r->at, sizeof(v));
		r->at += sizeof(v);
	}
	return le32toh(v);
}

static inline uint64_t wire_u64(struct wire_reader *r)
{
	uint64_t v = 0;

	if (wire_has(r, sizeof(v))) {
		memcpy(&v, r->at, sizeof(v));
		r->at += sizeof(v);
	}
	return le64toh(v);
}

/* A text field of n bytes, NUL-padded on the wire; dst holds n bytes and always ends in NUL. */
void wire_text(struct wire_reader *r, char *dst, size_t n);

static inline size_t wire_left(const struct wire_reader *r)
{
	return (size_t)(r->end - r->at);
}

/* No read went past the end. */
static inline bool wire_ok(const struct wire_reader *r)
{
	return !r->bad;
}

/* No read went past the end, and nothing is left over. */
static inline bool wire_done(const struct wire_reader *r)
{
	return !r->bad && r->at == r->end;
}

void wire_write_init(struct wire_writer *w, void *buf, size_t len);
void wire_put_bytes(struct wire_writer *w, const void *src, size_t n);

static inline bool wire_fits(struct wire_writer *w, size_t n)
{
	w->bad |= n > (size_t)(w->end - w->at);
	return !w->bad;
}

static inline void wire_put_u8(struct wire_writer *w, uint8_t v)
{
	if (wire_fits(w, sizeof(v))) {
		memcpy(w->at, &v, sizeof(v));
		w->at += sizeof(v);
	}
}

static inline void wire_put_u16(struct wire_writer *w, uint16_t v)
{
	v = htole16(v);
	if (wire_fits(w, sizeof(v))) {
		memcpy(w->at, &v, sizeof(v));
		w->at += sizeof(v);
	}
}

static inline void wire_put_u32(struct wire_writer *w, uint32_t v)
{
	v = htole32(v);
	if (wire_fits(w, sizeof(v))) {
		memcpy(w->at, &v, sizeof(v));
		w->at += sizeof(v);
	}
}

static inline void wire_put_u64(struct wire_writer *w, uint64_t v)
{
	v = htole64(v);
	if (wire_fits(w, sizeof(v))) {
		memcpy(w->at, &v, sizeof(v));
		w->at += sizeof(v);
	}
}

/* A text field of n bytes; longer text is cut at n - 1, the rest is zeros. */
void wire_put_text(struct wire_writer *w, const char *text, size_t n);

/* Bytes written since init into buf. */
static inline size_t wire_len(const struct wire_writer *w, const void *buf)
{
	return (size_t)(w->at - (const uint8_t *)buf);
}

#endif
