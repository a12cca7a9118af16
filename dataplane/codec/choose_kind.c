// SPDX-License-Identifier: BSD-3-Clause
// What kind of content a frame has, by a look at 1 KiB of it. Run by the source's polling core.

#include "choose.h"

#define LINE        64u
#define LOOK_LINES  16u
#define TEXT_UNEVEN 4u // kinds: words, and not digits and letters at random

// Words come again and again, so text gives way to codecs twice as well as other bytes that are as
// uneven.
static bool is_text(const uint32_t count[256], unsigned n)
{
	unsigned printable = count['\n'] + count['\t'];

	for (unsigned i = ' '; i <= '~'; i++)
		printable += count[i];
	return printable >= n - n / 16;
}

// Bytes that are all equally frequent give 1, those of text about 16: the chance that two of them
// are the same, times 256. No logarithm, and hardly any noise at 1.
unsigned choose_kind(const struct iovec *seg, unsigned nseg, size_t bytes)
{
	uint32_t count[256] = {0};
	uint64_t pairs = 0, even;
	size_t begin = 0;
	unsigned s = 0, kind = 0, n = 0;

	for (unsigned i = 0; i < LOOK_LINES && s < nseg; i++) {
		// Not always at the same place in a page.
		size_t at = bytes / LOOK_LINES * i + (i * 13 * LINE) % (bytes / LOOK_LINES);

		at -= at % LINE;
		while (s < nseg && at >= begin + seg[s].iov_len)
			begin += seg[s++].iov_len;
		for (size_t b = 0; s < nseg && b < LINE; b++)
			count[((const uint8_t *)seg[s].iov_base)[at - begin + b]]++;
		n += LINE;
	}
	for (unsigned i = 0; i < 256; i++)
		pairs += (uint64_t)count[i] * (count[i] - (count[i] > 0));
	even = (uint64_t)n * (n - 1) / 256;
	if (pairs * 8 < even * 9)
		return 0;
	while (kind < CHOOSE_TEXT - 1 && pairs >= even << kind)
		kind++;
	return kind >= TEXT_UNEVEN && is_text(count, n) ? CHOOSE_TEXT : kind;
}
