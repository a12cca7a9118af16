// SPDX-License-Identifier: BSD-3-Clause
// The target's memory made ready: what it held before is punched out or known (law 11), all of it
// is there where that was asked for. Then flows may come. Control loop only.

#include "session_impl.h"

#include <string.h>

/* Before `prepare` nothing here was touched: a dry run, or a source that was refused by its own
 * side, may come again. */
bool target_waits_again(struct session *s, const struct err *why)
{
	if (s->source || s->state != SESSION_PREPARING || s->stage >= stage_find("prepare"))
		return false;
	log_info(s->name, "%s; nothing was begun, so it waits for a source again", why->text);
	conn_free(s->conn);
	s->conn = NULL;
	json_decref(s->peer);
	s->peer = NULL;
	flows_nic_gone(s);
	memset(&s->nic, 0, sizeof(s->nic));
	flows_rdma_gone(s);
	memset(&s->rdma, 0, sizeof(s->rdma));
	s->seal = NULL;
	s->nflows = 0;
	s->reply_seq = 0;
	s->stage = 0;
	s->fig.populated_bytes = 0;
	if (!s->populate)
		s->reserved_bytes = 0;
	event_del(s->deadline);
	session_set_state(s, SESSION_WAITING);
	return true;
}

void target_prepare(struct session *s, json_t *msg)
{
	/* Of what is kept, pages that do not come are to be holes, and while a device may write
	 * them none can be made: all of them would be, in the pause. */
	bool keep = json_is_true(json_object_get(msg, "keep")) && !(s->rdma.direct && s->populate);
	struct err e;

	if (handover_begin(s, &e) < 0 || recv_job_begin(&s->recv, &s->vmm->map, keep, &e) < 0) {
		session_fail(s, &e);
		return;
	}
	s->have_recv = true;
	s->recv.alone = s->nflows == 1;
	s->clearing = true;
	session_tick_every(s, 0);
}

/* Where old content was kept the source has to make holes of what it does not send. */
static json_t *kept_regions(struct session *s)
{
	json_t *kept = json_array();

	for (unsigned i = 0; i < s->vmm->map.n; i++)
		if (s->recv.kept[i])
			json_array_append_new(kept, json_integer(i));
	return kept;
}

/* The memory is as it must be: flows may come. */
static void prepared(struct session *s)
{
	struct err e;
	json_t *tell = peer_new_token(s, &e);

	if (tell == NULL || reconnect_new_secret(s, tell, &e) < 0) {
		json_decref(tell);
		session_fail(s, &e);
		return;
	}
	json_object_set_new(tell, "kept", kept_regions(s));
	flows_rdma_tell_keys(s, tell);
	peer_answer(s, tell);
}

/* Stale content first, then all of the memory where that was asked for, or its mapping, then a
 * device may know it.
 */
void target_prepare_on(struct session *s)
{
	struct err e;
	int rc = s->clearing ? recv_job_ready(&s->recv, &e) : 1;

	if (rc == 1 && s->clearing) {
		s->clearing = false;
		if (s->populate)
			rc = populate_start(&s->populating, &s->vmm->map, POPULATE_ALLOCATE, &e);
		else
			rc = s->populating == NULL; /* it may still be mapped */
	} else if (!s->clearing && s->populating != NULL) {
		rc = populate_ready(s->populating, &e);
		if (rc == 1 && s->populate)
			recv_job_populated(&s->recv);
	}
	if (rc != 0) {
		populate_free(s->populating);
		s->populating = NULL;
	}
	if (rc == 1)
		rc = flows_rdma_register(s, &e);
	if (rc < 0)
		session_fail(s, &e);
	else if (rc == 1)
		prepared(s);
}

int target_book_again(struct session *s, json_t *msg, struct err *e)
{
	uint64_t populated, before = s->reserved_bytes;

	if (json_object_get(msg, "populated_bytes") == NULL)
		return 0;
	if (!peer_get_u64(msg, "populated_bytes", REGION_TOTAL_MAX, &populated, e))
		return -e->errnum;
	if (s->populate || populated <= before)
		return 0;
	s->reserved_bytes = 0; /* its own promise is not in its way */
	if (session_reserve(&s->vmm->map, populated, e) < 0)
		return -e->errnum;
	s->reserved_bytes = s->fig.populated_bytes = populated;
	return 0;
}
