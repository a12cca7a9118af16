// SPDX-License-Identifier: BSD-3-Clause
// The target's memory where RLIMIT_MEMLOCK does not hold all of it: windows are registered by
// turns, as the source asks for them, and their keys told as they are. Control loop only.
//
// Invariant: holes are made in none of these regions until nothing of them is registered any more
// (recv_job_pin), whichever windows are: one that comes back is the same memory.

#include "session_impl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define KEYS_MOST 64u /* in one message */

/* Huge pages stay whole. */
static uint64_t least_bytes(const struct session *s)
{
	uint64_t least = LINK_RDMA_POOL_CHUNK * CHUNK_BYTES;

	for (unsigned i = 0; i < s->vmm->map.n; i++)
		if (s->vmm->map.r[i].page_bytes > least)
			least = s->vmm->map.r[i].page_bytes;
	return least;
}

bool flows_rdma_turns_fit(struct session *s)
{
	struct session_turns *t = &s->rdma.turns;

	t->most = 0;
	return s->rdma.can_turn && !s->rdma.info.on_demand &&
	       link_rdma_locked_turns("", s->nflows, least_bytes(s), s->rdma.info.most_mr,
		       &t->window_bytes, &t->most);
}

json_t *flows_rdma_tell_turns(const struct session *s)
{
	const struct region_map *map = &s->vmm->map;
	json_t *bases = json_array();

	for (unsigned i = 0; i < map->n; i++)
		json_array_append_new(bases,
			flows_rdma_registers(s, &map->r[i])
				? json_sprintf("%016" PRIx64, (uint64_t)(uintptr_t)map->r[i].base)
				: json_null());
	return json_pack("{s:I, s:I, s:o}", "window", (json_int_t)s->rdma.turns.window_bytes,
		"most", (json_int_t)s->rdma.turns.most, "base", bases);
}

bool flows_rdma_turning(const struct session *s)
{
	return !s->source && s->rdma.memory != NULL && s->rdma.turns.most > 0 &&
	       s->state < SESSION_COMMITTING && !s->leaving && s->flows_up == s->nflows &&
	       s->stage >= stage_find("flows");
}

/* A list of windows, each for one call. Returns how many. */
static int each(struct session *s, const json_t *list,
	int (*fn)(struct link_rdma_memory *m, uint64_t window))
{
	const json_t *one;
	size_t i;

	if (!json_is_array(list) || json_array_size(list) > LINK_RDMA_POOL_TURN)
		return -EPROTO;
	json_array_foreach(list, i, one)
	{
		if (!json_is_integer(one) || json_integer_value(one) < 0 ||
			fn(s->rdma.memory, (uint64_t)json_integer_value(one)) < 0)
			return -EPROTO;
	}
	return (int)json_array_size(list);
}

void flows_rdma_hear_windows(struct session *s, json_t *msg)
{
	int dropped = each(s, json_object_get(msg, "drop"), link_rdma_memory_drop), wanted = -1;

	if (dropped >= 0)
		wanted = each(s, json_object_get(msg, "want"), link_rdma_memory_want);
	if (wanted < 0) {
		session_failf(s, EPROTO,
			"the source's daemon %s windows of this guest's memory that it may not: "
			"one that there is not, that is, or is not, its own, or more than %u",
			dropped < 0 ? "drops" : "wants", s->rdma.turns.most);
		return;
	}
	s->rdma.turns.asked += (uint64_t)wanted;
	s->rdma.turns.dropped += (uint64_t)dropped;
	session_tick_every(s, 0);
}

static json_t *key_text(struct session *s, const struct link_rdma_said *said)
{
	if (said->refused == 0)
		return json_sprintf("%08" PRIx32, said->rkey);
	if (s->rdma.turns.refused++ == 0)
		watch_text(s, LOG_WARN,
			"rdma: the device took no more of the guest's memory (%s): more pages go "
			"through slots; see the kernel's log",
			strerrordesc_np(said->refused));
	return json_null();
}

bool flows_rdma_say_windows(struct session *s)
{
	struct link_rdma_said said;
	json_t *keys;

	if (!flows_rdma_turning(s))
		return false;
	keys = json_array();
	while (json_array_size(keys) < KEYS_MOST && link_rdma_memory_said(s->rdma.memory, &said))
		json_array_append_new(
			keys, json_pack("[I, o]", (json_int_t)said.window, key_text(s, &said)));
	if (json_array_size(keys) > 0 && s->conn != NULL)
		conn_send(s->conn, json_pack("{s:s, s:O}", "op", "rdma_keys", "keys", keys));
	json_decref(keys);
	return link_rdma_memory_busy(s->rdma.memory);
}

/* Either side: the connections were lost, and their flows are gone. */
bool flows_rdma_again(struct session *s)
{
	if (s->rdma.pool != NULL)
		link_rdma_pool_forget(s->rdma.pool);
	return s->source || s->rdma.memory == NULL || s->rdma.turns.most == 0 ||
	       link_rdma_memory_forget(s->rdma.memory);
}
