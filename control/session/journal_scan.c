// SPDX-License-Identifier: BSD-3-Clause
// Reading journals back. Run once by main before the daemon serves anybody, and by resolve. A torn
// last line was never synced, so nothing was promised by it and it is left out; any other line that
// can't be read may have been a promise, and is told as such.

#include "journal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"

/* The records of a text: array in order. A damaged line becomes {"damaged": line number}. */
static json_t *parse_lines(const char *text, size_t bytes, const char *file)
{
	json_t *records = json_array();
	const char *at = text, *newline;
	int line = 0;

	while ((newline = memchr(at, '\n', bytes - (size_t)(at - text))) != NULL) {
		json_t *record =
			json_loadb(at, (size_t)(newline - at), JSON_REJECT_DUPLICATES, NULL);

		line++;
		if (!json_is_object(record)) {
			json_decref(record);
			record = json_pack("{s:i}", "damaged", line);
			log_error("journal", "%s: line %d is damaged", file, line);
		}
		json_array_append_new(records, record);
		at = newline + 1;
	}
	return records;
}

static json_t *read_file(int dir_fd, const char *file, struct err *e)
{
	_cleanup_(close_fd) int fd = openat(dir_fd, file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	_cleanup_(free_ptr) char *text = NULL;
	struct stat st;
	ssize_t n;

	if (fd < 0 || fstat(fd, &st) != 0) {
		err_sys(e, errno, "cannot read the journal %s", file);
		return NULL;
	}
	if (!S_ISREG(st.st_mode) || st.st_size > JOURNAL_BYTES_MAX) {
		err_set(e, EFBIG, "%s is no journal: move it elsewhere", file);
		return NULL;
	}
	text = malloc((size_t)st.st_size + 1);
	if (text == NULL) {
		err_set(e, ENOMEM, "journal %s: no memory", file);
		return NULL;
	}
	n = pread(fd, text, (size_t)st.st_size, 0);
	if (n < 0) {
		err_sys(e, errno, "cannot read the journal %s", file);
		return NULL;
	}
	return parse_lines(text, (size_t)n, file);
}

/* True, and name filled, where a file of the directory is a journal. */
static bool journal_of(const char *file, char name[JOURNAL_NAME_MOST + 1])
{
	size_t len = strlen(file), tail = strlen(JOURNAL_SUFFIX);

	if (len <= tail || len - tail > JOURNAL_NAME_MOST ||
		strcmp(file + len - tail, JOURNAL_SUFFIX) != 0)
		return false;
	memcpy(name, file, len - tail);
	name[len - tail] = '\0';
	return journal_name_check(name, NULL) == 0;
}

int journal_scan(const char *dir, journal_fn fn, void *arg, struct err *e)
{
	struct dirent **files;
	_cleanup_(close_fd) int dir_fd = -1;
	int n, rc = 0;

	if (mkdir(dir, 0700) != 0 && errno != EEXIST)
		return err_sys(e, errno, "cannot create the state directory %s", dir);
	dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir_fd < 0)
		return err_sys(e, errno, "cannot open the state directory %s", dir);
	n = scandir(dir, &files, NULL, alphasort);
	if (n < 0)
		return err_sys(e, errno, "cannot list the state directory %s", dir);
	for (int i = 0; i < n; i++) {
		char name[JOURNAL_NAME_MOST + 1];

		if (rc == 0 && journal_of(files[i]->d_name, name)) {
			json_t *records = read_file(dir_fd, files[i]->d_name, e);

			if (records != NULL)
				fn(arg, name, records);
			else
				rc = -EIO;
			json_decref(records);
		}
		free(files[i]);
	}
	free(files);
	return rc;
}
