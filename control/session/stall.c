// SPDX-License-Identifier: BSD-3-Clause
// Stall: what the vCPUs of a guest lose while their writes are tracked. Run by the control loop at
// the source: once when the VMM is met, once before tracking, then at a slow pace. A thread that
// goes, or can't be looked at, is left out whole.

#include "stall.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clock.h"

static uint64_t boottime_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

/* Takes the times of all threads; the one at moment (an offset into stall_vcpu) is filled. */
static uint64_t look(struct stall *s, size_t moment)
{
	for (unsigned i = 0; i < s->n;) {
		struct stall_vcpu *v = &s->v[i];
		struct vcpus_time *t = (struct vcpus_time *)((char *)v + moment);

		if (vcpus_time(s->pid, v->tid, t, &v->born_ns) == 0)
			i++;
		else
			*v = s->v[--s->n];
	}
	return boottime_ns();
}

void stall_begin(struct stall *s, pid_t pid, const pid_t *tids, unsigned n)
{
	stall_fini(s);
	s->pid = pid;
	s->v = calloc(n > 0 ? n : 1, sizeof(*s->v));
	if (s->v == NULL)
		return;
	for (unsigned i = 0; i < n; i++)
		s->v[i].tid = tids[i];
	s->n = n;
	s->first_ns = look(s, offsetof(struct stall_vcpu, first));
}

void stall_arm(struct stall *s)
{
	if (s->v != NULL && s->armed_ns == 0)
		s->armed_ns = look(s, offsetof(struct stall_vcpu, armed));
}

void stall_look(struct stall *s)
{
	if (s->armed_ns != 0)
		s->last_ns = look(s, offsetof(struct stall_vcpu, last));
}

void stall_fini(struct stall *s)
{
	free(s->v);
	memset(s, 0, sizeof(*s));
}

/* now less then, less what would have passed at the baseline's pace; never below 0. */
static uint64_t lost(
	uint64_t now, uint64_t then, uint64_t base, uint64_t base_ns, uint64_t elapsed_ns)
{
	uint64_t took = now > then ? now - then : 0;
	double usual = base_ns > 0 ? (double)base / (double)base_ns * (double)elapsed_ns : 0;

	return (double)took > usual ? took - (uint64_t)usual : 0;
}

bool stall_figure(const struct stall *s, struct stall_figures *f)
{
	uint64_t window = s->armed_ns - s->first_ns;

	memset(f, 0, sizeof(*f));
	if (s->n == 0 || s->armed_ns == 0 || s->last_ns <= s->armed_ns)
		return false;
	f->vcpus = s->n;
	f->over_ns = s->last_ns - s->armed_ns;
	f->whole_life = window < STALL_WINDOW_NS;
	for (unsigned i = 0; i < s->n; i++) {
		const struct stall_vcpu *v = &s->v[i];
		struct vcpus_time from = f->whole_life ? (struct vcpus_time){0} : v->first;
		uint64_t base_ns =
			f->whole_life ? (s->armed_ns > v->born_ns ? s->armed_ns - v->born_ns : 0)
				      : window;

		f->kernel_ns += lost(v->last.kernel_ns, v->armed.kernel_ns,
			v->armed.kernel_ns - from.kernel_ns, base_ns, f->over_ns);
		f->wait_ns += lost(v->last.wait_ns, v->armed.wait_ns,
			v->armed.wait_ns - from.wait_ns, base_ns, f->over_ns);
	}
	return true;
}
