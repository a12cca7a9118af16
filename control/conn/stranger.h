/* SPDX-License-Identifier: BSD-3-Clause */
/* What the log says of strangers: of connections that have not shown yet that a peer is behind
 * them. Anybody who reaches the port can make it speak, so it says only so much. Control loop only.
 */
#ifndef GODWIT_CONTROL_STRANGER_H
#define GODWIT_CONTROL_STRANGER_H

#include "log.h"

#define STRANGER_LINES_PER_S 10u /* of all strangers; a peer's mistakes are a few */

/* As log_write(). Lines beyond the budget are counted, and told of with the next one that goes. */
void stranger_log(enum log_level level, const char *subject, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

#endif
