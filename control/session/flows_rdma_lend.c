// SPDX-License-Identifier: BSD-3-Clause
// The source's guest memory lent to its RDMA device, which then reads raw pages where they lie; the
// pages of what is not lent are copied first. Which of both it is, and why, is reported. Control
// loop only.
//
// Invariant: only memory of a VMM that gives none of it back is lent: the device would go on to
// read a page that was punched and came anew where it was, and no look at holes tells of that. One
// that has pages on demand follows this process's page table, but it fills a hole that was just
// made: as it fetches ahead, or sends again what the target has placed and drops (laws 11, 12).

#include "session_impl.h"

#include "hole.h"

#include <stdio.h>
#include <string.h>

/* NULL: it may read; else why not, for a person. */
static const char *why_not(const struct session *s)
{
	struct err unused;

	if (s->seal != NULL)
		return "what is sealed is written anew";
	if (s->opt.codec != &codec_raw && s->opt.codec != &codec_auto)
		return "what is encoded is written anew";
	if (!s->rdma.info.on_demand &&
		link_rdma_locked_check("", s->opt.flows, s->fig.populated_bytes, &unused) < 0)
		return "this godwitd may not lock as much as the guest has (RLIMIT_MEMLOCK)";
	return vmm_gives_back(s->vmm);
}

void flows_rdma_lend(struct session *s)
{
	struct session_rdma *r = &s->rdma;
	const char *why;
	struct err e;

	if (!r->on || r->memory != NULL)
		return;
	why = why_not(s);
	if (why == NULL &&
		link_rdma_memory_lend(&r->memory, r->domain, &s->vmm->map, hole_walk_range, &e) < 0)
		why = e.text;
	if (why == NULL)
		return;
	snprintf(r->copied, sizeof(r->copied), "%s", why);
	watch_text(
		s, LOG_INFO, "rdma: pages are copied before the device reads them: %s", r->copied);
}

void flows_rdma_tell_lent(const struct session *s, json_t *report)
{
	const struct session_rdma *r = &s->rdma;
	struct link_rdma_registered f = r->lent;
	char copied[sizeof(r->copied)];

	strcpy(copied, r->copied);
	if (s->source && r->memory != NULL)
		link_rdma_memory_figures(r->memory, &f);
	if (f.refused != 0)
		snprintf(copied, sizeof(copied),
			"in part: the device took no more memory (%s); see the kernel's log",
			strerrordesc_np(f.refused));
	json_object_set_new(report, "lent_bytes", json_integer((json_int_t)f.bytes));
	json_object_set_new(report, "lend_ms", json_real((double)f.register_ns / NS_PER_MS));
	json_object_set_new(report, "copied", json_string(copied));
}
