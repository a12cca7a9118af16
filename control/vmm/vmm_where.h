/* SPDX-License-Identifier: BSD-3-Clause */
/* Where a VMM of this host is, and which driver speaks to it: what the command line gives, what a
 * session and its journal keep. */
#ifndef GODWIT_CONTROL_VMM_WHERE_H
#define GODWIT_CONTROL_VMM_WHERE_H

#include <jansson.h>
#include <stdbool.h>

enum vmm_driver {
	VMM_AGENT, /* a VMM that links libgodwit: the socket is its agent's */
	VMM_QEMU,  /* an unmodified QEMU: the socket is its QMP monitor's */
	VMM_DRIVERS
};

#define VMM_SOCKET_BYTES 108u /* of a unix socket's path, with the NUL */

struct vmm_where {
	enum vmm_driver driver;
	char socket[VMM_SOCKET_BYTES];
	int pid;           /* qemu: its process; 0: whoever listens on the socket */
	bool cached_disks; /* qemu: disks that bypass the page cache use it while they migrate */
	bool shared_disks; /* qemu: each is the same at the target, the operator says */
	struct helper *by; /* qemu: who looks into its process, helper.h; NULL: this process */
};

const char *vmm_driver_name(enum vmm_driver d);

/* Adds "driver", "socket" and, where it was given, "pid" to an object. */
void vmm_where_to_json(const struct vmm_where *w, json_t *object);
/* False when they are not there, or no such driver is known. */
bool vmm_where_from_json(struct vmm_where *w, const json_t *object);

#endif
