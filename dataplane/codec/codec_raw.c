// SPDX-License-Identifier: BSD-3-Clause
// The codec that does nothing: a raw frame's payload is its pages, sent from where they are. Opened
// by control threads so that a flow needs no special case.

#include "codec.h"

#include <errno.h>
#include <stdlib.h>

static int raw_open(struct codec **c, int level, int node, struct err *e)
{
	(void)node;
	*c = calloc(1, sizeof(**c));
	if (*c == NULL)
		return err_set(e, ENOMEM, "no memory for codec raw");
	(*c)->ops = &codec_raw;
	(*c)->level = level;
	return 0;
}

static void raw_close(struct codec *c)
{
	free(c);
}

const struct codec_ops codec_raw = {
	.name = "raw",
	.id = CODEC_RAW,
	.open = raw_open,
	.close = raw_close,
};
