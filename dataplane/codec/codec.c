// SPDX-License-Identifier: BSD-3-Clause
// The table of codecs, and how a person names one. Run by control threads; polling cores only look
// up rows by id.

#include "codec.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

const struct codec_ops *const codec_table[] = {
	&codec_raw,
	&codec_isal,
	&codec_lz4,
	&codec_zstd,
	NULL,
};

const struct codec_ops codec_auto = {.name = "auto", .id = CODEC_IDS};

const struct codec_ops *codec_by_name(const char *name)
{
	for (const struct codec_ops *const *c = codec_table; *c != NULL; c++)
		if (strcmp((*c)->name, name) == 0)
			return *c;
	return NULL;
}

const struct codec_ops *codec_by_id(uint8_t id)
{
	for (const struct codec_ops *const *c = codec_table; *c != NULL; c++)
		if ((*c)->id == id)
			return *c;
	return NULL;
}

int codec_parse(const char *text, const struct codec_ops **ops, int *level, struct err *e)
{
	size_t len = strcspn(text, ":");
	const char *colon = text[len] == ':' ? text + len : NULL;
	const struct codec_ops *found = strcmp(text, codec_auto.name) == 0 ? &codec_auto : NULL;
	char *end;
	long v;

	for (const struct codec_ops *const *c = codec_table; *c != NULL; c++)
		if (strlen((*c)->name) == len && strncmp((*c)->name, text, len) == 0)
			found = *c;
	if (found == NULL)
		return err_set(e, EINVAL,
			"unknown compression \"%s\": use auto, raw, lz4, deflate:LEVEL (0 to 3) or "
			"zstd:LEVEL (1 to 9)",
			text);
	*ops = found;
	*level = found->level_default;
	if (colon == NULL)
		return 0;
	if (found->level_min == found->level_max)
		return err_set(e, EINVAL, "compression %s has no levels: leave \"%s\" out",
			found->name, colon);
	v = strtol(colon + 1, &end, 10);
	if (colon[1] < '0' || colon[1] > '9' || *end != '\0' || v < found->level_min ||
		v > found->level_max)
		return err_set(e, EINVAL, "compression %s: level \"%s\" is not one of %d to %d",
			found->name, colon + 1, found->level_min, found->level_max);
	*level = (int)v;
	return 0;
}
