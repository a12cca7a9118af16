/* SPDX-License-Identifier: BSD-3-Clause */
/* ioctl() whose argument's size is checked against the request's at compile time, and which goes
 * round after EINTR. Returns what the kernel returned, or -errno. */
#ifndef GODWIT_KVM_IOCTL_H
#define GODWIT_KVM_IOCTL_H

#include <linux/ioctl.h>

/* The request takes a pointer to a struct. */
#define ioctl_ptr(fd, req, arg)                                                                    \
	({                                                                                         \
		_Static_assert(                                                                    \
			sizeof(*(arg)) == _IOC_SIZE(req), "ioctl argument of a wrong type");       \
		ioctl_call_ptr((fd), (req), (arg));                                                \
	})

/* The request takes a number, or nothing (0). */
#define ioctl_val(fd, req, val)                                                                    \
	({                                                                                         \
		_Static_assert(_IOC_SIZE(req) == 0, "ioctl takes a pointer");                      \
		ioctl_call_val((fd), (req), (val));                                                \
	})

/* Behind the macros; call those. */
int ioctl_call_ptr(int fd, unsigned long req, void *arg);
int ioctl_call_val(int fd, unsigned long req, unsigned long val);

#endif
