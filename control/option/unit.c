// SPDX-License-Identifier: BSD-3-Clause
// Sizes, rates and times as people write them. Pure.

#include "unit.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct suffix {
	const char *text;
	double factor;
};

static const struct suffix size_suffixes[] = {
	{"", 1},
	{"B", 1},
	{"K", 1024.0},
	{"KiB", 1024.0},
	{"M", 1024.0 * 1024},
	{"MiB", 1024.0 * 1024},
	{"G", 1024.0 * 1024 * 1024},
	{"GiB", 1024.0 * 1024 * 1024},
	{"T", 1024.0 * 1024 * 1024 * 1024},
	{"TiB", 1024.0 * 1024 * 1024 * 1024},
	{NULL, 0},
};
static const struct suffix bit_suffixes[] = {
	{"bit", 1 / 8.0},
	{"kbit", 1e3 / 8},
	{"Mbit", 1e6 / 8},
	{"Gbit", 1e9 / 8},
	{"Tbit", 1e12 / 8},
	{NULL, 0},
};
static const struct suffix time_suffixes[] = {
	{"ms", 1},
	{"s", 1e3},
	{"m", 60e3},
	{"min", 60e3},
	{"h", 3600e3},
	{NULL, 0},
};

/* A plain decimal number: strtod() alone would take "inf", "0x1" and "1e9" too. */
static int number(const char *text, double *v, const char **rest)
{
	size_t whole = strspn(text, "0123456789"), fraction = 0;

	if (whole == 0)
		return -EINVAL;
	if (text[whole] == '.') {
		fraction = strspn(text + whole + 1, "0123456789");
		if (fraction == 0)
			return -EINVAL;
		fraction++;
	}
	if (whole + fraction > 20)
		return -EINVAL;
	*v = strtod(text, NULL);
	*rest = text + whole + fraction;
	return 0;
}

static int apply(double v, const char *rest, const struct suffix *s, uint64_t *out)
{
	for (; s->text != NULL; s++) {
		if (strcmp(s->text, rest) != 0)
			continue;
		if (v * s->factor >= 9e18) /* JSON's integers are signed */
			return -EINVAL;
		*out = (uint64_t)(v * s->factor + 0.5);
		return 0;
	}
	return -EINVAL;
}

int unit_bytes(const char *text, uint64_t *bytes)
{
	const char *rest;
	double v;

	return number(text, &v, &rest) < 0 ? -EINVAL : apply(v, rest, size_suffixes, bytes);
}

int unit_rate(const char *text, uint64_t *bytes_per_s)
{
	const char *rest;
	double v;

	if (number(text, &v, &rest) < 0)
		return -EINVAL;
	if (apply(v, rest, size_suffixes, bytes_per_s) == 0)
		return 0;
	return apply(v, rest, bit_suffixes, bytes_per_s);
}

int unit_time(const char *text, uint64_t bare_ms, uint64_t *ms)
{
	const struct suffix bare[] = {{"", (double)bare_ms}, {NULL, 0}};
	const char *rest;
	double v;

	if (number(text, &v, &rest) < 0)
		return -EINVAL;
	return apply(v, rest, *rest ? time_suffixes : bare, ms);
}

const char *unit_put_bytes(uint64_t bytes, char buf[UNIT_TEXT])
{
	static const char *const names[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	double v = (double)bytes / 1024;
	unsigned i = 0;

	if (bytes < 1024) {
		snprintf(buf, UNIT_TEXT, "%u bytes", (unsigned)bytes);
		return buf;
	}
	while (v >= 1024 && i + 1 < sizeof(names) / sizeof(names[0])) {
		v /= 1024;
		i++;
	}
	snprintf(buf, UNIT_TEXT, "%.2f %s", v, names[i]);
	return buf;
}
