/* SPDX-License-Identifier: BSD-3-Clause */
/* A VMM without a guest, on libgodwit: counts its callbacks. And a daemon's end of the socket. */
#ifndef GODWIT_TESTS_VMM_H
#define GODWIT_TESTS_VMM_H

#include <stdatomic.h>
#include <stdint.h>

#include "agent_proto.h"
#include "godwit.h"
#include "guest32.h"

#define VMM_BYTES    (3 * CHUNK_BYTES + 5 * PAGE_BYTES)
#define VMM_RING_GPA 0x100000u

struct vmm {
	struct godwit *g;
	char path[108];
	int fd;
	uint8_t *mem;
	atomic_int tracking, free_id; /* as the callbacks were told last */
	atomic_int pauses, resumes, saves, loads, ends, percent;
	atomic_int fail; /* what the next callback returns */
};

/* Starts it, on a path of its own or on the given one. 0, or -errno with the reason in why. */
int vmm_open(struct vmm *v, int incoming, char why[256]);
int vmm_open_at(struct vmm *v, const char *path, int incoming, char why[256]);
/* One whose guest memory is slot 0 of that KVM VM: tracked by KVM's log. */
int vmm_open_kvm(struct vmm *v, int vm_fd, char why[256]);
/* One whose guest memory is at VMM_RING_GPA of a KVM guest with a dirty ring, which the caller
 * closes after it. 1 with the reason to skip in e. */
int vmm_open_ring(struct vmm *v, struct guest32 **guest, uint32_t ring_bytes, struct err *e);
void vmm_close(struct vmm *v);
/* Waits up to 5 s for the guest to get into a state. */
int vmm_wait(struct vmm *v, enum godwit_state s);

/* Opens it, or fails the test, and connects to it. */
int vmm_start(struct vmm *v, int incoming);
/* Connects to its socket; blocks on it. */
int vmm_connect(const struct vmm *v);
/* One request and its answer; the answer's status. */
int vmm_ask(int sock, uint16_t type, uint64_t a, uint64_t b, int fd, struct agent_msg *answer);
/* Says hello; 0 or its status. planes: NULL, or gets the mapped planes (out first). */
int vmm_hello(int sock, uint64_t **planes, struct agent_hello *h);

#endif
