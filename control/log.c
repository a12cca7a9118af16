// SPDX-License-Identifier: BSD-3-Clause
// The daemon's log. Run by the control loop (and by main before it). A line is written only if
// stderr takes it at once; lines that it did not take are counted and told later. What comes from
// outside can not forge a line: control characters are replaced.

#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LINE_BYTES 1024

static const struct {
	const char *name;
	int priority; /* of syslog(3), for journald */
} levels[] = {
	[LOG_ERROR] = {"error", 3},
	[LOG_WARN] = {"warning", 4},
	[LOG_INFO] = {"info", 6},
	[LOG_DEBUG_] = {"debug", 7},
};

static enum log_level most = LOG_INFO;
static unsigned long dropped;

void log_open(void)
{
	int fd;

	while ((fd = open("/dev/null", O_RDWR)) >= 0 && fd <= STDERR_FILENO)
		;
	if (fd > STDERR_FILENO)
		close(fd);
}

void log_set_level(enum log_level level)
{
	most = level;
}

enum log_level log_get_level(void)
{
	return most;
}

const char *log_level_name(enum log_level level)
{
	return levels[level].name;
}

int log_level_parse(const char *text, enum log_level *level)
{
	for (unsigned i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
		if (strcmp(text, levels[i].name) == 0) {
			*level = (enum log_level)i;
			return 0;
		}
	}
	return -EINVAL;
}

/* systemd names the journal's stream in JOURNAL_STREAM as DEVICE:INODE, see systemd.exec(5). */
static bool stderr_is_journal(void)
{
	static int known = -1;
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long dev, ino;
	struct stat st;

	if (known < 0)
		known = stream != NULL && sscanf(stream, "%llu:%llu", &dev, &ino) == 2 &&
			fstat(STDERR_FILENO, &st) == 0 && st.st_dev == dev && st.st_ino == ino;
	return known == 1;
}

static size_t put_prefix(char *line, size_t bytes, enum log_level level)
{
	struct timespec now;
	struct tm tm;
	size_t len;

	if (stderr_is_journal())
		return (size_t)snprintf(line, bytes, "<%d>", levels[level].priority);
	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	len = strftime(line, bytes, "%Y-%m-%dT%H:%M:%S", &tm);
	return len + (size_t)snprintf(line + len, bytes - len, ".%03ldZ <%s> ",
			     now.tv_nsec / 1000000, levels[level].name);
}

static bool put_line(const char *line, size_t len)
{
	struct pollfd p = {.fd = STDERR_FILENO, .events = POLLOUT};

	return poll(&p, 1, 0) == 1 && (p.revents & POLLOUT) != 0 &&
	       write(STDERR_FILENO, line, len) == (ssize_t)len;
}

void log_write(enum log_level level, const char *subject, const char *fmt, ...)
{
	char line[LINE_BYTES];
	size_t begin, len;
	va_list ap;

	if (level > most)
		return;
	begin = put_prefix(line, sizeof(line), level);
	len = begin + (size_t)snprintf(line + begin, sizeof(line) - begin, "%.80s: ", subject);
	va_start(ap, fmt);
	vsnprintf(line + len, sizeof(line) - len - 1, fmt, ap);
	va_end(ap);
	len = strlen(line);
	for (size_t i = begin; i < len; i++)
		if ((unsigned char)line[i] < ' ' || line[i] == 127)
			line[i] = '?';
	line[len++] = '\n';
	if (dropped > 0) {
		char note[96];
		int n = snprintf(note, sizeof(note),
			"godwitd: log: %lu lines could not be written\n", dropped);

		if (put_line(note, (size_t)n))
			dropped = 0;
	}
	if (!put_line(line, len))
		dropped++;
}
