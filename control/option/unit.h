/* SPDX-License-Identifier: BSD-3-Clause */
/* Sizes, rates and times as people write them, and back. */
#ifndef GODWIT_CONTROL_UNIT_H
#define GODWIT_CONTROL_UNIT_H

#include <stddef.h>
#include <stdint.h>

/* Each: 0, or -EINVAL (not understood, negative, too large). Numbers may have a fraction: "1.5G".
 * Bytes: "4096", "64K", "1.5GiB"; K, M, G, T are powers of 1024. */
int unit_bytes(const char *text, uint64_t *bytes);
/* Bytes a second: as bytes, or bits with powers of 1000: "10Gbit", "500Mbit". */
int unit_rate(const char *text, uint64_t *bytes_per_s);
/* Milliseconds: "300ms", "2s", "5m", "1h"; a bare number counts bare_ms milliseconds. */
int unit_time(const char *text, uint64_t bare_ms, uint64_t *ms);

#define UNIT_TEXT 24u
/* "1.50 GiB", "512 bytes". Returns buf. */
const char *unit_put_bytes(uint64_t bytes, char buf[UNIT_TEXT]);

#endif
