// SPDX-License-Identifier: BSD-3-Clause
// The keys of the target's memory, on their way to the source: one for each region, or one for each
// window of a region that is larger than the device takes at a time. Control loop only.
//
// Invariant: what the source keeps covers each of its regions whole, or says that it is not there.

#include "session_impl.h"

#include "plant.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static json_t *key_text(const struct link_rdma_memory *m, unsigned region, uint32_t window)
{
	struct link_rdma_key k;

	if (!link_rdma_memory_key(m, region, window, &k))
		return json_null();
	return json_sprintf("%016" PRIx64 " %08" PRIx32, k.addr, k.rkey);
}

static json_t *region_keys(const struct link_rdma_memory *m, unsigned region)
{
	uint64_t bytes;
	uint32_t n = link_rdma_memory_windows(m, region, &bytes);
	json_t *keys;

	if (n <= 1)
		return key_text(m, region, 0);
	keys = json_array();
	for (uint32_t w = 0; w < n; w++)
		json_array_append_new(keys, key_text(m, region, w));
	return json_pack("{s:I, s:o}", "window", (json_int_t)bytes, "keys", keys);
}

void flows_rdma_tell_keys(const struct session *s, json_t *msg)
{
	const struct link_rdma_memory *m = s->rdma.memory;
	json_t *list = json_array();

	for (unsigned i = 0; m != NULL && s->rdma.turns.most == 0 && i < s->vmm->map.n; i++)
		json_array_append_new(list, region_keys(m, i));
	json_object_set_new(msg, "rdma_keys", list);
	if (m != NULL && s->rdma.turns.most > 0)
		json_object_set_new(msg, "rdma_windows", flows_rdma_tell_turns(s));
	json_object_set_new(
		msg, "rdma_register_ns", json_integer((json_int_t)s->rdma.figures.register_ns));
}

/* False: it is none. */
static bool read_key(struct link_rdma_key *k, const json_t *one)
{
	const char *text = json_string_value(one);
	int end = 0;

	*k = (struct link_rdma_key){0};
	if (json_is_null(one))
		return true;
	if (text == NULL || strlen(text) != 25 || strspn(text, "0123456789abcdef ") != 25 ||
		sscanf(text, "%16" SCNx64 " %8" SCNx32 "%n", &k->addr, &k->rkey, &end) != 2 ||
		end != 25)
		return false;
	if (plant(PLANT_RDMA_BAD_KEY))
		k->rkey ^= 0xff00;
	k->there = true;
	return true;
}

/* 0, -ENOMEM, or -EPROTO: they do not cover the region. */
static int read_windows(
	struct session_rdma *r, unsigned i, const struct region *region, json_t *one)
{
	json_t *list = json_object_get(one, "keys");
	json_int_t bytes = json_integer_value(json_object_get(one, "window"));
	size_t n = json_array_size(list);
	struct link_rdma_key *k;

	if (bytes < (json_int_t)CHUNK_BYTES || (uint64_t)bytes % CHUNK_BYTES != 0 ||
		(uint64_t)bytes > REGION_BYTES_MAX ||
		n != (region->bytes + (uint64_t)bytes - 1) / (uint64_t)bytes)
		return -EPROTO;
	k = calloc(n, sizeof(*k));
	if (k == NULL)
		return -ENOMEM;
	r->windows[i].key = k;
	r->windows[i].chunks = (uint32_t)((uint64_t)bytes >> CHUNK_SHIFT);
	for (size_t w = 0; w < n; w++) {
		uint64_t left = region->bytes - w * (uint64_t)bytes;

		if (!read_key(&k[w], json_array_get(list, w)))
			return -EPROTO;
		if (k[w].there)
			r->figures.bytes += left < (uint64_t)bytes ? left : (uint64_t)bytes;
	}
	return 0;
}

int flows_rdma_take_keys(struct session *s, json_t *msg, struct err *e)
{
	json_t *list = json_object_get(msg, "rdma_keys"), *one;
	struct session_rdma *r = &s->rdma;
	size_t i;

	if (r->direct && json_object_get(msg, "rdma_windows") != NULL) {
		flows_rdma_forget_keys(s);
		return flows_rdma_take_turns(s, json_object_get(msg, "rdma_windows"), e);
	}
	if (!r->direct || json_array_size(list) == 0)
		return 0;
	if (json_array_size(list) != s->vmm->map.n)
		return err_set(e, EPROTO, "the target's daemon told keys of %zu regions and not %u",
			json_array_size(list), s->vmm->map.n);
	if (!peer_get_u64(msg, "rdma_register_ns", INT64_MAX, &r->figures.register_ns, e))
		return -EPROTO;
	flows_rdma_forget_keys(s);
	json_array_foreach(list, i, one)
	{
		const struct region *region = &s->vmm->map.r[i];
		int rc = 0;

		if (json_is_object(one))
			rc = read_windows(r, (unsigned)i, region, one);
		else if (!read_key(&r->keys[i], one))
			rc = -EPROTO;
		if (rc == -ENOMEM)
			return err_set(e, ENOMEM, "no memory for the keys of the target's memory");
		if (rc < 0)
			return err_set(e, EPROTO,
				"the target's daemon told a key of region %zu that is none", i);
		r->figures.bytes += r->keys[i].there ? region->bytes : 0;
	}
	return 0;
}

void flows_rdma_forget_keys(struct session *s)
{
	struct session_rdma *r = &s->rdma;

	flows_rdma_count_turns(s);
	link_rdma_pool_free(r->pool);
	r->pool = NULL;
	for (unsigned i = 0; i < REGION_MAX; i++) {
		free((void *)(uintptr_t)r->windows[i].key);
		r->windows[i] = (struct link_rdma_windows){0};
		r->keys[i] = (struct link_rdma_key){0};
	}
}
