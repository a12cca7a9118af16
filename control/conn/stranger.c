// SPDX-License-Identifier: BSD-3-Clause
// Lines about strangers, so many a second: a flood of them is not to fill the disk with the log.
// Run by the control loop.

#include "stranger.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include "clock.h"

void stranger_log(enum log_level level, const char *subject, const char *fmt, ...)
{
	static uint64_t began_ns; /* of the second that is counted */
	static unsigned said, left_out;
	uint64_t now = clock_ns();
	char text[512];
	va_list ap;

	if (level > log_get_level())
		return;
	if (now - began_ns >= NS_PER_S) {
		began_ns = now;
		said = 0;
	}
	if (said >= STRANGER_LINES_PER_S) {
		left_out++;
		return;
	}
	if (left_out > 0)
		log_warn(subject, "%u more lines like these were left out", left_out);
	left_out = 0;
	said++;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	log_write(level, subject, "%s", text);
}
