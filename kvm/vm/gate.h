/* SPDX-License-Identifier: BSD-3-Clause */
/* The gate that every vCPU thread passes between two bursts of work: closed for any of several
 * reasons, it holds them. */
#ifndef GODWIT_VM_GATE_H
#define GODWIT_VM_GATE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

enum gate_reason {
	GATE_AGENT = 1 << 0,    /* paused by a migration */
	GATE_CHECK = 1 << 1,    /* held while memory is checked */
	GATE_NO_GUEST = 1 << 2, /* incoming, or the guest has gone */
	GATE_ENDING = 1 << 3,   /* the program ends */
};

struct gate {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned reasons;
	unsigned inside; /* threads that are past the gate */
	bool quit;
	void (*kick)(
		void *arg); /* makes threads come to the gate soon; called with the lock held */
	void *kick_arg;
};

void gate_init(struct gate *g, unsigned reasons, void (*kick)(void *arg), void *kick_arg);

/* Closes for a reason and waits until nobody is inside. */
void gate_close(struct gate *g, unsigned reason);
/* Opens for a reason; threads go on when none is left. */
void gate_open(struct gate *g, unsigned reason);
/* Lets all threads leave for ever. */
void gate_quit(struct gate *g);
unsigned gate_reasons(struct gate *g);

/* For vCPU threads. enter: waits until the gate is open; false: leave for ever. must_leave: cheap
 * enough to ask in every burst. sleep: until the time, or until the gate closes. */
bool gate_enter(struct gate *g);
void gate_leave(struct gate *g);
bool gate_must_leave(const struct gate *g);
void gate_sleep(struct gate *g, uint64_t until_ns);

#endif
