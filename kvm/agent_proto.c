// SPDX-License-Identifier: BSD-3-Clause
// The agent protocol: bytes to messages and back. Run by the control loop in the daemon and by the
// agent's thread in the VMM; no state. Whatever comes in, decoding ends in a checked message or in
// -EPROTO with a sentence (law 7).

#include "agent_proto.h"

#include "wire.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define VIEW_WIRE_BYTES 32u

_Static_assert(REGION_NAME + REGION_VIEWS * VIEW_WIRE_BYTES <= AGENT_BODY_BYTES,
	"a region with all its views fits one message");

size_t agent_encode(const struct agent_msg *m, uint8_t buf[AGENT_MSG_BYTES])
{
	size_t body = m->body_bytes < AGENT_BODY_BYTES ? m->body_bytes : AGENT_BODY_BYTES;
	struct wire_writer w;

	wire_write_init(&w, buf, AGENT_MSG_BYTES);
	wire_put_u32(&w, AGENT_MAGIC);
	wire_put_u16(&w, AGENT_VERSION);
	wire_put_u16(&w, m->type);
	wire_put_u32(&w, m->seq);
	wire_put_u32(&w, (uint32_t)m->status);
	wire_put_u64(&w, m->a);
	wire_put_u64(&w, m->b);
	wire_put_bytes(&w, m->body, body);
	return wire_len(&w, buf);
}

int agent_decode(struct agent_msg *m, const uint8_t *buf, size_t len, struct err *e)
{
	struct wire_reader r;
	uint32_t magic;
	uint16_t version;
	unsigned type;

	wire_read_init(&r, buf, len);
	magic = wire_u32(&r);
	version = wire_u16(&r);
	m->type = wire_u16(&r);
	m->seq = wire_u32(&r);
	m->status = (int32_t)wire_u32(&r);
	m->a = wire_u64(&r);
	m->b = wire_u64(&r);
	m->body_bytes = 0;
	if (!wire_ok(&r))
		return err_set(e, EPROTO, "agent message of %zu bytes is too short", len);
	if (magic != AGENT_MAGIC)
		return err_set(e, EPROTO, "not an agent message (magic %08x)", magic);
	if (version != AGENT_VERSION)
		return err_set(e, EPROTO,
			"the other side speaks agent protocol %u, this one %u; use a godwitd and a "
			"libgodwit of one release",
			version, AGENT_VERSION);
	type = m->type & ~AGENT_ANSWER;
	if (type < AGENT_HELLO || type >= AGENT_TYPES)
		return err_set(e, EPROTO, "agent message of unknown type %u", m->type);
	if (wire_left(&r) > AGENT_BODY_BYTES)
		return err_set(e, EPROTO, "agent message of %zu bytes is too long", len);
	m->body_bytes = wire_left(&r);
	wire_bytes(&r, m->body, m->body_bytes);
	return 0;
}

void agent_put_hello(struct agent_msg *m, const struct agent_hello *h)
{
	struct wire_writer w;

	wire_write_init(&w, m->body, sizeof(m->body));
	wire_put_text(&w, h->name, sizeof(h->name));
	wire_put_text(&w, h->tracker, sizeof(h->tracker));
	wire_put_text(&w, h->mode, sizeof(h->mode));
	wire_put_text(&w, h->hypervisor, sizeof(h->hypervisor));
	wire_put_u32(&w, h->nregions);
	wire_put_u32(&w, h->pid);
	wire_put_u64(&w, h->granule_bytes);
	m->body_bytes = wire_len(&w, m->body);
}

int agent_get_hello(const struct agent_msg *m, struct agent_hello *h, struct err *e)
{
	struct wire_reader r;

	wire_read_init(&r, m->body, m->body_bytes);
	wire_text(&r, h->name, sizeof(h->name));
	wire_text(&r, h->tracker, sizeof(h->tracker));
	wire_text(&r, h->mode, sizeof(h->mode));
	wire_text(&r, h->hypervisor, sizeof(h->hypervisor));
	h->nregions = wire_u32(&r);
	h->pid = wire_u32(&r);
	h->granule_bytes = wire_u64(&r);
	if (!wire_done(&r))
		return err_set(e, EPROTO, "the VMM's hello has %zu bytes", m->body_bytes);
	if (h->nregions == 0 || h->nregions > REGION_MAX)
		return err_set(e, EPROTO, "the VMM says it has %u regions; 1 to %u are possible",
			h->nregions, REGION_MAX);
	return 0;
}

void agent_put_region(struct agent_msg *m, const struct region *r)
{
	struct wire_writer w;

	m->a = r->bytes;
	m->b = r->page_bytes | (uint64_t)r->nviews << 32;
	wire_write_init(&w, m->body, sizeof(m->body));
	wire_put_text(&w, r->name, REGION_NAME);
	for (unsigned i = 0; i < r->nviews; i++) {
		wire_put_u64(&w, r->views[i].gpa);
		wire_put_u64(&w, r->views[i].offset_bytes);
		wire_put_u64(&w, r->views[i].bytes);
		wire_put_u32(&w, r->views[i].slot);
		wire_put_u32(&w, r->views[i].as_id);
	}
	m->body_bytes = wire_len(&w, m->body);
}

/* Reads the views into r, whose name and size are set. */
static int get_views(struct wire_reader *w, struct region *r, unsigned n, struct err *e)
{
	for (unsigned i = 0; i < n; i++) {
		struct view v;

		v.gpa = wire_u64(w);
		v.offset_bytes = wire_u64(w);
		v.bytes = wire_u64(w);
		v.slot = wire_u32(w);
		v.as_id = wire_u32(w);
		if (!wire_ok(w))
			break;
		if (region_add_view(r, &v, e) < 0)
			return -EPROTO;
	}
	if (!wire_done(w))
		return err_set(e, EPROTO, "region %s: its views do not fit the message", r->name);
	return 0;
}

/* The RAM file must hold what the VMM says, or the first touch past its end would kill us. */
static int check_file(const struct region *r, int fd, struct err *e)
{
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set(e, EPROTO, "region %s: the VMM sent no RAM file", r->name);
	if (!S_ISREG(st.st_mode) || st.st_size < 0 || (uint64_t)st.st_size < r->bytes)
		return err_set(e, EPROTO,
			"region %s: its RAM file is no file, or is shorter than the region's %llu "
			"bytes",
			r->name, (unsigned long long)r->bytes);
	return 0;
}

int agent_get_region(struct agent_msg *m, struct region_map *map, struct err *e)
{
	struct region one = {.bytes = m->a, .fd = -1};
	uint64_t nviews = m->b >> 32;
	struct wire_reader w;
	int i = -EPROTO;

	wire_read_init(&w, m->body, m->body_bytes);
	wire_text(&w, one.name, REGION_NAME);
	if (nviews > REGION_VIEWS)
		err_set(e, EPROTO, "region %s: %llu views; up to %u are possible", one.name,
			(unsigned long long)nviews, REGION_VIEWS);
	else if (get_views(&w, &one, (unsigned)nviews, e) == 0 && check_file(&one, m->fd, e) == 0)
		i = region_add(map, one.name, m->fd, m->a, (uint32_t)m->b, e);
	if (i < 0) {
		close_fd(&m->fd);
		return -EPROTO;
	}
	m->fd = -1;
	map->r[i].nviews = one.nviews;
	memcpy(map->r[i].views, one.views, sizeof(one.views));
	return 0;
}
