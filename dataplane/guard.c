// SPDX-License-Identifier: BSD-3-Clause
// The handler of SIGBUS. Installed by a control thread; runs on whatever thread the signal hits.
//
// Invariant: only a thread inside a flow's turn jumps. The turn holds no lock and leaves nothing
// half made but its own flow, which is over then. A SIGBUS anywhere else ends the process as it
// would without us.

#include "guard.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

_Thread_local struct guard *guard_here;

static void on_sigbus(int sig, siginfo_t *info, void *context)
{
	struct guard *g = guard_here;

	(void)context;
	if (g != NULL && info->si_code > 0) { // from the kernel, not sent by a process
		g->addr = (uintptr_t)info->si_addr;
		guard_here = NULL;
		siglongjmp(g->env, 1);
	}
	// Returning repeats the access, and then the default action ends the process.
	signal(sig, SIG_DFL);
	if (info->si_code <= 0)
		raise(sig);
}

int guard_install(void)
{
	// NODEFER: the jump leaves the handler, and sigsetjmp() saved no mask to restore.
	struct sigaction sa = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_NODEFER};

	sigemptyset(&sa.sa_mask);
	return sigaction(SIGBUS, &sa, NULL) == 0 ? 0 : -errno;
}
