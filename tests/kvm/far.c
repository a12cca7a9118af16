// SPDX-License-Identifier: BSD-3-Clause
// The far writer: a child that takes orders over a socket, one at a time.

#include "far.h"

#include "guest32.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAPPINGS 64u

struct order {
	uint32_t what, value, pick;
	uint64_t page;
};

/* The child's. */
struct writer {
	struct region_map map;
	enum far_kind kind;
	uint8_t *second[REGION_MAX];
	struct guest32 *guest;
};

static uint8_t *map_piece(const struct region *r, uint64_t offset, uint64_t bytes, void *at)
{
	void *p = mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | (at != NULL ? MAP_FIXED : 0),
		r->fd, (off_t)offset);

	return p == MAP_FAILED ? NULL : p;
}

static int map_all(struct writer *w)
{
	for (unsigned i = 0; i < w->map.n; i++) {
		struct region *r = &w->map.r[i];
		uint64_t half = r->bytes / 2 / r->page_bytes * r->page_bytes;

		if (r->base != NULL)
			munmap(r->base, r->bytes); /* what came with fork */
		r->base = map_piece(r, 0, r->bytes, NULL);
		if (r->base == NULL)
			return -1;
		if (w->kind != FAR_VIEWS)
			continue;
		/* The second half first, so that the file is not in one piece. */
		w->second[i] = mmap(NULL, r->bytes + 2 * r->page_bytes, PROT_NONE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (w->second[i] == MAP_FAILED)
			return -1;
		w->second[i] += r->page_bytes - (uintptr_t)w->second[i] % r->page_bytes;
		if (map_piece(r, half, r->bytes - half, w->second[i]) == NULL ||
			(half > 0 &&
				map_piece(r, 0, half, w->second[i] + (r->bytes - half)) == NULL))
			return -1;
	}
	return 0;
}

static void write_word(struct writer *w, const struct order *o)
{
	struct region *r = region_of_chunk(&w->map, o->page / 64);
	unsigned i = (unsigned)(r - w->map.r);
	uint64_t offset = (o->page - r->first_chunk * 64) << PAGE_SHIFT;
	uint64_t half = r->bytes / 2 / r->page_bytes * r->page_bytes;
	uint8_t *at = r->base + offset;

	if (w->kind == FAR_VIEWS && o->pick % 2)
		at = w->second[i] + (offset >= half ? offset - half : offset + (r->bytes - half));
	__atomic_store_n((uint32_t *)at, o->value, __ATOMIC_RELAXED);
}

static void guest_writes(struct writer *w, const struct order *o)
{
	struct region *r = region_of_chunk(&w->map, o->page / 64);
	uint64_t offset = (o->page - r->first_chunk * 64) << PAGE_SHIFT;
	const struct view *found = NULL;

	for (unsigned i = 0; i < r->nviews; i++)
		if (offset - r->views[i].offset_bytes < r->views[i].bytes &&
			(found == NULL || o->pick % 2))
			found = &r->views[i];
	if (found != NULL)
		guest32_write(
			w->guest, (uint32_t)(found->gpa + offset - found->offset_bytes), o->value);
}

static void obey(struct writer *w, const struct order *o)
{
	struct region *r = region_of_chunk(&w->map, o->page == UINT64_MAX ? 0 : o->page / 64);

	switch (o->what) {
	case FAR_WRITE:
		if (w->guest != NULL)
			guest_writes(w, o);
		else
			write_word(w, o);
		break;
	case FAR_ZAP:
		if (o->page == UINT64_MAX)
			madvise(r->base, r->bytes, MADV_DONTNEED);
		else
			madvise(r->base + ((o->page - r->first_chunk * 64) << PAGE_SHIFT),
				r->page_bytes, MADV_DONTNEED);
		break;
	case FAR_UNMAP:
		munmap(r->base, r->bytes);
		break;
	case FAR_REMAP:
		map_piece(r, 0, r->bytes, NULL);
		break;
	}
}

static void live(struct writer *w, int sock)
{
	struct err e = {0};
	struct order o;
	char ready = 'y';

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (map_all(w) < 0)
		ready = 'n';
	else if (w->kind == FAR_KVM && guest32_open(&w->guest, &w->map, 0, &e) != 0)
		ready = 's';
	if (write(sock, &ready, 1) == 1 && ready == 's')
		ready = write(sock, &e, sizeof(e)) > 0 ? 'n' : 's';
	while (ready == 'y' && read(sock, &o, sizeof(o)) == sizeof(o)) {
		obey(w, &o);
		if (write(sock, &ready, 1) != 1)
			break;
	}
	_exit(0);
}

int far_mappings(pid_t pid, const struct region_map *map, struct attach_ram *ram, unsigned most,
	struct err *e)
{
	struct attach_file *files;
	unsigned nfiles, n = 0;
	int rc = attach_files(pid, &files, &nfiles, e);

	if (rc < 0)
		return rc;
	for (unsigned i = 0; i < map->n; i++)
		for (unsigned k = 0; k < nfiles; k++) {
			struct stat st;

			if (fstat(map->r[i].fd, &st) < 0 || st.st_ino != files[k].ino)
				continue;
			for (unsigned j = 0; j < files[k].n && n < most; j++) {
				ram[n] = files[k].ram[j];
				ram[n++].region = i;
			}
		}
	free(files);
	return (int)n;
}

static int attach_to(struct far *f, const struct region_map *map, struct err *e)
{
	struct attach_ram ram[MAPPINGS];
	int n = far_mappings(f->pid, map, ram, MAPPINGS, e);

	return n < 0 ? n : attach_open(&f->attach, f->pid, f->pidfd, ram, (unsigned)n, e);
}

int far_open(struct far *f, const struct region_map *map, enum far_kind kind, struct err *e)
{
	static struct writer w;
	int pair[2];
	char ready = 0;

	memset(f, 0, sizeof(*f));
	f->pidfd = -1;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_sys(e, errno, "no socket pair");
	f->sock = pair[0];
	f->pid = fork();
	if (f->pid == 0) {
		memset(&w, 0, sizeof(w));
		w.map = *map;
		w.kind = kind;
		close(pair[0]);
		live(&w, pair[1]);
	}
	close(pair[1]);
	f->pidfd = (int)syscall(SYS_pidfd_open, f->pid, 0);
	if (read(f->sock, &ready, 1) == 1 && ready == 's')
		return read(f->sock, e, sizeof(*e)) == sizeof(*e) ? 1 : -EIO;
	if (ready != 'y' || f->pidfd < 0)
		return err_set(e, EIO, "the far writer does not start");
	return attach_to(f, map, e);
}

void far_close(struct far *f)
{
	attach_close(f->attach);
	f->attach = NULL;
	if (f->pid <= 0)
		return;
	kill(f->pid, SIGKILL);
	waitpid(f->pid, NULL, 0);
	close(f->sock);
	close_fd(&f->pidfd);
	f->pid = 0;
}

void far_do(struct far *f, enum far_order order, uint64_t page, uint32_t value, unsigned pick)
{
	struct order o = {.what = order, .value = value, .pick = pick, .page = page};
	char done;

	if (write(f->sock, &o, sizeof(o)) != sizeof(o) || read(f->sock, &done, 1) != 1) {
		printf("the far writer is gone\n");
		exit(1);
	}
}
