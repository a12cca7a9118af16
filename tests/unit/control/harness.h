/* SPDX-License-Identifier: BSD-3-Clause */
/* What the control tests share: cmocka's headers, a loop with a deadline, a folder of their own. */
#ifndef HARNESS_H
#define HARNESS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Runs the loop until *done, for at most two minutes: that long only where a test fails. */
static inline void harness_run(struct event_base *base, const bool *done)
{
	const struct timeval step = {.tv_usec = 10000};

	for (int i = 0; i < 12000 && !*done; i++) {
		event_base_loopexit(base, &step);
		event_base_dispatch(base);
	}
	assert_true(*done);
}

/* Runs the loop for some milliseconds. */
static inline void harness_turn(struct event_base *base, int ms)
{
	const struct timeval step = {.tv_usec = ms * 1000};

	event_base_loopexit(base, &step);
	event_base_dispatch(base);
}

/* The same for a condition that is no variable. */
#define harness_until(base, condition)                                                             \
	do {                                                                                       \
		for (int i_ = 0; i_ < 60000 && !(condition); i_++)                                 \
			harness_turn(base, 2);                                                     \
		assert_true(condition);                                                            \
	} while (0)

#define assert_has(text, part)                                                                     \
	do {                                                                                       \
		if (strstr(text, part) == NULL)                                                    \
			fail_msg("'%s' is not in: %s", part, text);                                \
	} while (0)

#endif
