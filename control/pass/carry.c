// SPDX-License-Identifier: BSD-3-Clause
// The balloon's bitmap as runs of equal words. Run by the control loops of both daemons.
// Invariant: a chunk before the cursor is told as it was at the last look.

#include "carry.h"

#include "map.h"
#include "wire.h"

#include <errno.h>

int carry_init(struct carry *c, const uint64_t *now, uint64_t nchunks)
{
	*c = (struct carry){.nchunks = nchunks, .now = now};
	c->told = map_lazy(nchunks * sizeof(uint64_t));
	return c->told != NULL ? 0 : -ENOMEM;
}

void carry_fini(struct carry *c)
{
	map_free(c->told, c->nchunks * sizeof(uint64_t));
	c->told = NULL;
}

void carry_look(struct carry *c, uint64_t first, uint64_t end)
{
	c->cursor = first;
	c->end = end < c->nchunks ? end : c->nchunks;
}

size_t carry_next(struct carry *c, uint8_t buf[CARRY_BLOB_BYTES])
{
	struct wire_writer w, head;
	uint32_t runs = 0;

	wire_write_init(&w, buf, CARRY_BLOB_BYTES);
	wire_put_u64(&w, 0); /* the head, later */
	while (c->cursor < c->end && runs < CARRY_RUNS) {
		uint64_t first = c->cursor, word = c->now[first];

		if (word == c->told[first]) {
			c->cursor++;
			continue;
		}
		for (; c->cursor < c->end && c->now[c->cursor] == word &&
			c->told[c->cursor] != word;
			c->cursor++)
			c->told[c->cursor] = word;
		wire_put_u64(&w, first);
		wire_put_u64(&w, c->cursor - first);
		wire_put_u64(&w, word);
		runs++;
	}
	wire_write_init(&head, buf, CARRY_HEAD_BYTES);
	wire_put_u32(&head, CARRY_MAGIC);
	wire_put_u32(&head, runs);
	return runs > 0 ? wire_len(&w, buf) : 0;
}

int carry_take(const uint8_t *data, size_t bytes, uint64_t *words, uint64_t nchunks, struct err *e)
{
	struct wire_reader r;
	uint32_t magic, runs;
	uint64_t next = 0;

	wire_read_init(&r, data, bytes);
	magic = wire_u32(&r);
	runs = wire_u32(&r);
	if (magic != CARRY_MAGIC || runs == 0 || runs > CARRY_RUNS ||
		wire_left(&r) != (size_t)runs * CARRY_RUN_BYTES)
		return err_set(e, EPROTO, "the source's daemon sent data that nobody asked for");
	for (uint32_t i = 0; i < runs; i++) {
		uint64_t first = wire_u64(&r), n = wire_u64(&r), word = wire_u64(&r);

		if (n == 0 || first >= nchunks || n > nchunks - first)
			return err_set(e, EPROTO,
				"the source's daemon sent a balloon that is larger than the guest");
		/* Else one small blob could have each chunk written thousands of times. */
		if (first < next)
			return err_set(e, EPROTO,
				"the source's daemon sent a balloon whose runs are out of order");
		next = first + n;
		for (uint64_t c = first; c < first + n; c++)
			if (words[c] != word)
				words[c] = word;
	}
	return 0;
}
