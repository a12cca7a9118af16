// SPDX-License-Identifier: BSD-3-Clause
// What all VMM drivers share. Run by the control loop.

#include "vmm.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

void vmm_ask(struct vmm *v, uint16_t type, uint64_t a, uint64_t b, int fd, vmm_fn done, void *arg)
{
	v->ops->ask(v, type, a, b, fd, done, arg);
}

void vmm_close(struct vmm *v)
{
	if (v != NULL)
		v->ops->close(v);
}

bool vmm_ended(const struct vmm *v)
{
	struct pollfd p = {.fd = v->pidfd, .events = POLLIN};

	return v->pidfd >= 0 && poll(&p, 1, 0) == 1;
}

bool vmm_kill(struct vmm *v, unsigned wait_ms)
{
	struct pollfd p = {.fd = v->pidfd, .events = POLLIN};

	if (v->pidfd < 0)
		return false;
	if (syscall(SYS_pidfd_send_signal, v->pidfd, SIGKILL, NULL, 0) < 0 && errno == ESRCH)
		return true;
	return poll(&p, 1, (int)wait_ms) == 1;
}
