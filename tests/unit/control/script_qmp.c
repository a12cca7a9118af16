// SPDX-License-Identifier: BSD-3-Clause
// A monitor that answers by a table. Its thread alone reads the script, which does not change while
// a client is there.

#include "script_qmp.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static const struct script_row *find(
	const struct script_row *rows, const char *command, const char *arguments)
{
	for (; rows != NULL && rows->command != NULL; rows++)
		if (strcmp(rows->command, command) == 0 && strstr(arguments, rows->has) != NULL)
			return rows;
	return NULL;
}

static void answer(const struct script *s, FILE *to, const json_t *asked)
{
	const char *command = json_string_value(json_object_get(asked, "execute"));
	char *arguments = json_dumps(json_object_get(asked, "arguments"), JSON_ENCODE_ANY);
	json_int_t id = json_integer_value(json_object_get(asked, "id"));
	const char *text = arguments != NULL ? arguments : "";
	const struct script_row *row = find(s->first, command, text);

	if (row == NULL)
		row = find(s->then, command, text);
	if (row == NULL || row->answer == NULL)
		fprintf(to,
			"{\"error\": {\"class\": \"GenericError\", \"desc\": \"not scripted\"}, "
			"\"id\": %lld}\r\n",
			(long long)id);
	else
		fprintf(to, "{\"return\": %s, \"id\": %lld}\r\n", row->answer, (long long)id);
	fflush(to);
	free(arguments);
}

static void serve(const struct script *s, int fd)
{
	FILE *from = fdopen(fd, "r"), *to = fdopen(dup(fd), "w");
	size_t most = 0;
	char *line = NULL;

	fprintf(to,
		"{\"QMP\": {\"version\": {\"qemu\": {\"major\": %u, \"minor\": 2, \"micro\": 0}}, "
		"\"capabilities\": []}}\r\n",
		s->major);
	fflush(to);
	while (getline(&line, &most, from) > 0) {
		json_t *asked = json_loads(line, 0, NULL);

		if (asked != NULL)
			answer(s, to, asked);
		json_decref(asked);
	}
	free(line);
	fclose(from);
	fclose(to);
}

static void *run(void *arg)
{
	const struct script *s = arg;
	int fd;

	while ((fd = accept(s->fd, NULL, NULL)) >= 0)
		serve(s, fd);
	return NULL;
}

void script_start(struct script *s)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};

	snprintf(s->path, sizeof(s->path), "/tmp/godwit-script-%d.qmp", (int)getpid());
	memcpy(sa.sun_path, s->path, sizeof(s->path));
	unlink(s->path);
	s->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (s->fd < 0 || bind(s->fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 ||
		listen(s->fd, 1) < 0 || pthread_create(&s->thread, NULL, run, s) != 0)
		abort();
}

void script_end(struct script *s)
{
	shutdown(s->fd, SHUT_RDWR);
	pthread_join(s->thread, NULL);
	close(s->fd);
	unlink(s->path);
}
