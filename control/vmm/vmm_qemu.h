/* SPDX-License-Identifier: BSD-3-Clause */
/* The inside of the driver for an unmodified QEMU: vmm_qemu.c (the thread and its queues),
 * vmm_qemu_do.c (what each request does), vmm_qemu_hello.c (the first of them), vmm_qemu_track.c
 * (the dirty source). One thread for each QEMU does all that waits; the loop only hands requests
 * over and answers back. */
#ifndef GODWIT_CONTROL_VMM_QEMU_H
#define GODWIT_CONTROL_VMM_QEMU_H

#include <event2/event.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/queue.h>

#include "godwit.h"
#include "keeper.h"
#include "qemu.h"
#include "qemu_tune.h"
#include "source.h"
#include "vmm.h"

struct vmm_qemu_ask {
	STAILQ_ENTRY(vmm_qemu_ask) next;
	uint16_t type;
	uint64_t a, b;
	int fd; /* a duplicate; -1: none */
	struct vmm_answer answer;
	vmm_fn done;
	void *arg;
};
STAILQ_HEAD(vmm_qemu_asks, vmm_qemu_ask);

struct vmm_qemu {
	struct vmm vmm;   /* filled by the thread before the first answer, then the loop's */
	atomic_uint refs; /* loop and thread: the last one frees */

	/* loop only */
	struct event *answered;
	bool in_callback; /* then close only marks, and the loop lets go later */
	bool closed;

	/* both, under the lock */
	pthread_mutex_t lock;
	struct vmm_qemu_asks asks;    /* to the thread */
	struct vmm_qemu_asks answers; /* to the loop */
	bool quit;
	bool gone; /* why is set, and to be told */
	struct err why;
	int ask_fd;    /* eventfd, semaphore: one for each ask; readable too once quit is set */
	int quit_fd;   /* eventfd: the thread's waiting ends */
	int answer_fd; /* eventfd */

	/* thread only */
	struct vmm_where where;
	unsigned deadline_ms;
	struct qemu qemu;
	enum godwit_state state;
	struct keeper *keeper;
	json_t *undo_disks, *undo_tuning; /* commands that put things back; NULL: nothing */
	bool untunes;                     /* undo_tuning is due, see vmm_qemu_tidy() */
	bool was_running;                 /* before the pause */
	bool stopped;                     /* the guest was told to stop by us */
	bool woken;                       /* the guest was resumed, and not by us */
	struct attach *attach;
	struct source *source;
	bool unarmed; /* the source is new: neither looked at nor armed yet */
};

/* One request, checked by the table of states before; fills answer. Thread only. 0 or -errno. */
int vmm_qemu_do(struct vmm_qemu *q, struct vmm_qemu_ask *ask, struct err *e);
/* After the answer: puts back what was tuned for device state that is whole now. The guest stands
 * still, and nobody is to wait for that. */
void vmm_qemu_tidy(struct vmm_qemu *q);
/* The keeper is there, and holds what takes back all that was changed or is about to be. */
int vmm_qemu_secure(struct vmm_qemu *q, struct err *e);
/* QEMU is not spoken to any more from here, and its guest stands still: once this is closed, the
 * keeper, which is there, has it go on. */
bool vmm_qemu_leased(struct vmm_qemu *q);
/* The thread ends: what is not QEMU's own is put back. The keeper does the rest. */
void vmm_qemu_leave(struct vmm_qemu *q);
/* An event of QEMU's. */
void vmm_qemu_event(void *arg, const char *event, const json_t *data);

/* vmm_qemu_hello.c: HELLO; and before the pause once more what stands against moving the guest. */
int vmm_qemu_hello(struct vmm_qemu *q, struct err *e);
int vmm_qemu_check_again(struct vmm_qemu *q, struct err *e);

/* vmm_qemu_track.c */
int vmm_qemu_track(struct vmm_qemu *q, struct vmm_answer *answer, struct err *e);
/* warn: what could not be put back. */
void vmm_qemu_untrack(struct vmm_qemu *q, struct err *warn);
void vmm_qemu_drop_tracker(struct vmm_qemu *q);
int vmm_qemu_look(struct vmm_qemu *q, bool last, struct vmm_answer *answer, struct err *e);
int vmm_qemu_arm(
	struct vmm_qemu *q, uint64_t first, uint64_t n, struct vmm_answer *answer, struct err *e);
int vmm_qemu_put_back(struct vmm_qemu *q, uint64_t first, uint64_t n, struct err *e);

#endif
