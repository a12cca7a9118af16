/* SPDX-License-Identifier: BSD-3-Clause */
/* CRC32C (Castagnoli), as iSCSI has it: RFC 3720 appendix B.4. */
#ifndef GODWIT_DATAPLANE_CRC_H
#define GODWIT_DATAPLANE_CRC_H

#include <stddef.h>
#include <stdint.h>

/* Starts with crc 0; continues where an earlier call ended:
 * crc32c(crc32c(0, a), b) is the CRC of a followed by b. */
uint32_t crc32c(uint32_t crc, const void *buf, size_t bytes);

#endif
