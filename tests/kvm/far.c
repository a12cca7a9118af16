// SPDX-License-Identifier: BSD-3-Clause
// The far writer: a child that takes orders over a socket, one at a time.

#include "far.h"

#include "guest32.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
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
	int ring;
	struct io_uring_params params;
	uint8_t *sq;
	struct io_uring_sqe *sqes;
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

static uint8_t *at_page(struct writer *w, uint64_t page)
{
	struct region *r = region_of_chunk(&w->map, page / 64);

	return r->base + ((page - r->first_chunk * 64) << PAGE_SHIFT);
}

/* An io_uring of one entry with one registered buffer; no library, as little as does. */
static int pin(struct writer *w, uint64_t page)
{
	struct io_uring_params p = {0};
	struct iovec v = {at_page(w, page), PAGE_BYTES};
	int fd = (int)syscall(SYS_io_uring_setup, 1, &p);

	if (fd < 0 || syscall(SYS_io_uring_register, fd, IORING_REGISTER_BUFFERS, &v, 1) < 0)
		return -errno;
	w->ring = fd;
	w->params = p;
	w->sq = mmap(NULL, p.sq_off.array + p.sq_entries * 4, PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_POPULATE, fd, IORING_OFF_SQ_RING);
	w->sqes = mmap(NULL, sizeof(struct io_uring_sqe), PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_POPULATE, fd, (off_t)IORING_OFF_SQES);
	return w->sq == MAP_FAILED || w->sqes == MAP_FAILED ? -errno : 0;
}

static int read_fixed(struct writer *w, uint64_t page)
{
	static char text[PAGE_BYTES];
	unsigned *tail = (unsigned *)(w->sq + w->params.sq_off.tail);
	unsigned *array = (unsigned *)(w->sq + w->params.sq_off.array);
	int file = memfd_create("disk", MFD_CLOEXEC);
	long rc;

	memset(text, 'x', sizeof(text));
	if (write(file, text, sizeof(text)) != sizeof(text))
		return -EIO;
	*w->sqes = (struct io_uring_sqe){.opcode = IORING_OP_READ_FIXED,
		.fd = file,
		.addr = (uintptr_t)at_page(w, page),
		.len = PAGE_BYTES};
	array[*tail & (w->params.sq_entries - 1)] = 0;
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
	rc = syscall(SYS_io_uring_enter, w->ring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0);
	close(file);
	return rc == 1 ? 0 : -EIO;
}

static int obey(struct writer *w, const struct order *o)
{
	struct region *r = region_of_chunk(&w->map, o->page == UINT64_MAX ? 0 : o->page / 64);

	switch (o->what) {
	case FAR_WRITE:
		if (w->guest != NULL)
			guest_writes(w, o);
		else
			write_word(w, o);
		return 0;
	case FAR_ZAP:
		if (o->page == UINT64_MAX)
			return madvise(r->base, r->bytes, MADV_DONTNEED);
		return madvise(at_page(w, o->page), r->page_bytes, MADV_DONTNEED);
	case FAR_UNMAP:
		return munmap(r->base, r->bytes);
	case FAR_REMAP:
		return map_piece(r, 0, r->bytes, NULL) == NULL ? -ENOMEM : 0;
	case FAR_PIN:
		return pin(w, o->page);
	case FAR_FIXED:
		return read_fixed(w, o->page);
	case FAR_DIRECT:
		return open("/proc/self/exe", O_RDONLY | O_DIRECT | O_CLOEXEC) < 0 ? -errno : 0;
	}
	return -EINVAL;
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
		int rc = obey(w, &o);

		if (write(sock, &rc, sizeof(rc)) != sizeof(rc))
			break;
	}
	_exit(0);
}

int far_mappings(pid_t pid, const struct region_map *map, struct attach_ram *ram, unsigned most,
	struct err *e)
{
	struct attach_file *files;
	unsigned nfiles, n = 0;
	int rc = attach_files(NULL, pid, &files, &nfiles, e);

	if (rc < 0)
		return rc;
	for (unsigned i = 0; i < map->n; i++)
		for (unsigned k = 0; k < nfiles; k++) {
			struct stat st;

			if (fstat(map->r[i].fd, &st) < 0 || st.st_ino != files[k].ino ||
				st.st_dev != files[k].dev)
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

	return n < 0 ? n : attach_open(&f->attach, NULL, f->pid, f->pidfd, ram, (unsigned)n, e);
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

int far_do(struct far *f, enum far_order order, uint64_t page, uint32_t value, unsigned pick)
{
	struct order o = {.what = order, .value = value, .pick = pick, .page = page};
	int rc;

	if (write(f->sock, &o, sizeof(o)) != sizeof(o) ||
		read(f->sock, &rc, sizeof(rc)) != sizeof(rc)) {
		printf("the far writer is gone\n");
		exit(1);
	}
	return rc;
}
