// SPDX-License-Identifier: BSD-3-Clause
// The text that metrics are exposed as. Pure but for the printing; follows OpenMetrics 1.0.
// Invariant: whatever a label's value holds, it stays one value on one line.

#include "expo.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>

void expo_family(FILE *out, const char *name, const char *type, const char *help)
{
	fprintf(out, "# TYPE %s %s\n# HELP %s %s.\n", name, type, name, help);
}

static void put_value(FILE *out, const char *value)
{
	for (; *value != '\0'; value++) {
		if (*value == '\n')
			fputs("\\n", out);
		else if (*value == '\\' || *value == '"')
			fprintf(out, "\\%c", *value);
		else
			fputc(*value, out);
	}
}

static void put_name(FILE *out, const char *name, const char *suffix, va_list labels)
{
	const char *label, *before = "{";

	fprintf(out, "%s%s", name, suffix);
	while ((label = va_arg(labels, const char *)) != NULL) {
		fprintf(out, "%s%s=\"", before, label);
		put_value(out, va_arg(labels, const char *));
		fputc('"', out);
		before = ",";
	}
	fputs(*before == ',' ? "} " : " ", out);
}

void expo_count(FILE *out, const char *name, const char *suffix, uint64_t value, ...)
{
	va_list labels;

	va_start(labels, value);
	put_name(out, name, suffix, labels);
	va_end(labels);
	fprintf(out, "%" PRIu64 "\n", value);
}

void expo_number(FILE *out, const char *name, const char *suffix, double value, ...)
{
	va_list labels;

	va_start(labels, value);
	put_name(out, name, suffix, labels);
	va_end(labels);
	if (isfinite(value))
		fprintf(out, "%.9g\n", value);
	else
		fputs(isnan(value) ? "NaN\n" : value > 0 ? "+Inf\n" : "-Inf\n", out);
}

void expo_end(FILE *out)
{
	fputs("# EOF\n", out);
}
