// SPDX-License-Identifier: BSD-3-Clause
// Starts QEMU with a multiboot kernel made here, and speaks as much QMP as stop and cont take.

#include "qemu_guest.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LOAD_AT    0x100000u
#define WRITES_AT  0x200000u
#define PROGRAM    "qemu-system-x86_64"
#define TIMEOUT_MS 60000

/* eax is a random number, and what is written: page (eax >> 10) % 16384 gets it as its first word.
 */
static const uint8_t code[] = {
	0xb8, 0x39, 0x30, 0x00, 0x00,             /* mov $12345,%eax */
	0x69, 0xc0, 0x0d, 0x66, 0x19, 0x00,       /* 1: imul $1664525,%eax,%eax */
	0x05, 0x5f, 0xf3, 0x6e, 0x3c,             /* add $1013904223,%eax */
	0x89, 0xc3,                               /* mov %eax,%ebx */
	0xc1, 0xeb, 0x0a,                         /* shr $10,%ebx */
	0x81, 0xe3, 0xff, 0x3f, 0x00, 0x00,       /* and $16383,%ebx */
	0xc1, 0xe3, 0x0c,                         /* shl $12,%ebx */
	0x89, 0x83, 0x00, 0x00, 0x20, 0x00,       /* mov %eax,WRITES_AT(%ebx) */
	0xb9, 0x00, 0x02, 0x00, 0x00, 0xe2, 0xfe, /* mov $512,%ecx; loop . */
	0xeb, 0xd8,                               /* jmp 1b */
};

/* The header of multiboot with addresses, so that it needs no ELF. */
static int write_kernel(const char *path)
{
	struct {
		uint32_t magic, flags, checksum;
		uint32_t header, load, load_end, bss_end, entry;
	} h = {.magic = 0x1badb002, .flags = 1u << 16, .header = LOAD_AT, .load = LOAD_AT};
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	int rc = 0;

	h.checksum = 0u - h.magic - h.flags;
	h.load_end = h.bss_end = LOAD_AT + sizeof(h) + sizeof(code);
	h.entry = LOAD_AT + sizeof(h);
	if (fd < 0 || write(fd, &h, sizeof(h)) != sizeof(h) ||
		write(fd, code, sizeof(code)) != sizeof(code))
		rc = -EIO;
	close_fd(&fd);
	return rc;
}

static void run(struct qemu_guest *q, int sock)
{
	char object[256], chardev[64];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	snprintf(object, sizeof(object),
		"memory-backend-file,id=ram,size=128M,mem-path=%s,share=on", q->ram);
	fcntl(sock, F_SETFD, 0);
	snprintf(chardev, sizeof(chardev), "socket,id=qmp,fd=%d", sock);
	dup2(open("/dev/null", O_RDWR), 0);
	dup2(0, 1);
	dup2(0, 2);
	execlp(PROGRAM, PROGRAM, "-accel", "tcg", "-machine", "pc,memory-backend=ram", "-m", "128M",
		"-nodefaults", "-display", "none", "-kernel", q->kernel, "-object", object,
		"-chardev", chardev, "-mon", "chardev=qmp,mode=control", (char *)NULL);
	_exit(127);
}

/* Reads until the text has come. 0, or -errno. */
static int wait_text(struct qemu_guest *q, const char *text)
{
	static char got[65536];
	size_t n = 0;

	for (;;) {
		struct pollfd p = {.fd = q->qmp, .events = POLLIN};
		ssize_t more;

		if (poll(&p, 1, TIMEOUT_MS) != 1 || n == sizeof(got) - 1)
			return -ETIMEDOUT;
		more = read(q->qmp, got + n, sizeof(got) - 1 - n);
		if (more <= 0)
			return -EPIPE;
		n += (size_t)more;
		got[n] = '\0';
		if (strstr(got, text) != NULL)
			return 0;
	}
}

int qemu_guest_tell(struct qemu_guest *q, const char *command)
{
	char text[96];
	int n = snprintf(
		text, sizeof(text), "{\"execute\": \"%s\", \"id\": \"%s\"}\n", command, command);

	if (write(q->qmp, text, (size_t)n) != n)
		return -errno;
	snprintf(text, sizeof(text), "\"id\": \"%s\"", command);
	return wait_text(q, text);
}

/* The guest's first writes, seen in the file without reading its holes. */
static int wait_writes(struct qemu_guest *q)
{
	const struct timespec nap = {0, 20000000};

	for (unsigned i = 0; i < TIMEOUT_MS / 20; i++) {
		off_t data = lseek(q->fd, (32 << 20), SEEK_DATA);

		if (data >= 0 && data < (64 << 20))
			return 0;
		if (waitpid(q->pid, NULL, WNOHANG) != 0)
			return -ECHILD;
		nanosleep(&nap, NULL);
	}
	return -ETIMEDOUT;
}

static int start(struct qemu_guest *q)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	q->qmp = pair[0];
	q->pid = fork();
	if (q->pid == 0)
		run(q, pair[1]);
	close(pair[1]);
	if (q->pid < 0)
		return -errno;
	q->pidfd = (int)syscall(SYS_pidfd_open, q->pid, 0);
	return q->pidfd < 0 ? -errno : 0;
}

int qemu_guest_open(struct qemu_guest *q, struct err *e)
{
	int rc = 0;

	memset(q, 0, sizeof(*q));
	q->pidfd = q->fd = q->qmp = -1;
	if (system("command -v " PROGRAM " >/dev/null 2>&1") != 0) {
		err_set(e, ENOENT, "there is no " PROGRAM);
		return 1;
	}
	snprintf(q->dir, sizeof(q->dir), "/dev/shm/godwit-test-XXXXXX");
	if (mkdtemp(q->dir) == NULL)
		return err_sys(e, errno, "%s", q->dir);
	snprintf(q->ram, sizeof(q->ram), "%s/ram", q->dir);
	snprintf(q->kernel, sizeof(q->kernel), "%s/kernel", q->dir);
	q->fd = open(q->ram, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (q->fd < 0 || ftruncate(q->fd, (off_t)QEMU_GUEST_BYTES) < 0)
		rc = -errno;
	if (rc == 0)
		rc = write_kernel(q->kernel);
	if (rc == 0)
		rc = start(q);
	if (rc == 0)
		rc = wait_text(q, "QMP");
	if (rc == 0)
		rc = qemu_guest_tell(q, "qmp_capabilities");
	if (rc == 0)
		rc = wait_writes(q);
	if (rc < 0) {
		qemu_guest_close(q);
		return err_sys(e, -rc, PROGRAM " does not start as it should");
	}
	return 0;
}

void qemu_guest_close(struct qemu_guest *q)
{
	if (q->pid > 0) {
		kill(q->pid, SIGKILL);
		waitpid(q->pid, NULL, 0);
	}
	q->pid = 0;
	close_fd(&q->qmp);
	close_fd(&q->pidfd);
	close_fd(&q->fd);
	unlink(q->ram);
	unlink(q->kernel);
	rmdir(q->dir);
}
