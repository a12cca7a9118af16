/* SPDX-License-Identifier: BSD-3-Clause */
/* Seccomp filters: whether they let a system call pass, worked out without making it. Classic BPF
 * over struct seccomp_data (seccomp(2), Documentation/userspace-api/seccomp_filter.rst). */
#ifndef GODWIT_KVM_SYSFILTER_H
#define GODWIT_KVM_SYSFILTER_H

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>

/* What the program returns for this call: SECCOMP_RET_*. A program that is none, or that does not
 * end, counts as SECCOMP_RET_KILL_PROCESS. */
unsigned sysfilter_run(const struct sock_filter *code, unsigned n, const struct seccomp_data *call);

/* Nothing happens to the call but that it is made, perhaps with a line in a log. */
bool sysfilter_passes(unsigned action);

#endif
