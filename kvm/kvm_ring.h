/* SPDX-License-Identifier: BSD-3-Clause */
/* Dirty source "kvm-ring": what a VMM that uses dirty rings tells it. */
#ifndef GODWIT_KVM_KVM_RING_H
#define GODWIT_KVM_KVM_RING_H

#include <stdint.h>

#include "source.h"

#define RING_VCPUS 1024u

/* The vCPUs of a VM whose rings have ring_bytes each. fd is written before n (release). */
struct ring_vcpus {
	uint32_t ring_bytes;
	uint32_t n;
	int fd[RING_VCPUS];
};

/* vCPU (by its place in ring_vcpus) left KVM_RUN with KVM_EXIT_DIRTY_RING_FULL: makes room. Short;
 * on that vCPU's thread, whether tracking is on or not. 0 or -errno. */
int kvm_ring_full(struct source *s, unsigned vcpu);

/* Times that a ring overran since open, and all of memory was taken as dirty. */
uint64_t kvm_ring_overruns(const struct source *s);

#endif
