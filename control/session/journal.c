// SPDX-License-Identifier: BSD-3-Clause
// The journal of a session: one file, one JSON object a line. Run by the control loop, which waits
// for the disk on purpose: a promise counts only once it would survive a power cut.

#include "journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct journal {
	int dir_fd;
	int fd;
	off_t bytes;     /* of whole records */
	bool dir_synced; /* the name itself is on disk */
	char file[80];   /* NAME.journal */
	char path[256];  /* for messages */
};

int journal_name_check(const char *name, struct err *e)
{
	static const char good[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
	size_t len = strlen(name);

	if (len == 0 || len > JOURNAL_NAME_MOST || strspn(name, good) != len || name[0] == '.' ||
		name[0] == '-')
		return err_set(e, EINVAL,
			"name '%.64s': use 1 to %u letters, digits, '.', '_' or '-', no dot or "
			"dash "
			"first",
			name, JOURNAL_NAME_MOST);
	return 0;
}

static struct journal *alloc(const char *dir, const char *name, struct err *e)
{
	struct journal *j = calloc(1, sizeof(*j));

	if (j == NULL) {
		err_set(e, ENOMEM, "journal: no memory");
		return NULL;
	}
	j->fd = -1;
	j->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (j->dir_fd < 0) {
		err_sys(e, errno, "journal: cannot open the state directory %s", dir);
		journal_close(j);
		return NULL;
	}
	snprintf(j->file, sizeof(j->file), "%s" JOURNAL_SUFFIX, name);
	snprintf(j->path, sizeof(j->path), "%s/%s", dir, j->file);
	return j;
}

int journal_open(struct journal **out, const char *dir, const char *name, struct err *e)
{
	struct journal *j;
	int errnum;

	if (journal_name_check(name, e) < 0)
		return -EINVAL;
	j = alloc(dir, name, e);
	if (j == NULL)
		return -e->errnum;
	j->fd = openat(j->dir_fd, j->file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (j->fd < 0) {
		errnum = errno;
		journal_close(j);
		if (errnum == EEXIST)
			return err_set(e, EEXIST,
				"a migration of '%s' is not decided yet (its journal is in %s): "
				"run "
				"`godwit resolve %s`",
				name, dir, name);
		return err_sys(e, errnum,
			"cannot create the journal of '%s' in %s (check its rights)", name, dir);
	}
	*out = j;
	return 0;
}

/* Whole lines at the file's beginning; what follows the last newline was torn by a crash. */
static int measure(struct journal *j, struct err *e)
{
	_cleanup_(free_ptr) char *text = NULL;
	struct stat st;
	const char *end;
	ssize_t n;

	if (fstat(j->fd, &st) != 0)
		return err_sys(e, errno, "journal %s", j->path);
	if (st.st_size > JOURNAL_BYTES_MAX)
		return err_set(e, EFBIG, "journal %s is no journal: it has more than %d bytes",
			j->path, JOURNAL_BYTES_MAX);
	text = malloc((size_t)st.st_size + 1);
	if (text == NULL)
		return err_set(e, ENOMEM, "journal %s: no memory", j->path);
	n = pread(j->fd, text, (size_t)st.st_size, 0);
	if (n < 0)
		return err_sys(e, errno, "journal %s", j->path);
	end = memrchr(text, '\n', (size_t)n);
	j->bytes = end ? end + 1 - text : 0;
	if (ftruncate(j->fd, j->bytes) != 0)
		return err_sys(e, errno, "journal %s", j->path);
	return 0;
}

int journal_reopen(struct journal **out, const char *dir, const char *name, struct err *e)
{
	struct journal *j;
	int rc;

	if (journal_name_check(name, e) < 0)
		return -EINVAL;
	j = alloc(dir, name, e);
	if (j == NULL)
		return -e->errnum;
	j->fd = openat(j->dir_fd, j->file, O_RDWR | O_CLOEXEC);
	rc = j->fd < 0 ? err_sys(e, errno, "cannot open the journal %s", j->path) : measure(j, e);
	if (rc < 0) {
		journal_close(j);
		return rc;
	}
	*out = j;
	return 0;
}

static int append(struct journal *j, const char *line, size_t len, bool sync)
{
	size_t at = 0;

	while (at < len) {
		ssize_t n = pwrite(j->fd, line + at, len - at, j->bytes + (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		at += (size_t)n;
	}
	if (sync && fdatasync(j->fd) != 0)
		return -errno;
	if (sync && !j->dir_synced && fsync(j->dir_fd) != 0)
		return -errno;
	j->dir_synced |= sync;
	j->bytes += (off_t)len;
	return 0;
}

static int write_record(struct journal *j, json_t *msg, bool sync, struct err *e)
{
	_cleanup_(free_ptr) char *line = msg ? json_dumps(msg, JSON_COMPACT) : NULL;
	size_t len;
	int rc;

	json_decref(msg);
	if (line == NULL)
		return err_set(e, ENOMEM, "journal %s: no memory for a record", j->path);
	len = strlen(line);
	line[len] = '\n'; /* in place of the NUL: the length is kept */
	rc = append(j, line, len + 1, sync);
	if (rc < 0) {
		/* A record of which nobody knows whether it is on disk must not be read later. */
		if (ftruncate(j->fd, j->bytes) == 0)
			fdatasync(j->fd);
		return err_sys(e, -rc,
			"cannot write the journal %s: free space there or check the disk, then try "
			"again",
			j->path);
	}
	return 0;
}

int journal_write(struct journal *j, json_t *msg, struct err *e)
{
	return write_record(j, msg, true, e);
}

int journal_note(struct journal *j, json_t *msg, struct err *e)
{
	return write_record(j, msg, false, e);
}

void journal_end(struct journal *j)
{
	if (j == NULL)
		return;
	unlinkat(j->dir_fd, j->file, 0);
	fsync(j->dir_fd);
	journal_close(j);
}

void journal_close(struct journal *j)
{
	if (j == NULL)
		return;
	close_fd(&j->fd);
	close_fd(&j->dir_fd);
	free(j);
}
