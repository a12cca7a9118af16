// SPDX-License-Identifier: BSD-3-Clause
// Whether pages of a guest leave its memory by the port's device itself, and if not, why. Run by
// the control loop of the source.
//
// Invariant: memory is mapped for a device only where its VMM says that it keeps it, and nobody
// proves that. Where a look finds a hole by the stage "load" the session fails, as what was sent of
// that memory may be old. The pause does not wait for a look: one takes some ms a GiB.

#include "session_impl.h"

#include "hole.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Source. NULL: the device may read the guest's memory by itself; else why not. */
static const char *why_copied(const struct session *s)
{
	if (!s->nic.info.zero_copy)
		return s->nic.info.must_copy;
	if (s->seal != NULL)
		return "sealed pages are written into packets";
	if (s->nic.info.maps && (s->vmm->hint_flags & AGENT_HINT_KEEPS) == 0)
		return "the VMM may give pages back while they are mapped for the device";
	return NULL;
}

int flows_nic_map(struct session *s, struct err *e)
{
	const char *why = why_copied(s);
	struct extmem_window_config c = {.port = s->nic.port,
		.map = &s->vmm->map,
		.lanes = s->nflows,
		.walk = hole_walk_range};
	int rc = 0;

	if (s->nic.windows != NULL)
		return 0;
	if (why == NULL && s->nic.info.maps) {
		rc = extmem_window_new(&s->nic.windows, &c, e);
		why = rc < 0 ? e->text : NULL;
	}
	if (why == NULL)
		return 0;
	snprintf(s->nic.copies, sizeof(s->nic.copies), "%s", why);
	if (s->nic.info.must_zero_copy)
		return err_set(e, ENOTSUP,
			"port %s is to send pages without a copy, and can't: %.200s; set its "
			"zero-copy to auto",
			s->nic.offer.name, s->nic.copies);
	watch_text(s, LOG_INFO, "pages are copied into packets: %s", s->nic.copies);
	return 0;
}

/* Of windows that nothing refused: false: a look found nothing that is copied, or none was. */
static bool say_holes(struct session_nic *n)
{
	const struct extmem_window_info *i = &n->mapped;
	uint64_t bytes = i->holed_bytes + i->small_bytes;

	if (i->refused_bytes > 0 || i->looks == 0 || bytes == 0)
		return false;
	snprintf(n->copies, sizeof(n->copies),
		"%llu of %llu MiB: they lie in regions below %u MiB or windows that are not "
		"populated whole",
		(unsigned long long)(bytes + (1 << 20) - 1) >> 20,
		(unsigned long long)i->bytes >> 20, (unsigned)(EXTMEM_ALIGN_BYTES >> 20));
	return true;
}

/* Once for each reason. False: the session has failed. */
static bool tell_copies(struct session *s)
{
	struct session_nic *n = &s->nic;
	const char *why = n->mapped.why.text;
	bool refused = n->mapped.refused_bytes > 0 && why[0] != '\0';

	if (refused && strcmp(n->copies, why) != 0)
		snprintf(n->copies, sizeof(n->copies), "%s", why);
	else if (n->copies[0] != '\0' || !say_holes(n))
		return true;
	if (refused && n->info.must_zero_copy) {
		session_failf(s, n->mapped.why.errnum,
			"port %s is to send pages without a copy, and can't: %.200s; set its "
			"zero-copy to auto",
			n->offer.name, why);
		return false;
	}
	watch_text(
		s, refused ? LOG_WARN : LOG_INFO, "pages are copied into packets: %s", n->copies);
	return true;
}

bool flows_nic_work(struct session *s)
{
	struct session_nic *n = &s->nic;

	if (n->windows == NULL)
		return true;
	extmem_window_info(n->windows, &n->mapped);
	if (n->mapped.discarded > 0) {
		session_failf(s, EBUSY,
			"the VMM gave memory back that it had said to keep, while port %s had it "
			"mapped: what was sent of it may be old. Set the port's zero-copy to no",
			n->offer.name);
		return false;
	}
	return tell_copies(s);
}

void flows_nic_look(struct session *s)
{
	if (s->nic.windows != NULL)
		extmem_window_look(s->nic.windows);
}

void flows_nic_unmap(struct session *s)
{
	if (s->nic.windows == NULL)
		return;
	extmem_window_info(s->nic.windows, &s->nic.mapped);
	say_holes(&s->nic); /* as they were last */
	extmem_window_free(s->nic.windows);
	s->nic.windows = NULL;
}
