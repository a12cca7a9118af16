// SPDX-License-Identifier: BSD-3-Clause
// The stage "verify" at the source: digests of all memory on both sides, while the guest is paused.
// What was left out counts as holes, which it is at the target. And what both sides do with theirs.

#include "session_impl.h"

#include "clock.h"

#include <errno.h>
#include <string.h>

static void compare_digests(struct session *s)
{
	if (s->digest[0] == '\0' || s->peer_digest[0] == '\0')
		return;
	if (strcmp(s->digest, s->peer_digest) != 0) {
		session_failf(s, EBADMSG,
			"the target's memory is not the source's: digest %s here, %s there. The "
			"guest "
			"goes on at the source; please report this",
			s->digest, s->peer_digest);
		return;
	}
	watch_text(s, LOG_INFO, "verified: %llu pages identical",
		(unsigned long long)s->fig.verified_pages);
	stage_done(s);
}

bool session_digested(struct session *s, const struct verify_result *r)
{
	if (session_over(s))
		return false;
	if (r->status < 0) {
		session_failf(s, -r->status, "cannot take the digest of the guest's memory");
		return false;
	}
	s->fig.verified_pages = r->pages;
	s->fig.verify_ns = r->ns;
	return true;
}

static void on_digest(void *arg, const struct verify_result *r)
{
	struct session *s = arg;

	if (!session_digested(s, r))
		return;
	memcpy(s->digest, r->digest, sizeof(s->digest));
	compare_digests(s);
}

static void on_peer_digest(struct session *s, json_t *answer)
{
	struct err e;

	if (session_over(s))
		return;
	if (!peer_get_text(answer, "digest", s->peer_digest, sizeof(s->peer_digest), &e))
		session_fail(s, &e);
	else
		compare_digests(s);
}

void source_verify(struct session *s)
{
	const uint64_t *out;
	struct err e;

	if (s->opt.verify != VERIFY_MEMORY) {
		stage_done(s);
		return;
	}
	s->verify_began_ns = clock_ns();
	out = exclude_all(&s->exclude, &s->dirty);
	if (verify_start(&s->verify, s->host->base, &s->vmm->map, out, on_digest, s, &e) < 0) {
		session_fail(s, &e);
		return;
	}
	peer_ask(s, json_object(), on_peer_digest);
}
