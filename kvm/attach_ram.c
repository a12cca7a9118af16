// SPDX-License-Identifier: BSD-3-Clause
// Which files a VMM maps, where, and who else does. Run by control threads; no state.

#include "attach_ram.h"
#include "attach.h"
#include "helper.h"
#include "procmap.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define PRIVATE_LEAST (UINT64_C(1) << 20)

struct listing {
	struct attach_file *f;
	unsigned n;
	struct err *e;
};

static struct attach_file *file_of(struct listing *l, const struct procmap *m)
{
	struct attach_file *f;

	for (unsigned i = 0; i < l->n; i++)
		if (l->f[i].dev == m->dev && l->f[i].ino == m->ino)
			return &l->f[i];
	f = realloc(l->f, (l->n + 1) * sizeof(*f));
	if (f == NULL)
		return NULL;
	l->f = f;
	f += l->n++;
	memset(f, 0, sizeof(*f));
	snprintf(f->path, sizeof(f->path), "%s", m->path);
	f->deleted = m->deleted;
	f->shared = true;
	f->dev = m->dev;
	f->ino = m->ino;
	return f;
}

/* Goes on where the last mapping ended, in both. */
static bool extends(const struct attach_file *f, const struct procmap *m)
{
	const struct attach_ram *last = f->n > 0 ? &f->ram[f->n - 1] : NULL;

	return last != NULL && last->addr + last->bytes == m->start &&
	       last->offset + last->bytes == m->offset;
}

static int add_mapping(void *arg, const struct procmap *m)
{
	struct listing *l = arg;
	struct attach_file *f;

	if (m->ino == 0 || !m->write || (!m->shared && m->end - m->start < PRIVATE_LEAST))
		return 0;
	f = file_of(l, m);
	if (f == NULL)
		return err_set(l->e, ENOMEM, "out of memory");
	f->shared = f->shared && m->shared;
	f->writable = true;
	if (extends(f, m)) {
		f->ram[f->n - 1].bytes += m->end - m->start;
		return 0;
	}
	if (f->n == ATTACH_VIEWS)
		return err_set(
			l->e, E2BIG, "%s is mapped in more than %u pieces", f->path, ATTACH_VIEWS);
	f->ram[f->n++] = (struct attach_ram){m->start, m->end - m->start, m->offset, 0};
	return 0;
}

/* Some file systems tell another device in stat than in maps; those of RAM files (tmpfs, hugetlbfs)
 * don't. */
static bool same_stat(const struct stat *st, const struct attach_file *f)
{
	return S_ISREG(st->st_mode) && st->st_ino == f->ino && st->st_dev == f->dev;
}

static bool same_file(int fd, const struct attach_file *f)
{
	struct stat st;

	return fstat(fd, &st) == 0 && same_stat(&st, f);
}

/* By the address: the very file that is mapped, whatever its path names now. The range must be that
 * of one mapping, so it is looked for by its begin. */
static int open_map_file(pid_t pid, const struct attach_file *f)
{
	_cleanup_(free_ptr) char *path = NULL;
	const struct dirent *d;
	struct stat st;
	int fd = -1, err = ENOENT;
	DIR *dir;

	if (asprintf(&path, "/proc/%d/map_files", (int)pid) < 0)
		return -ENOMEM;
	dir = opendir(path);
	if (dir == NULL)
		return -errno;
	while (fd < 0 && (d = readdir(dir)) != NULL) {
		if (d->d_name[0] == '.' || strtoull(d->d_name, NULL, 16) != f->ram[0].addr)
			continue;
		fd = openat(dirfd(dir), d->d_name, O_RDWR | O_CLOEXEC);
		err = errno;
	}
	closedir(dir);
	/* Another file may show there since. */
	if (fd >= 0 && (fstat(fd, &st) < 0 || st.st_ino != f->ino)) {
		close_fd(&fd);
		err = ESTALE;
	}
	return fd < 0 ? -err : fd;
}

/* By a descriptor that the VMM still has, where map_files asks for more rights than we have. */
static int open_fd_file(pid_t pid, const struct attach_file *f)
{
	_cleanup_(free_ptr) char *path = NULL;
	const struct dirent *d;
	int fd = -1;
	DIR *dir;

	if (asprintf(&path, "/proc/%d/fd", (int)pid) < 0)
		return -ENOMEM;
	dir = opendir(path);
	if (dir == NULL)
		return -errno;
	while (fd < 0 && (d = readdir(dir)) != NULL) {
		struct stat st;

		if (fstatat(dirfd(dir), d->d_name, &st, 0) < 0 || !same_stat(&st, f))
			continue;
		fd = openat(dirfd(dir), d->d_name, O_RDWR | O_CLOEXEC);
		if (fd >= 0 && !same_file(fd, f))
			close_fd(&fd);
	}
	closedir(dir);
	return fd < 0 ? -ENOENT : fd;
}

