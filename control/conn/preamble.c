// SPDX-License-Identifier: BSD-3-Clause
// The first 32 bytes of every connection between daemons. Pure; run by the control loop.

#include "listen.h"

#include <errno.h>
#include <string.h>

#include "wire.h"

void preamble_encode(const struct preamble *p, uint8_t buf[PREAMBLE_BYTES])
{
	struct wire_writer w;

	wire_write_init(&w, buf, PREAMBLE_BYTES);
	wire_put_u32(&w, PREAMBLE_MAGIC);
	wire_put_u16(&w, PREAMBLE_VERSION);
	wire_put_u16(&w, p->kind);
	wire_put_bytes(&w, p->token, TOKEN_BYTES);
	wire_put_u32(&w, p->flow);
	wire_put_u32(&w, 0);
}

int preamble_decode(struct preamble *p, const uint8_t buf[PREAMBLE_BYTES], struct err *e)
{
	static const uint8_t zeros[TOKEN_BYTES];
	struct wire_reader r;
	uint32_t magic, rest;
	uint16_t version;

	memset(p, 0, sizeof(*p));
	wire_read_init(&r, buf, PREAMBLE_BYTES);
	magic = wire_u32(&r);
	version = wire_u16(&r);
	p->kind = wire_u16(&r);
	wire_bytes(&r, p->token, TOKEN_BYTES);
	p->flow = wire_u32(&r);
	rest = wire_u32(&r);
	if (magic != PREAMBLE_MAGIC)
		return err_set(e, EPROTO,
			"what connects is no godwit (it begins with 0x%08x): check who uses this "
			"port",
			magic);
	if (version != PREAMBLE_VERSION)
		return err_set(e, EPROTO,
			"the other side speaks version %u, this one %u: install the same godwit on "
			"both "
			"hosts",
			version, PREAMBLE_VERSION);
	if (p->kind < PREAMBLE_CONTROL || p->kind > PREAMBLE_CONTROL_TLS)
		return err_set(e, EPROTO, "preamble of unknown kind %u", p->kind);
	if (rest != 0)
		return err_set(e, EPROTO, "preamble with reserved bytes set");
	if (p->kind != PREAMBLE_FLOW && (p->flow != 0 || memcmp(p->token, zeros, TOKEN_BYTES)))
		return err_set(e, EPROTO, "preamble of a control connection that names a flow");
	return 0;
}
