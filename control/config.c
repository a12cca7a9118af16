// SPDX-License-Identifier: BSD-3-Clause
// The configuration file. Run by main before anything else starts.

#include "config.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILE_BYTES (64u << 10) /* more is no configuration file */
#define LINE_BYTES 512u

static char *strip(char *s)
{
	size_t len;

	while (isspace((unsigned char)*s))
		s++;
	len = strlen(s);
	while (len > 0 && isspace((unsigned char)s[len - 1]))
		s[--len] = '\0';
	return s;
}

/* "[port NAME]": what follows is said of that port. */
static int read_section(struct option_set **set, struct ports *ports, char *line, struct err *e)
{
	size_t len = strlen(line);
	char *name;

	if (line[len - 1] != ']')
		return err_set(e, EINVAL, "'%.60s': the closing ] is missing", line);
	line[len - 1] = '\0';
	line = strip(line + 1);
	if (strncmp(line, "port", 4) != 0 || !isspace((unsigned char)line[4]))
		return err_set(e, EINVAL, "[%.60s]: the only sections are [port NAME]", line);
	name = strip(line + 4);
	return ports_add(ports, name, set, e);
}

static int read_line(struct option_set **set, struct ports *ports, char *line, struct err *e)
{
	char *hash = strchr(line, '#'), *equals, *key;
	struct err why;

	if (hash != NULL)
		*hash = '\0';
	line = strip(line);
	if (*line == '\0')
		return 0;
	if (*line == '[')
		return read_section(set, ports, line, e);
	equals = strchr(line, '=');
	if (equals == NULL)
		return err_set(e, EINVAL, "'%.60s': write KEY = VALUE", line);
	*equals = '\0';
	key = strip(line);
	if (option_give(*set, key, strip(equals + 1), &why) == 0)
		return 0;
	if (why.errnum == ENOENT)
		return err_set(e, EINVAL, "unknown key '%.60s'%s: godwit.conf(5) lists them", key,
			(*set)->rows == option_port ? " of a port" : "");
	return err_set(e, EINVAL, "%s", why.text);
}

int config_parse(struct option_set *set, struct ports *ports, const char *path, const char *text,
	size_t bytes, struct err *e)
{
	const char *end = text + bytes;
	unsigned number = 1;

	for (const char *at = text; at < end; number++) {
		const char *newline = memchr(at, '\n', (size_t)(end - at));
		size_t len = (size_t)((newline ? newline : end) - at);
		char line[LINE_BYTES];
		struct err why;

		if (len >= sizeof(line) || memchr(at, '\0', len) != NULL)
			return err_set(
				e, EINVAL, "%s:%u: the line is too long, or no text", path, number);
		memcpy(line, at, len);
		line[len] = '\0';
		if (read_line(&set, ports, line, &why) < 0)
			return err_set(e, EINVAL, "%s:%u: %s", path, number, why.text);
		at += len + 1;
	}
	return 0;
}

int config_read(struct option_set *set, struct ports *ports, const char *path, struct err *e)
{
	_cleanup_(close_fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
	_cleanup_(free_ptr) char *text = malloc(FILE_BYTES);
	size_t have = 0;

	if (fd < 0)
		return err_sys(e, errno, "cannot read the configuration file %s", path);
	if (text == NULL)
		return err_set(e, ENOMEM, "%s: no memory", path);
	for (;;) {
		ssize_t n = read(fd, text + have, FILE_BYTES - have);

		if (n < 0)
			return err_sys(e, errno, "cannot read the configuration file %s", path);
		if (n == 0)
			break;
		have += (size_t)n;
		if (have == FILE_BYTES)
			return err_set(e, EINVAL,
				"%s is no configuration file: it has more than %u bytes", path,
				FILE_BYTES);
	}
	return config_parse(set, ports, path, text, have, e);
}
