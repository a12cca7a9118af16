// SPDX-License-Identifier: BSD-3-Clause
// A list of findings. Run by control threads; no state.

#include "finding.h"

#include <stdarg.h>
#include <stdio.h>

void finding_add(struct findings *all, const char *name, const char *cure, const char *fmt, ...)
{
	struct finding *f = &all->f[all->n];
	va_list ap;

	if (all->n == FINDINGS_MOST) {
		all->left_out++;
		return;
	}
	snprintf(f->name, sizeof(f->name), "%s", name);
	snprintf(f->cure, sizeof(f->cure), "%s", cure);
	va_start(ap, fmt);
	vsnprintf(f->text, sizeof(f->text), fmt, ap);
	va_end(ap);
	all->n++;
}

void findings_add(struct findings *all, const struct findings *more)
{
	for (unsigned i = 0; i < more->n && i < FINDINGS_MOST; i++)
		finding_add(all, more->f[i].name, more->f[i].cure, "%s", more->f[i].text);
	all->left_out += more->left_out;
}
