/* SPDX-License-Identifier: BSD-3-Clause */
/* The views of all regions, each with the dirty log of its slot: for sources that use KVM's. */
#ifndef GODWIT_KVM_LOG_VIEWS_H
#define GODWIT_KVM_LOG_VIEWS_H

#include "slot_log.h"
#include "source.h"

struct log_view {
	const struct region *r;
	const struct view *v;
	uint32_t flags; /* of the slot */
	bool on;
	struct slot_log log;
};

struct log_views {
	int vm_fd;
	unsigned n;
	struct log_view *v;
};

/* 0 or -ENOMEM with e set; fini either way. */
int log_views_init(struct log_views *l, const struct source_config *c, struct err *e);
void log_views_fini(struct log_views *l);

/* Switches the log of every slot that is not so yet. 0 or -errno with e set; off goes on after a
 * failure. */
int log_views_on(struct log_views *l, struct err *e);
int log_views_off(struct log_views *l, struct err *e);

/* Where a get clears the kernel's log: gets one slot's, and moves what it returned to pending. */
struct marks;
int log_view_take(struct log_view *lv, struct marks *pending);

#endif
