/* SPDX-License-Identifier: BSD-3-Clause */
/* The daemon's log: one line an event on stderr, "<level> subject: text", with journald's "<N>"
 * prefixes when stderr is the journal, and a time stamp when it is not. Only control/ logs. A
 * closed or full stderr never blocks or ends the daemon. */
#ifndef GODWIT_CONTROL_LOG_H
#define GODWIT_CONTROL_LOG_H

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG_ };

/* Control loop only, once it runs. */
/* First of all: where standard input, output or error are closed, no socket is to be taken for
 * them. */
void log_open(void);
void log_set_level(enum log_level level);
enum log_level log_get_level(void);
const char *log_level_name(enum log_level level);
int log_level_parse(const char *text, enum log_level *level);
/* subject: the session's name, or a part of the daemon: "api", "listen". */
void log_write(enum log_level level, const char *subject, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

#define log_error(subject, ...) log_write(LOG_ERROR, subject, __VA_ARGS__)
#define log_warn(subject, ...)  log_write(LOG_WARN, subject, __VA_ARGS__)
#define log_info(subject, ...)  log_write(LOG_INFO, subject, __VA_ARGS__)
#define log_debug(subject, ...) log_write(LOG_DEBUG_, subject, __VA_ARGS__)

#endif
