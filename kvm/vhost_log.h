/* SPDX-License-Identifier: BSD-3-Clause */
/* Dirty source "vhost-log": what vhost and vhost-user back ends say they wrote. */
#ifndef GODWIT_KVM_VHOST_LOG_H
#define GODWIT_KVM_VHOST_LOG_H

#include <stddef.h>
#include <stdint.h>

#include "source.h"

#define VHOST_LOG_PAGE UINT64_C(4096)

/* The log region, for SET_LOG_BASE: a memfd for a back end in another process, *base for one in the
 * kernel. One bit for each 4 KiB from guest address 0, bit 0 of byte 0 first; a back end sets bits
 * with an atomic OR. Both live as long as the source. */
int vhost_log_area(const struct source *s, uint64_t *bytes, void **base);

#endif