int attach_open_file(struct helper *by, pid_t pid, const struct attach_file *f, struct err *e)
{
	int fd;

	if (by != NULL)
		return helper_open_file(by, pid, f, e);
	fd = open_map_file(pid, f);

	if (fd < 0) {
		int other = open_fd_file(pid, f);

		if (other >= 0)
			return other;
		return err_sys(e, -fd,
			"process %d: cannot open the file behind its RAM, %s; run godwitd as root, "
			"or with CAP_CHECKPOINT_RESTORE and write access to the file",
			(int)pid, f->path);
	}
	return fd;
}

/* Its size and the size of its pages; 0 where it can't be opened. */
static void measure(pid_t pid, struct attach_file *f)
{
	_cleanup_(close_fd) int fd = attach_open_file(NULL, pid, f, NULL);
	struct statfs fs;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || fstatfs(fd, &fs) < 0)
		return;
	f->bytes = (uint64_t)st.st_size;
	f->page_bytes = (uint64_t)fs.f_type == HUGETLBFS_MAGIC ? (uint32_t)fs.f_bsize : 4096;
}

int attach_list(
	struct helper *by, pid_t pid, struct attach_file **files, unsigned *n, struct err *e)
{
	struct listing l = {.e = e};
	int rc;

	if (by != NULL)
		return helper_files(by, HELPER_LIST, pid, files, n, e);

	*files = NULL;
	*n = 0;
	e->errnum = 0;
	rc = procmap_walk(pid, add_mapping, &l);
	if (rc < 0) {
		free(l.f);
		return e->errnum != 0
			       ? rc
			       : err_sys(e, -rc,
					 "process %d: cannot read its mappings; it must run, and "
					 "godwitd be root or have CAP_SYS_PTRACE",
					 (int)pid);
	}
	*files = l.f;
	*n = l.n;
	return 0;
}

int attach_files(
	struct helper *by, pid_t pid, struct attach_file **files, unsigned *n, struct err *e)
{
	struct err own;
	int rc;

	if (by != NULL)
		return helper_files(by, HELPER_FILES_OF, pid, files, n, e);
	rc = attach_list(NULL, pid, files, n, e != NULL ? e : &own);

	for (unsigned i = 0; rc == 0 && i < *n; i++)
		measure(pid, &(*files)[i]);
	return rc;
}

/* The path, as the VMM would open it. */
static bool is_at(pid_t pid, const char *path, const struct attach_file *f)
{
	_cleanup_(free_ptr) char *there = NULL;
	struct stat st;

	if (!f->deleted && strcmp(path, f->path) == 0)
		return true;
	if (asprintf(&there, "/proc/%d/root/%s", (int)pid, path) < 0) {
		there = NULL;
		return false;
	}
	return stat(there, &st) == 0 && same_stat(&st, f);
}

int attach_path(struct helper *by, pid_t pid, const char *path)
{
	_cleanup_(free_ptr) char *there = NULL;
	int fd;

	if (by != NULL)
		return helper_path(by, pid, path);
	if (asprintf(&there, "/proc/%d/%s%s", (int)pid, path[0] == '/' ? "root" : "cwd/", path) <
		0) {
		there = NULL;
		return -ENOMEM;
	}
	fd = open(there, O_PATH | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int attach_find_ram(pid_t pid, const char *path, struct attach_file *f, struct err *e)
{
	_cleanup_(free_ptr) struct attach_file *files = NULL;
	unsigned n;
	int rc = attach_files(NULL, pid, &files, &n, e);

	if (rc < 0)
		return rc;
	for (unsigned i = 0; i < n; i++)
		if (is_at(pid, path, &files[i])) {
			*f = files[i];
			return 0;
		}
	return err_set(e, ENOENT, "process %d maps no file %s", (int)pid, path);
}

static int finds(void *arg, const struct procmap *m)
{
	const struct attach_file *f = arg;

	return m->ino != 0 && m->ino == f->ino && m->dev == f->dev;
}

unsigned attach_others(
	pid_t pid, pid_t ours, const struct attach_file *f, pid_t others[ATTACH_OTHERS])
{
	const struct dirent *d;
	unsigned n = 0;
	DIR *dir = opendir("/proc");

	while (dir != NULL && (d = readdir(dir)) != NULL) {
		pid_t other = (pid_t)atoi(d->d_name);

		if (other <= 0 || other == pid || other == ours || other == getpid() ||
			procmap_walk(other, finds, (void *)(uintptr_t)f) != 1)
			continue;
		if (n < ATTACH_OTHERS)
			others[n] = other;
		n++;
	}
	if (dir != NULL)
		closedir(dir);
	return n;
}
