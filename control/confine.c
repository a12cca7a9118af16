// SPDX-License-Identifier: BSD-3-Clause
// Least privilege of the daemon, and of what looks into VMMs for it. Run by main at the start.
//
// The lists stand here, each entry with whom it is for; test_confine.c tries what must be refused.

#include "confine.h"

#include <errno.h>
#include <linux/capability.h>
#include <sched.h>
#include <seccomp.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What stays, where the daemon had it. */
static const int kept[] = {
	CAP_CHOWN,            /* the API socket's group */
	CAP_DAC_OVERRIDE,     /* sockets and RAM files of VMMs that run as other users */
	CAP_DAC_READ_SEARCH,  /* the same */
	CAP_FOWNER,           /* the same */
	CAP_IPC_LOCK,         /* huge pages */
	CAP_KILL,             /* a VMM that has to end */
	CAP_NET_BIND_SERVICE, /* --listen below 1024, when the start is made anew */
	CAP_NET_ADMIN,        /* larger socket buffers, ports of the nic link */
	CAP_NET_RAW,          /* the same */
	CAP_SYS_NICE,         /* memory on a node */
	CAP_SYS_RESOURCE,     /* open files */
};

/* What godwit-attach keeps. */
static const int kept_to_attach[] = {
	CAP_CHECKPOINT_RESTORE, /* the files behind mappings */
	CAP_DAC_OVERRIDE,       /* of VMMs that run as other users */
	CAP_DAC_READ_SEARCH,    /* the same */
	CAP_SYS_ADMIN,          /* a VMM's seccomp filters, its files on older kernels */
	CAP_SYS_PTRACE,         /* a call within the VMM; its page tables */
};

/* What only godwit-attach does. */
static const int left_to_attach[] = {
	SCMP_SYS(ptrace),
	SCMP_SYS(process_vm_readv),
	SCMP_SYS(process_vm_writev),
	SCMP_SYS(pidfd_getfd),
};

/* None is made by a daemon at work; each would help whoever takes it over. */
static const int refused[] = {
	/* another root, another kernel, another clock */
	SCMP_SYS(chroot),
	SCMP_SYS(pivot_root),
	SCMP_SYS(mount),
	SCMP_SYS(umount2),
	SCMP_SYS(fsopen),
	SCMP_SYS(fspick),
	SCMP_SYS(fsconfig),
	SCMP_SYS(fsmount),
	SCMP_SYS(open_tree),
	SCMP_SYS(move_mount),
	SCMP_SYS(mount_setattr),
	SCMP_SYS(setns),
	SCMP_SYS(unshare),
	SCMP_SYS(init_module),
	SCMP_SYS(finit_module),
	SCMP_SYS(delete_module),
	SCMP_SYS(kexec_load),
	SCMP_SYS(kexec_file_load),
	SCMP_SYS(reboot),
	SCMP_SYS(swapon),
	SCMP_SYS(swapoff),
	SCMP_SYS(acct),
	SCMP_SYS(settimeofday),
	SCMP_SYS(clock_settime),
	SCMP_SYS(adjtimex),
	SCMP_SYS(clock_adjtime),
	SCMP_SYS(sethostname),
	SCMP_SYS(setdomainname),
	SCMP_SYS(syslog),
	SCMP_SYS(quotactl),
	/* another user */
	SCMP_SYS(setuid),
	SCMP_SYS(setgid),
	SCMP_SYS(setreuid),
	SCMP_SYS(setregid),
	SCMP_SYS(setresuid),
	SCMP_SYS(setresgid),
	SCMP_SYS(setfsuid),
	SCMP_SYS(setfsgid),
	SCMP_SYS(setgroups),
	SCMP_SYS(capset),
	/* ways around: devices, handles, kernel code, keys, queues of calls */
	SCMP_SYS(mknod),
	SCMP_SYS(mknodat),
	SCMP_SYS(open_by_handle_at),
	SCMP_SYS(ioperm),
	SCMP_SYS(iopl),
	SCMP_SYS(bpf),
	SCMP_SYS(perf_event_open),
	SCMP_SYS(add_key),
	SCMP_SYS(request_key),
	SCMP_SYS(keyctl),
	SCMP_SYS(personality),
	SCMP_SYS(io_uring_setup),
	SCMP_SYS(process_madvise),
};

/* What clone may make no new one of; threads and programs it may. */
static const unsigned namespaces[] = {CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC,
	CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET};

const int *confine_refused(size_t *n)
{
	*n = sizeof(refused) / sizeof(refused[0]);
	return refused;
}

int confine_capabilities(enum confine_role role, struct err *e)
{
	const int *list = role == CONFINE_DAEMON ? kept : kept_to_attach;
	size_t n = role == CONFINE_DAEMON ? sizeof(kept) / sizeof(kept[0])
					  : sizeof(kept_to_attach) / sizeof(kept_to_attach[0]);
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];
	uint64_t keep = 0;

	for (size_t i = 0; i < n; i++)
		keep |= UINT64_C(1) << list[i];
	for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		/* Without CAP_SETPCAP, as another user, there is nothing to drop it for. */
		if (!(keep >> cap & 1) && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) != 0 &&
			errno != EPERM)
			return err_sys(e, errno, "cannot give up capability %d", cap);
	if (syscall(SYS_capget, &head, data) != 0)
		return err_sys(e, errno, "cannot tell which capabilities there are");
	for (unsigned i = 0; i < 2; i++) {
		data[i].permitted &= (uint32_t)(keep >> 32 * i);
		data[i].effective &= data[i].permitted;
		data[i].inheritable = 0;
	}
	if (syscall(SYS_capset, &head, data) != 0)
		return err_sys(e, errno, "cannot give up capabilities");
	return 0;
}

static int refuse(scmp_filter_ctx filter, const int *calls, size_t n)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < n; i++)
		rc = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), calls[i], 0);
	return rc;
}

/* clone3 has its flags in memory, where no filter sees them: to libc it is not there, and clone is
 * what it takes instead. */
static int refuse_namespaces(scmp_filter_ctx filter)
{
	int rc = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);

	for (size_t i = 0; rc == 0 && i < sizeof(namespaces) / sizeof(namespaces[0]); i++)
		rc = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1,
			SCMP_A0(SCMP_CMP_MASKED_EQ, namespaces[i], namespaces[i]));
	return rc;
}

int confine_calls(enum confine_role role, struct err *e)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
	int rc = filter == NULL ? -ENOMEM : 0;

	/* Other threads too; and PR_SET_NO_NEW_PRIVS, which is the library's default. */
	if (rc == 0)
		rc = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
	/* Older kernels would slow all code down for a filter's sake; ours runs no foreign code. */
	if (rc == 0)
		rc = seccomp_attr_set(filter, SCMP_FLTATR_CTL_SSB, 1);
	if (rc == 0)
		rc = refuse(filter, refused, sizeof(refused) / sizeof(refused[0]));
	if (rc == 0)
		rc = refuse_namespaces(filter);
	if (rc == 0 && role == CONFINE_DAEMON)
		rc = refuse(
			filter, left_to_attach, sizeof(left_to_attach) / sizeof(left_to_attach[0]));
	if (rc == 0)
		rc = seccomp_load(filter);
	seccomp_release(filter);
	return rc == 0 ? 0 : err_sys(e, -rc, "cannot filter system calls (seccomp)");
}
