/* SPDX-License-Identifier: BSD-3-Clause */
/* Joins the virtual machine with libgodwit: how a VMM answers a migration. */
#ifndef GODWIT_VM_MIGRATE_H
#define GODWIT_VM_MIGRATE_H

#include <pthread.h>

#include "godwit.h"
#include "hint.h"
#include "vm.h"

struct migrate {
	struct vm *vm;
	struct godwit *agent; /* NULL: nobody can move this guest */
	pthread_t main_thread;
	int wake_signal;
	pthread_mutex_t lock; /* of said */
	int said;             /* the state that was printed last; enum godwit_state or -1 */
	int ended;            /* atomic: end() was called */
	struct hint hint;
	unsigned vcpus; /* told to the library */
	bool ran_here;  /* the guest ran here before it went */
};

/* Registers the guest's memory and listens on vm->opt.agent. 0, or -errno with a sentence. */
int migrate_start(
	struct migrate *m, struct vm *vm, pthread_t main_thread, int wake_signal, struct err *e);
void migrate_stop(struct migrate *m);

/* Prints "state NAME" if that is news. */
void migrate_say(struct migrate *m, enum godwit_state state);

#endif
