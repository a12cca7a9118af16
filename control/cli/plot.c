// SPDX-License-Identifier: BSD-3-Clause
// Reads a record and runs gnuplot. Run by godwit's only thread.

#include "plot.h"

#include <errno.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "record.h"
#include "report.h"

extern char **environ;

static int take(struct plot_record *r, json_t *event, struct err *e)
{
	const char *what = report_text(event, "event");

	if (r->head == NULL) {
		if (strcmp(what, "record") != 0)
			return err_set(e, EINVAL, "this is no record of a migration (--record)");
		if (report_number(event, "version") != RECORD_VERSION)
			return err_set(e, EINVAL,
				"a record of version %.0f; this godwit reads version %d",
				report_number(event, "version"), RECORD_VERSION);
		r->head = json_incref(event);
	} else if (strcmp(what, "progress") == 0 || strcmp(what, "placing") == 0) {
		json_array_append(r->progress, event);
	} else if (strcmp(what, "passed") == 0) {
		json_array_append(r->passed, event);
	} else if (strcmp(what, "pass") == 0) {
		json_array_append(r->pass, event);
	} else if (strcmp(what, "stage") == 0) {
		json_array_append(r->stages, event);
	} else if (strcmp(what, "end") == 0 && r->end == NULL) {
		r->end = json_incref(event);
	}
	return 0;
}

static int read_line(struct plot_record *r, const char *line, size_t len, struct err *e)
{
	json_error_t why;
	json_t *event;
	int rc;

	if (len > PLOT_LINE_BYTES)
		return err_set(e, EINVAL, "longer than %u bytes", PLOT_LINE_BYTES);
	event = json_loadb(line, len, JSON_REJECT_DUPLICATES, &why);
	if (!json_is_object(event)) {
		json_decref(event);
		return err_set(e, EINVAL, "no JSON object");
	}
	rc = take(r, event, e);
	json_decref(event);
	return rc;
}

int plot_read(struct plot_record *r, const char *path, struct err *e)
{
	_cleanup_(free_ptr) char *line = NULL;
	unsigned number = 0;
	size_t room = 0;
	struct err why;
	ssize_t len;
	FILE *file;
	int rc = 0;

	*r = (struct plot_record){.progress = json_array(),
		.passed = json_array(),
		.pass = json_array(),
		.stages = json_array()};
	file = fopen(path, "re");
	if (file == NULL)
		return err_sys(e, errno, "cannot read %s", path);
	while (rc == 0 && (len = getline(&line, &room, file)) > 0) {
		number++;
		rc = read_line(r, line, (size_t)len, &why);
		if (rc < 0)
			err_set(e, EINVAL, "%s:%u: %.200s", path, number, why.text);
	}
	if (rc == 0 && ferror(file))
		rc = err_sys(e, errno, "cannot read %s", path);
	if (rc == 0 && json_array_size(r->progress) + json_array_size(r->passed) == 0)
		rc = err_set(e, EINVAL, "%s: nothing was copied while it was recorded", path);
	fclose(file);
	return rc;
}

void plot_fini(struct plot_record *r)
{
	json_decref(r->head);
	json_decref(r->progress);
	json_decref(r->passed);
	json_decref(r->pass);
	json_decref(r->stages);
	json_decref(r->end);
	memset(r, 0, sizeof(*r));
}

/* gnuplot reads the script from a file that has no name, and prints the picture. */
static int run(int script, int picture, struct err *e)
{
	char *argv[] = {(char *)"gnuplot", (char *)"-", NULL};
	posix_spawn_file_actions_t actions;
	int status = 0, rc;
	pid_t pid;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, script, STDIN_FILENO);
	posix_spawn_file_actions_adddup2(&actions, picture, STDOUT_FILENO);
	rc = posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (rc == ENOENT)
		return err_set(e, ENOENT, "gnuplot makes the pictures, and is not installed");
	if (rc != 0)
		return err_sys(e, rc, "cannot run gnuplot");
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return err_sys(e, errno, "cannot wait for gnuplot");
	return status == 0 ? 0 : err_set(e, EIO, "gnuplot failed, see its lines above");
}

static int make_one(
	const struct plot_record *r, const char *stem, const char *terminal, struct err *e)
{
	_cleanup_(free_ptr) char *path = NULL;
	FILE *script = tmpfile(), *picture = NULL;
	int rc = 0;

	if (script == NULL || asprintf(&path, "%s.%s", stem, terminal) < 0) {
		rc = err_sys(e, errno, "cannot make a temporary file");
	} else {
		picture = fopen(path, "we");
		if (picture == NULL)
			rc = err_sys(e, errno, "cannot write %s", path);
	}
	if (rc == 0) {
		plot_script(r, script, terminal);
		rc = fflush(script) != 0 || lseek(fileno(script), 0, SEEK_SET) != 0
			     ? err_sys(e, errno, "cannot write a temporary file")
			     : run(fileno(script), fileno(picture), e);
	}
	if (script != NULL)
		fclose(script);
	if (picture != NULL)
		fclose(picture);
	if (picture != NULL && rc < 0)
		unlink(path); /* what is no picture does not stay */
	return rc;
}

int plot_make(const char *path, const char *stem, struct err *e)
{
	struct plot_record r;
	int rc = plot_read(&r, path, e);

	if (rc == 0)
		rc = make_one(&r, stem, "svg", e);
	if (rc == 0)
		rc = make_one(&r, stem, "png", e);
	plot_fini(&r);
	return rc;
}
