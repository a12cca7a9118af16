// SPDX-License-Identifier: BSD-3-Clause
// What all sessions of this daemon did since its start, for metrics and telemetry. Run by the
// control loop. Counters never go back: what a session has counted stays when it is forgotten.

#include "session_impl.h"

#include "expo.h"

#include <stdio.h>
#include <string.h>

static const char *const sides[] = {"source", "target"};
/* Upper bounds of the pause's histogram. */
static const char *const bounds[] = {"0.01", "0.03", "0.1", "0.3", "1.0", "3.0", "10.0", "+Inf"};
static const double bounds_s[] = {0.01, 0.03, 0.1, 0.3, 1, 3, 10};
#define BUCKETS (sizeof(bounds) / sizeof(bounds[0]))

/* Of sessions that have ended. */
static struct {
	uint64_t counters[2][STATS];
	uint64_t ended[2][RESULTS];
	uint64_t pauses[BUCKETS];
	double pause_s, stall_s;
} past;

static unsigned side(const struct session *s)
{
	return s->source ? 0 : 1;
}

static double stall_s(const struct session *s)
{
	struct stall_figures f;

	return stall_figure(&s->stall, &f) ? (double)(f.kernel_ns + f.wait_ns) / 1e9 : 0;
}

void totals_ended(struct session *s)
{
	unsigned bucket = 0;
	double pause_s = (double)s->fig.pause_ns / 1e9;

	for (unsigned i = 0; i < STATS; i++)
		past.counters[side(s)][i] += s->fig.stats[i];
	past.ended[side(s)][s->result]++;
	past.stall_s += stall_s(s);
	s->totalled = true;
	if (s->fig.pause_ns == 0)
		return;
	while (bucket + 1 < BUCKETS && pause_s > bounds_s[bucket])
		bucket++;
	past.pauses[bucket]++;
	past.pause_s += pause_s;
}

static void add_counters(void *arg, struct session *s)
{
	uint64_t(*sum)[STATS] = arg;

	if (s->totalled)
		return;
	session_sum_stats(s);
	for (unsigned i = 0; i < STATS; i++)
		sum[side(s)][i] += s->fig.stats[i];
}

void session_counters(uint64_t sum[2][STATS])
{
	memcpy(sum, past.counters, sizeof(past.counters));
	session_each(add_counters, sum);
}

static void put_counters(FILE *out)
{
	uint64_t sum[2][STATS];

	session_counters(sum);
	for (unsigned i = 0; i < STATS; i++) {
		char name[64];

		snprintf(name, sizeof(name), "godwit_%s", stats_name[i]);
		expo_family(out, name, "counter", stats_help[i]);
		for (unsigned d = 0; d < 2; d++)
			expo_count(out, name, "_total", sum[d][i], "side", sides[d], NULL);
	}
}

static void put_ended(FILE *out)
{
	uint64_t sum = 0;

	expo_family(out, "godwit_sessions_ended", "counter", "migrations that have ended");
	for (unsigned d = 0; d < 2; d++)
		for (unsigned r = RESULT_DONE; r < RESULTS; r++)
			expo_count(out, "godwit_sessions_ended", "_total", past.ended[d][r], "side",
				sides[d], "result", session_result_name(r), NULL);
	expo_family(out, "godwit_pause_seconds", "histogram", "pauses of guests that left");
	for (unsigned b = 0; b < BUCKETS; b++) {
		sum += past.pauses[b];
		expo_count(out, "godwit_pause_seconds", "_bucket", sum, "le", bounds[b], NULL);
	}
	expo_count(out, "godwit_pause_seconds", "_count", sum, NULL);
	expo_number(out, "godwit_pause_seconds", "_sum", past.pause_s, NULL);
	expo_family(out, "godwit_stall_seconds", "counter",
		"vCPU time that guests that left lost before their pauses");
	expo_number(out, "godwit_stall_seconds", "_total", past.stall_s, NULL);
}

/* A family of gauges, one sample for each session that has the figure. */
struct gauge {
	const char *name, *help;
	bool (*value)(const struct session *s, double *v);
};

static bool copies(const struct session *s)
{
	return s->source && s->have_pass;
}

static bool value_pass(const struct session *s, double *v)
{
	*v = s->next_pass;
	return copies(s);
}

static bool value_left(const struct session *s, double *v)
{
	const struct pass_facts *f = &s->pass.facts;
	uint64_t done =
		(s->fig.stats[STAT_bytes_pages] - s->seen.pass[STAT_bytes_pages]) / PAGE_BYTES;
	uint64_t all = f->dirty_pages + f->hole_pages;

	*v = all > done ? (double)(all - done) : 0;
	return copies(s);
}

static bool value_rate(const struct session *s, double *v)
{
	*v = (double)s->fig.pages_per_s;
	return copies(s) && s->fig.pages_per_s != 0;
}

static bool value_dirty(const struct session *s, double *v)
{
	*v = s->seen.dirty_per_s;
	return copies(s) && s->seen.dirty_known;
}

static bool value_stall(const struct session *s, double *v)
{
	struct stall_figures f;

	if (!s->source || !stall_figure(&s->stall, &f))
		return false;
	*v = (double)(f.kernel_ns + f.wait_ns) / 1e9;
	return true;
}

static const struct gauge gauges[] = {
	{"godwit_session_pass", "number of the pass that runs or comes next", value_pass},
	{"godwit_session_left_pages", "pages of this pass that are still to be moved", value_left},
	{"godwit_session_rate_pages", "pages moved a second, in the last pass that could tell",
		value_rate},
	{"godwit_session_dirty_pages", "distinct pages that the guest writes a second",
		value_dirty},
	{"godwit_session_stall_seconds", "vCPU time lost before the pause, so far", value_stall},
};

struct put {
	FILE *out;
	const struct gauge *gauge;
};

static void put_gauge(void *arg, struct session *s)
{
	const struct put *p = arg;
	double v;

	if (s->state != SESSION_ENDED && p->gauge->value(s, &v))
		expo_number(p->out, p->gauge->name, "", v, "name", s->name, NULL);
}

static void put_state(void *arg, struct session *s)
{
	if (s->state != SESSION_ENDED)
		expo_count(arg, "godwit_session_state", "", 1, "name", s->name, "side",
			sides[side(s)], "state", session_state_name[s->state], "stage",
			stage_table[s->stage].name, NULL);
}

void session_metrics(FILE *out)
{
	put_counters(out);
	put_ended(out);
	expo_family(out, "godwit_session_state", "gauge", "migrations under way, each with 1");
	session_each(put_state, out);
	for (unsigned i = 0; i < sizeof(gauges) / sizeof(gauges[0]); i++) {
		struct put p = {out, &gauges[i]};

		expo_family(out, gauges[i].name, "gauge", gauges[i].help);
		session_each(put_gauge, &p);
	}
}
