// SPDX-License-Identifier: BSD-3-Clause
// CRC32C by ISA-L, which picks its variant for the CPU at first use. Run by any thread.
//
// crc32_iscsi() is the bare polynomial division: no inversion before or after. RFC 3720 wants both,
// and inverting on both sides is also what makes a sum continue where the last one ended.

#include "crc.h"

#include <isa-l/crc.h>

// The library counts in int.
#define CRC_STEP_BYTES ((size_t)1 << 30)

uint32_t crc32c(uint32_t crc, const void *buf, size_t bytes)
{
	const uint8_t *at = buf;

	while (bytes > 0) {
		size_t n = bytes < CRC_STEP_BYTES ? bytes : CRC_STEP_BYTES;

		// The library's prototype lacks const; it only reads.
		crc = ~crc32_iscsi((unsigned char *)at, (int)n, ~crc);
		at += n;
		bytes -= n;
	}
	return crc;
}
