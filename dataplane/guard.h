/* SPDX-License-Identifier: BSD-3-Clause */
/* Guest memory that goes away under a polling core: the VMM shrank its file, the tmpfs is full, the
 * pool of huge pages is empty. The kernel says SIGBUS; that ends one flow and nothing else. */
#ifndef GODWIT_DATAPLANE_GUARD_H
#define GODWIT_DATAPLANE_GUARD_H

#include <setjmp.h>
#include <stdint.h>

struct guard {
	sigjmp_buf env;
	uintptr_t addr; /* what could not be reached */
};

/* Installs the process's handler; again does no harm. Control thread, before a flow is polled. 0 or
 * -errno. */
int guard_install(void);

/* Where this thread's SIGBUS goes; NULL: nowhere, it ends the process. */
extern _Thread_local struct guard *guard_here;

/* Nonzero when it returns a second time: the turn ended with SIGBUS, at g->addr. Must stand in the
 * function that outlives the turn, so it is no function itself. */
#define guard_enter(g) (guard_here = (g), sigsetjmp((g)->env, 0))
#define guard_leave()  ((void)(guard_here = NULL))

#endif
