/* SPDX-License-Identifier: BSD-3-Clause */
/* Between the parts of the dirty source "pagemap-scan". */
#ifndef GODWIT_KVM_PAGEMAP_SCAN_H
#define GODWIT_KVM_PAGEMAP_SCAN_H

#include "source.h"

/* Makes the source without testing it. */
int pagemap_scan_make(struct source **s, const struct source_config *c, struct err *e);

/* Writes, zaps, punches and refills pages of a scratch file of this backing, and refuses with the
 * step that was not seen. Where no huge page is to spare it tries small pages. 0 or -errno. */
int pagemap_selftest(uint32_t page_bytes, struct err *e);

#endif
