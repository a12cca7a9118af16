// SPDX-License-Identifier: BSD-3-Clause
// A unix socket as a file: the API's, or that of metrics. Run by main before the loop, and at its
// end.

#include "api_socket.h"

#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define BACKLOG 16

const struct api_socket_names api_socket_names = {"API socket", "api", "api-group", "api-readers"};

static int group_id(const char *option, const char *name, gid_t *gid, struct err *e)
{
	const struct group *g = getgrnam(name);

	if (g != NULL)
		*gid = g->gr_gid;
	else if (strspn(name, "0123456789") == strlen(name))
		*gid = (gid_t)strtoul(name, NULL, 10);
	else
		return err_set(e, ENOENT,
			"%s: there is no group '%.60s'; make it (groupadd), or name another",
			option, name);
	return 0;
}

/* The last folder of the path, so that a fresh system with an empty /run works. */
static int make_folder(const struct api_socket_names *n, const char *path, struct err *e)
{
	char folder[sizeof(((struct sockaddr_un *)0)->sun_path)];
	char *slash;

	snprintf(folder, sizeof(folder), "%s", path);
	slash = strrchr(folder, '/');
	if (slash == NULL || slash == folder)
		return 0;
	*slash = '\0';
	if (mkdir(folder, 0755) != 0 && errno != EEXIST)
		return err_sys(e, errno, "cannot make the folder %s of the %s", folder, n->what);
	return 0;
}

/* A socket file that nobody listens on is left from a daemon that was killed. */
static int remove_stale(
	const struct api_socket_names *n, const struct sockaddr_un *at, struct err *e)
{
	_cleanup_(close_fd) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct stat st;

	if (fd < 0)
		return err_sys(e, errno, "%s: cannot make it", n->what);
	if (lstat(at->sun_path, &st) != 0)
		return 0;
	if (!S_ISSOCK(st.st_mode))
		return err_set(e, EEXIST,
			"%s is in the way of the %s and is no socket: move it, or choose another "
			"path with --%s",
			at->sun_path, n->what, n->path);
	if (connect(fd, (const struct sockaddr *)at, sizeof(*at)) == 0 || errno == EAGAIN)
		return err_set(e, EADDRINUSE,
			"another godwitd answers on %s: end it (`ss -lxp` shows its process), or "
			"choose another path with --%s",
			at->sun_path, n->path);
	if (errno != ECONNREFUSED)
		return err_sys(e, errno, "cannot tell whether %s is in use", at->sun_path);
	unlink(at->sun_path);
	return 0;
}

/* Made without any rights, then given those it is to have: nobody slips in between. */
static int bind_with_rights(struct api_socket *s, const struct api_socket_names *n, mode_t mode,
	const char *group, struct err *e)
{
	mode_t mask = umask(0777);
	int rc = bind(s->fd, (struct sockaddr *)&s->at, sizeof(s->at));
	gid_t gid = (gid_t)-1;
	int errnum = errno;

	umask(mask);
	if (rc != 0) {
		/* The file, if there is one, is not ours to remove. */
		close_fd(&s->fd);
		return err_sys(e, errnum, "cannot make the %s %s", n->what, s->at.sun_path);
	}
	if (group != NULL && group[0] != '\0') {
		rc = group_id(n->group, group, &gid, e);
		if (rc < 0)
			return rc;
	}
	s->rules.owner = geteuid();
	s->rules.group = gid != (gid_t)-1 ? gid : getegid();
	s->rules.mode = mode;
	if (s->rules.everybody || s->rules.readers != (gid_t)-1)
		mode |= 0666;
	if (chown(s->at.sun_path, (uid_t)-1, gid) != 0 || chmod(s->at.sun_path, mode) != 0)
		return err_sys(
			e, errno, "cannot set the rights of the %s %s", n->what, s->at.sun_path);
	if (listen(s->fd, BACKLOG) != 0)
		return err_sys(e, errno, "cannot listen on the %s %s", n->what, s->at.sun_path);
	return 0;
}

static int read_readers(struct api_rules *r, const char *option, const char *readers, struct err *e)
{
	r->readers = (gid_t)-1;
	if (readers == NULL || readers[0] == '\0')
		return 0;
	r->everybody = strcmp(readers, "everybody") == 0;
	return r->everybody ? 0 : group_id(option, readers, &r->readers, e);
}

int api_socket_open(struct api_socket *s, const struct api_socket_names *n, const char *path,
	mode_t mode, const char *group, const char *readers, struct err *e)
{
	int rc;

	memset(s, 0, sizeof(*s));
	s->fd = -1;
	s->at.sun_family = AF_UNIX;
	if (strlen(path) >= sizeof(s->at.sun_path))
		return err_set(e, ENAMETOOLONG, "--%s: the path is longer than %zu: %.60s...",
			n->path, sizeof(s->at.sun_path) - 1, path);
	snprintf(s->at.sun_path, sizeof(s->at.sun_path), "%s", path);
	rc = read_readers(&s->rules, n->readers, readers, e);
	if (rc == 0)
		rc = make_folder(n, path, e);
	if (rc == 0)
		rc = remove_stale(n, &s->at, e);
	if (rc < 0)
		return rc;
	s->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (s->fd < 0)
		return err_sys(e, errno, "%s: cannot make it", n->what);
	rc = bind_with_rights(s, n, mode, group, e);
	if (rc < 0)
		api_socket_close(s);
	return rc;
}

void api_socket_close(struct api_socket *s)
{
	if (s->fd < 0)
		return;
	close_fd(&s->fd);
	unlink(s->at.sun_path);
}
