// SPDX-License-Identifier: BSD-3-Clause
// The format of saved device state. Run by the agent's thread; pure but for its buffer.
// Invariant: reading is safe for any bytes; nothing is installed before all was checked.

#include "state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC   UINT64_C(0x4554415453574f47)
#define VERSION 1u

// CRC32C, four bits a step: state is some KiB, so a small table does.
static uint32_t crc32c(const uint8_t *p, size_t n)
{
	static const uint32_t table[16] = {0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1,
		0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d, 0x82f63b78, 0x92a8fc17, 0xa24bb5a6,
		0xb21572c9, 0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75};
	uint32_t crc = ~0u;

	for (size_t i = 0; i < n; i++) {
		crc ^= p[i];
		crc = (crc >> 4) ^ table[crc & 15];
		crc = (crc >> 4) ^ table[crc & 15];
	}
	return ~crc;
}

static void put_shape(struct wire_writer *w, const struct layout *l)
{
	wire_put_u32(w, LAYOUT_SLOTS);
	wire_put_u64(w, l->used_bytes);
	for (unsigned i = 0; i < LAYOUT_FILES; i++)
		wire_put_u64(w, l->file_bytes[i]);
	for (unsigned i = 0; i < LAYOUT_SLOTS; i++) {
		wire_put_u64(w, l->slots[i].file);
		wire_put_u64(w, l->slots[i].gpa);
		wire_put_u64(w, l->slots[i].offset);
		wire_put_u64(w, l->slots[i].bytes);
	}
}

#define SHAPE_BYTES (4 + 8 + 8 * LAYOUT_FILES + 32 * LAYOUT_SLOTS)

int state_out_init(struct state_out *s, const struct layout *l, uint32_t kind)
{
	s->buf = malloc(STATE_MAX_BYTES);
	if (s->buf == NULL)
		return -ENOMEM;
	wire_write_init(&s->w, s->buf, STATE_MAX_BYTES);
	wire_put_u64(&s->w, MAGIC);
	wire_put_u32(&s->w, VERSION);
	wire_put_u32(&s->w, kind);
	wire_put_u32(&s->w, l->nvcpus);
	put_shape(&s->w, l);
	return 0;
}

void state_put(struct state_out *s, uint32_t type, uint32_t vcpu, const void *p, size_t len)
{
	wire_put_u32(&s->w, type);
	wire_put_u32(&s->w, vcpu);
	wire_put_u32(&s->w, (uint32_t)len);
	wire_put_bytes(&s->w, p, len);
}

int64_t state_out_end(struct state_out *s)
{
	wire_put_u32(&s->w, crc32c(s->buf, wire_len(&s->w, s->buf)));
	return s->w.bad ? -E2BIG : (int64_t)wire_len(&s->w, s->buf);
}

void state_out_fini(struct state_out *s)
{
	free(s->buf);
	s->buf = NULL;
}

static int check_sections(const struct state_in *s, struct err *e)
{
	struct wire_reader r;

	wire_read_init(&r, s->buf + s->at, s->end - s->at);
	while (wire_left(&r) > 0 && wire_ok(&r)) {
		uint32_t len;

		wire_u32(&r);
		wire_u32(&r);
		len = wire_u32(&r);
		if (len > wire_left(&r))
			r.bad = true;
		else
			r.at += len;
	}
	return wire_ok(&r) ? 0 : err_set(e, EPROTO, "device state: a section reaches past the end");
}

int state_in_init(struct state_in *s, const void *buf, size_t len, const struct layout *l,
	uint32_t kind, struct err *e)
{
	uint8_t shape[SHAPE_BYTES], ours[SHAPE_BYTES];
	struct wire_reader r;
	struct wire_writer w;
	uint32_t version, got;
	uint64_t magic;

	if (len > STATE_MAX_BYTES || len < 4)
		return err_set(e, EPROTO, "device state has %zu bytes: damaged or no state", len);
	wire_read_init(&r, buf, len - 4);
	magic = wire_u64(&r);
	version = wire_u32(&r);
	got = wire_u32(&r);
	s->nvcpus = wire_u32(&r);
	wire_bytes(&r, shape, sizeof(shape));
	if (!wire_ok(&r) || magic != MAGIC)
		return err_set(e, EPROTO, "device state is damaged or not of godwit-vm");
	if (version != VERSION)
		return err_set(e, ENOTSUP,
			"device state has version %u, this program knows %u: run the same on both "
			"hosts",
			version, VERSION);
	s->buf = buf;
	s->at = len - 4 - wire_left(&r);
	s->end = len - 4;
	wire_read_init(&r, s->buf + s->end, 4);
	if (wire_u32(&r) != crc32c(buf, s->end))
		return err_set(e, EPROTO, "device state is damaged: its checksum does not match");
	if (got != kind)
		return err_set(e, ENOTSUP, "the guest is a %s guest; start this program %s --soft",
			got == STATE_SOFT ? "software" : "KVM",
			got == STATE_SOFT ? "with" : "without");
	wire_write_init(&w, ours, sizeof(ours));
	put_shape(&w, l);
	if (memcmp(shape, ours, sizeof(ours)) != 0)
		return err_set(e, EINVAL,
			"the guest's memory is laid out differently: give the same --memory and "
			"--nominal on both hosts");
	if (s->nvcpus < 1 || s->nvcpus > GUEST_VCPUS)
		return err_set(e, EPROTO, "device state is of %u vCPUs, 1 to %u are possible",
			s->nvcpus, GUEST_VCPUS);
	return check_sections(s, e);
}

const void *state_find(const struct state_in *s, uint32_t type, uint32_t vcpu, size_t *len)
{
	struct wire_reader r;

	wire_read_init(&r, s->buf + s->at, s->end - s->at);
	while (wire_left(&r) > 0) {
		uint32_t t = wire_u32(&r), v = wire_u32(&r);

		*len = wire_u32(&r);
		if (t == type && v == vcpu)
			return r.at;
		r.at += *len;
	}
	return NULL;
}

int state_get(const struct state_in *s, uint32_t type, uint32_t vcpu, void *dst, size_t len,
	struct err *e)
{
	size_t got = 0;
	const void *p = state_find(s, type, vcpu, &got);

	if (p == NULL || got != len)
		return err_set(e, EPROTO, "device state: section %u has %zu bytes, %zu are needed",
			type, p == NULL ? 0 : got, len);
	memcpy(dst, p, len);
	return 0;
}
