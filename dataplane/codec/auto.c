// SPDX-License-Identifier: BSD-3-Clause
// The options of --codec auto, and what they are taken to cost before a flow has seen its own.
// Opened and closed by control threads; picks and learns on the flow's polling core.
//
// Invariant: an option is a row of the codec table at one level; the target needs the row only.

#include "auto.h"

#include "mem.h"

#include <errno.h>

static const struct {
	const struct codec_ops *row; // NULL: raw
	int level;
	// Cycles and bytes on the wire of a byte of program memory, and cycles at the target.
	struct choose_cost assumed;
} options[] = {
	{NULL, 0, {0, 1, 1, 1.9}},
	{&codec_lz4, 8, {2.0, 0.80, 0, 2.1}},
	{&codec_lz4, 0, {3.8, 0.60, 0, 2.2}},
	{&codec_isal, 1, {5.0, 0.47, 0, 4.0}},
	{&codec_zstd, 1, {6.5, 0.45, 0, 3.4}},
	{&codec_zstd, 3, {10, 0.43, 0, 3.4}},
	{&codec_zstd, 5, {20, 0.41, 0, 3.4}},
};
#define OPTIONS (sizeof(options) / sizeof(options[0]))

_Static_assert(OPTIONS <= CHOOSE_OPTIONS, "more options than choose.h has room for");

int auto_open(struct auto_codec **out, uint64_t buffer_bytes, int node, struct err *e)
{
	struct auto_codec *a = mem_new(sizeof(*a), node);
	struct choose_cost assumed[OPTIONS];
	int rc = 0;

	if (a == NULL)
		return err_set(e, ENOMEM, "no memory to choose codecs");
	for (unsigned i = 0; i < OPTIONS && rc == 0; i++) {
		assumed[i] = options[i].assumed;
		if (options[i].row != NULL)
			rc = options[i].row->open(&a->option[i], options[i].level, node, e);
	}
	if (rc < 0) {
		auto_close(a);
		return rc;
	}
	choose_init(&a->choose, assumed, OPTIONS, buffer_bytes);
	*out = a;
	return 0;
}

void auto_close(struct auto_codec *a)
{
	if (a == NULL)
		return;
	for (unsigned i = 0; i < CHOOSE_OPTIONS; i++)
		if (a->option[i] != NULL)
			a->option[i]->ops->close(a->option[i]);
	mem_free(a, sizeof(*a));
}

struct codec *auto_pick(struct auto_codec *a, const struct choose_link *link,
	const struct iovec *seg, unsigned nseg, size_t bytes)
{
	if (!choose_look(&a->choose, link))
		return NULL;
	a->kind = choose_kind(seg, nseg, bytes);
	a->picked = choose_pick(&a->choose, a->kind, bytes);
	return a->option[a->picked];
}

void auto_learn(struct auto_codec *a, size_t in_bytes, size_t out_bytes, uint64_t cycles)
{
	choose_learn(&a->choose, a->kind, a->picked, in_bytes,
		out_bytes == 0 ? in_bytes : out_bytes, cycles);
}

void auto_placed(struct auto_codec *a, uint8_t codec, size_t bytes)
{
	unsigned i = 0;

	while (i < OPTIONS && (options[i].row == NULL ? CODEC_RAW : options[i].row->id) != codec)
		i++;
	if (i < OPTIONS)
		choose_placed(&a->choose, i, bytes);
}
