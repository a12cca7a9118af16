// SPDX-License-Identifier: BSD-3-Clause
// Whether a session's flows are sealed, and with which keys. Run by the control loop.
//
// Invariants: keys come from the TLS of the control connection, so both ends are proved before one
// is there; each flow and direction has its own, and a flow is made once with them. A session that
// is resumed has a new handshake and a new token, so new keys. Sealing is given up only where both
// ends ask for that by name.

#include "session_impl.h"

#include <errno.h>
#include <string.h>

#include "seal.h"
#include "wire.h"

#define LABEL "EXPORTER-godwit-flow"

static const struct seal_ops *best(struct err *e)
{
	const struct seal_ops *ops = seal_best("aes-256-gcm");

	if (ops == NULL)
		err_set(e, ENOTSUP,
			"this host can't run AES-256-GCM: give --seal none on both "
			"hosts to go without");
	return ops;
}

int session_seal_choose(struct session *s, struct err *e)
{
	bool insecure = conn_tls(s->conn) == NULL;

	s->seal = NULL;
	if (insecure && s->seal_wish == SEAL_WISH_AES)
		return err_set(e, ENOTSUP,
			"--seal aes-256-gcm needs keys that come from TLS, and this host is "
			"`insecure`: name keys on both hosts");
	if (insecure || s->seal_wish == SEAL_WISH_NONE)
		return 0;
	s->seal = best(e);
	return s->seal != NULL ? 0 : -e->errnum;
}

const char *session_seal_name(const struct session *s)
{
	return s->seal != NULL ? s->seal->name : "none";
}

int session_seal_agree(struct session *s, const char *theirs, struct err *e)
{
	int rc = session_seal_choose(s, e);

	if (rc < 0 || strcmp(theirs, session_seal_name(s)) == 0)
		return rc;
	return err_set(e, EACCES,
		"the source asks for --seal %s and the target for %s: ask for the same on both "
		"hosts (none only where both name it)",
		strcmp(theirs, "none") == 0 || strcmp(theirs, "aes-256-gcm") == 0
			? theirs
			: "what is not there",
		session_seal_name(s));
}

int session_seal_secrets(struct session *s, unsigned flow, struct seal_secret *out,
	struct seal_secret *in, struct err *e)
{
	uint8_t context[TOKEN_BYTES + 4];
	struct seal_secret both[2]; /* source to target, target to source */
	struct wire_writer w;
	bool ok;

	wire_write_init(&w, context, sizeof(context));
	wire_put_bytes(&w, s->token, TOKEN_BYTES);
	wire_put_u32(&w, flow);
	ok = s->conn != NULL && conn_tls(s->conn) != NULL &&
	     tls_export(conn_tls(s->conn), LABEL, context, sizeof(context), (uint8_t *)both,
		     sizeof(both));
	*out = both[s->source ? 0 : 1];
	*in = both[s->source ? 1 : 0];
	explicit_bzero(both, sizeof(both));
	return ok ? 0 : err_set(e, EIO, "cannot get keys for flow %u from TLS", flow);
}

int session_seal_link(struct session *s, struct link *link, unsigned flow, int node, struct err *e)
{
	struct seal_secret out, in;
	int rc;

	if (s->seal == NULL)
		return 0;
	rc = session_seal_secrets(s, flow, &out, &in, e);
	if (rc == 0)
		rc = link->ops->seal == NULL
			     ? err_set(e, ENOTSUP, "the %s link does not seal", link->ops->name)
			     : link->ops->seal(link, s->seal, &out, &in, node, e);
	explicit_bzero(&out, sizeof(out));
	explicit_bzero(&in, sizeof(in));
	if (rc < 0)
		link->ops->close(link);
	return rc;
}
