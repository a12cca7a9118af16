/* SPDX-License-Identifier: BSD-3-Clause */
/* The text that metrics are exposed as: OpenMetrics 1.0, which Prometheus reads. Families are
 * written one after the other, each with all of its samples; expo_end() closes the text. */
#ifndef GODWIT_CONTROL_EXPO_H
#define GODWIT_CONTROL_EXPO_H

#include <stdint.h>
#include <stdio.h>

/* What a client is told that it gets. */
#define EXPO_CONTENT_TYPE "application/openmetrics-text; version=1.0.0; charset=utf-8"

/* type: "counter" (its samples' suffix is "_total"), "gauge", "info" ("_info"), "histogram".
 * help: one line. */
void expo_family(FILE *out, const char *name, const char *type, const char *help);

/* One sample. labels: names and values by turns, NULL at the end; values may hold anything. */
void expo_count(FILE *out, const char *name, const char *suffix, uint64_t value, ...)
	__attribute__((sentinel));
void expo_number(FILE *out, const char *name, const char *suffix, double value, ...)
	__attribute__((sentinel));

void expo_end(FILE *out);

#endif
