// SPDX-License-Identifier: BSD-3-Clause
// What kind of content a frame has, by a look at 1 KiB of it. Run by the source's polling core.

#include "choose.h"

#define LINE        64u
#define LOOK_LINES  16u
#define TEXT_UNEVEN 4u // kinds: words, and not digits and letters at random

// How often each byte comes, in tables by turns: one would make equal bytes in a row wait for each
// other.
#define TABLES 4u

struct counts {
	uint16_t of[TABLES][256];
};

static void count_line(struct counts *c, const uint8_t *line)
{
	for (unsigned b = 0; b < LINE; b += TABLES)
		for (unsigned t = 0; t < TABLES; t++)
			c->of[t][line[b + t]]++;
}

// Words come again and again, so text gives way to codecs twice as well as other bytes that are as
// uneven.
static bool is_text(const uint32_t count[256], unsigned n)
{
	unsigned printable = count['\n'] + count['\t'];

	for (unsigned i = ' '; i <= '~'; i++)
		printable += count[i];
	return printable >= n - n / 16;
}

// Where the lines to look at lie. They are asked for at once: none of them is in the cache, as the
// scan for zeros has seen no more than the first bytes of each page.
static unsigned find_lines(
	const uint8_t *line[LOOK_LINES], const struct iovec *seg, unsigned nseg, size_t bytes)
{
	size_t begin = 0;
	unsigned s = 0, n = 0;

	while (n < LOOK_LINES) {
		// Not always at the same place in a page.
		size_t at = bytes / LOOK_LINES * n + (n * 13 * LINE) % (bytes / LOOK_LINES);

		at -= at % LINE;
		while (s < nseg && at >= begin + seg[s].iov_len)
			begin += seg[s++].iov_len;
		if (s == nseg)
			break;
		line[n] = (const uint8_t *)seg[s].iov_base + (at - begin);
		__builtin_prefetch(line[n++]);
	}
	return n;
}

// Bytes that are all equally frequent give 1, those of text about 16: the chance that two of them
// are the same, times 256. No logarithm, and hardly any noise at 1.
unsigned choose_kind(const struct iovec *seg, unsigned nseg, size_t bytes)
{
	const uint8_t *line[LOOK_LINES];
	struct counts c = {0};
	uint32_t count[256], pairs = 0, even;
	unsigned n = find_lines(line, seg, nseg, bytes), kind = 0;

	for (unsigned i = 0; i < n; i++)
		count_line(&c, line[i]);
	n *= LINE;
	for (unsigned i = 0; i < 256; i++) {
		count[i] = (uint32_t)c.of[0][i] + c.of[1][i] + c.of[2][i] + c.of[3][i];
		pairs += count[i] * count[i];
	}
	pairs -= n; // of a byte with itself
	even = n * (n - 1) / 256;
	if (pairs * 8 < even * 9)
		return 0;
	while (kind < CHOOSE_TEXT - 1 && pairs >= even << kind)
		kind++;
	return kind >= TEXT_UNEVEN && is_text(count, n) ? CHOOSE_TEXT : kind;
}
