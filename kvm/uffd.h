/* SPDX-License-Identifier: BSD-3-Clause */
/* userfaultfd as a write tracker: write-protection that the kernel lifts by itself on the first
 * write (asynchronous mode), so that no thread waits. And as a way to ask a hugetlbfs file which of
 * its pages are there, which no other call tells. */
#ifndef GODWIT_KVM_UFFD_H
#define GODWIT_KVM_UFFD_H

#include <stdint.h>

/* A userfaultfd of this process with the features that tracking needs, huge pages too. fd, or
 * -errno: EPERM (vm.unprivileged_userfaultfd, seccomp), ENOSYS, EINVAL (before Linux 6.7). */
int uffd_open(void);

/* Asks a userfaultfd that was just made, of whichever process, for these features. Addresses below
 * are that process's. 0 or -errno: EINVAL (before Linux 6.7, or asked already). */
int uffd_begin(int uffd);

/* Registers a shared mapping for tracking; nothing is protected by that. 0 or -errno: EINVAL (the
 * backing can't be tracked), EBUSY (another userfaultfd has it). */
int uffd_track(int uffd, uint64_t addr, uint64_t bytes);

/* Write-protects the range, pages that are not there by a marker. 0 or -errno. */
int uffd_protect(int uffd, uint64_t addr, uint64_t bytes);

/* Ends the tracking, and lifts all protection. 0 or -errno. */
int uffd_untrack(int uffd, uint64_t addr, uint64_t bytes);

/* A userfaultfd of this process that can map what a hugetlbfs file holds already, and only that. fd
 * or -errno: EPERM, ENOSYS, EINVAL (before Linux 5.13). */
int uffd_open_lookup(void);
/* Registers a shared mapping that nobody touches: a touch would wait for ever. 0 or -errno. */
int uffd_lookup(int uffd, uint64_t addr, uint64_t bytes);
/* Maps huge pages from addr on up to the first that the file does not hold. The bytes mapped, 0
 * where the first is a hole, or -errno: EEXIST (it is mapped already), EIO and others (it is there
 * and can't be read). Allocates no page. */
int64_t uffd_lookup_run(int uffd, uint64_t addr, uint64_t bytes);

#endif
