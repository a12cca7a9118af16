/* SPDX-License-Identifier: BSD-3-Clause */
/* What stands against moving a guest, each with its cure: what doctor and preflight print. */
#ifndef GODWIT_KVM_FINDING_H
#define GODWIT_KVM_FINDING_H

#define FINDINGS_MOST 64u

struct finding {
	char name[32];  /* for programs: "ram-private" */
	char text[256]; /* one sentence: what, on what */
	char cure[256]; /* what to do */
};

struct findings {
	unsigned n;
	unsigned left_out; /* found beyond FINDINGS_MOST */
	struct finding f[FINDINGS_MOST];
};

/* Adds all of another list. */
void findings_add(struct findings *all, const struct findings *more);

/* Adds one. cure is plain text, the sentence a format. */
void finding_add(struct findings *all, const char *name, const char *cure, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

#endif
