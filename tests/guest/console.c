// SPDX-License-Identifier: BSD-3-Clause
// Lines on the guest's console, by any thread. Each is one write, so that lines never mix.

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "checker.h"

#define ERRORS_SHOWN 20u

static _Atomic uint64_t errors;

static void put(const char *kind, const char *format, va_list args)
{
	char line[512];
	int n = snprintf(line, sizeof(line), "guest: %s", kind);
	int more = vsnprintf(line + n, sizeof(line) - (size_t)n - 1, format, args);

	if (more > 0)
		n = (int)strlen(line);
	line[n++] = '\n';
	if (write(STDOUT_FILENO, line, (size_t)n) != n)
		return; // no console: nobody to tell
}

void console_say(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	put("", format, args);
	va_end(args);
}

void console_error(const char *format, ...)
{
	va_list args;

	if (atomic_fetch_add(&errors, 1) >= ERRORS_SHOWN)
		return;
	va_start(args, format);
	put("ERROR ", format, args);
	va_end(args);
}

uint64_t console_errors(void)
{
	return atomic_load(&errors);
}
