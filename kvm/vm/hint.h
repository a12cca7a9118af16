/* SPDX-License-Identifier: BSD-3-Clause */
/* The balloon device of godwit-vm, and the guest's reports of free pages: what the guest tells by
 * its ports goes to libgodwit. */
#ifndef GODWIT_VM_HINT_H
#define GODWIT_VM_HINT_H

#include <stdint.h>

#include "godwit.h"
#include "vm.h"

struct hint {
	struct vm *vm;
	struct godwit *agent;
	uint32_t id;       /* atomic: of the request for free pages; 0: none */
	uint64_t asked_ns; /* atomic: when it came */
	uint32_t runs;     /* atomic: reported for it so far */
	unsigned ended;    /* atomic: vCPUs that have told all */
};

/* A guest is here that runs with this library: tells its balloon, if it has one. */
void hint_begin(struct hint *h, struct vm *vm, struct godwit *agent);
/* The callback free_request. */
void hint_request(struct hint *h, uint32_t id);
/* A vCPU wrote (ask: reads) one of the ports PORT_FREE ... PORT_DEFLATE; on its thread. Returns the
 * value for a read. */
uint32_t hint_port(struct hint *h, unsigned vcpu, uint16_t port, bool ask);

#endif
