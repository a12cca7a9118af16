/* SPDX-License-Identifier: BSD-3-Clause */
/* What this host's kernel offers for finding written pages: asked without a guest, so that an
 * operator knows before one is there. Any thread. */
#ifndef GODWIT_KVM_PROBE_H
#define GODWIT_KVM_PROBE_H

#include <stdint.h>

/* KVM's capabilities, of the host as a whole. */
struct probe_kvm {
	int manual_protect;  /* KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2: its flags; 0: GET clears all */
	uint32_t ring_bytes; /* largest dirty ring of a vCPU; 0: none */
	int memslots;        /* KVM_CAP_NR_MEMSLOTS */
};

/* 0, or -errno: no /dev/kvm, no right to open it; ENOTTY: what is there is not KVM. */
int probe_kvm(struct probe_kvm *p);

/* userfaultfd in asynchronous write-protect mode: 0, or -errno as uffd_open() says. */
int probe_uffd(void);

/* PAGEMAP_SCAN: 0, or -errno: ENOTTY before Linux 6.7. */
int probe_pagemap(void);

#endif
