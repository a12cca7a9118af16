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
	if (n->mapped.refused_bytes == 0 || n->copies[0] != '\0')
		return true;
	snprintf(n->copies, sizeof(n->copies), "%s", n->mapped.why.text);
	if (n->info.must_zero_copy) {
		session_failf(s, n->mapped.why.errnum,
			"port %s is to send pages without a copy, and can't: %.200s; set its "
			"zero-copy to auto",
			n->offer.name, n->mapped.why.text);
		return false;
	}
	watch_text(s, LOG_WARN, "pages are copied into packets: %s", n->copies);
	return true;
}

void flows_nic_look(struct session *s)
{
	if (s->nic.windows != NULL)
		extmem_window_look(s->nic.windows);
}

void flows_nic_unmap(struct session *s)
{
	struct extmem_window_info *i = &s->nic.mapped;

	if (s->nic.windows == NULL)
		return;
	extmem_window_info(s->nic.windows, i);
	if (s->nic.copies[0] == '\0' && i->mapped_bytes < i->bytes)
		snprintf(s->nic.copies, sizeof(s->nic.copies),
			"%llu of %llu MiB: they lie in windows that are not populated whole",
			(unsigned long long)(i->bytes - i->mapped_bytes) >> 20,
			(unsigned long long)i->bytes >> 20);
	extmem_window_free(s->nic.windows);
	s->nic.windows = NULL;
}
