/* SPDX-License-Identifier: BSD-3-Clause */
/* A model of one migration, small enough to play every history of it: 3 pages, pass 0, pass 1 and a
 * last pass that repeats; a guest, a device of the VMM's, a balloon, free-page reports, and a wire
 * that loses, damages and repeats frames. Each law can be taken away. */
#ifndef GODWIT_TESTS_MODEL_LAWS_H
#define GODWIT_TESTS_MODEL_LAWS_H

#include <stdbool.h>
#include <stdint.h>

enum rule {
	RULE_NONE,
	RULE_1_ARM_FIRST,  /* a page is armed before it is read */
	RULE_1_PUT_BACK,   /* what was not acknowledged returns to the set */
	RULE_1_ONLY_SEEN,  /* only bits that were got are cleared */
	RULE_2_ALL,        /* the device's writes count */
	RULE_2_LAST_BYTE,  /* they are told after the bytes */
	RULE_3_ARM_AGAIN,  /* what was written since the report, or is being armed, is sent */
	RULE_3_ID,         /* an answer that comes after its pass changes nothing */
	RULE_3_POISON,     /* no reports where free pages hold something else than 0 */
	RULE_4_MUST_TELL,  /* the guest tells before it uses a page of the balloon */
	RULE_4_DIRTY,      /* a page that leaves the balloon is dirty */
	RULE_5_STALE,      /* frames of a closed pass are dropped */
	RULE_5_REPEAT,     /* the last pass repeats until nothing is left */
	RULE_10_CHECK,     /* a damaged frame is not placed */
	RULE_10_RESEND,    /* its pages return to the set */
	RULE_11_NEW_HOLES, /* a page that becomes a hole becomes one at the target */
	RULE_11_FRESH,     /* the target's file holds nothing from before */
	RULES
};
extern const char *const rule_name[RULES];

/* How a run differs from another. */
struct laws {
	enum rule without; /* the rule that is taken away */
	bool consuming; /* arm takes reports that no look has shown (PAGEMAP_SCAN); else KVM's log
			 */
	bool poison;    /* free pages hold a value other than 0 */
	unsigned guest_ops; /* the guest and the device do so many things */
	unsigned wire_ops;  /* and the wire */
};

struct laws_result {
	uint64_t states, ends;
	bool broken;
	char how[2000]; /* the history that broke it */
};

/* Plays every history, until one leaves the target with other memory than the source. */
void laws_run(const struct laws *l, struct laws_result *r);

#endif
