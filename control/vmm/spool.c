// SPDX-License-Identifier: BSD-3-Clause
// Device state in a memfd, and its way over the control connection. Run by the control loop.
//
// Invariant: what all targets of this daemon await is bounded, however many sessions there are; it
// is counted when a source announces it, in the pause, so that what was begun is not refused later.

#include "spool.h"

#include "conn.h"
#include "crc.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define SPOOL_BACKLOG (4u << 20) /* bytes that may wait in the connection */

static uint64_t awaited_bytes; /* of spools that are counted */

static int sum_fd(int fd, uint64_t bytes, uint32_t *crc)
{
	uint8_t buf[65536];

	*crc = 0;
	for (uint64_t at = 0; at < bytes;) {
		uint64_t want = bytes - at < sizeof(buf) ? bytes - at : sizeof(buf);
		ssize_t n = pread(fd, buf, want, (off_t)at);

		if (n <= 0)
			return n == 0 ? -ENODATA : -errno;
		*crc = crc32c(*crc, buf, (size_t)n);
		at += (uint64_t)n;
	}
	return 0;
}

int spool_from_fd(struct spool **out, int fd, uint64_t bytes, struct err *e)
{
	struct spool *s;
	uint32_t crc;
	int rc;

	if (bytes == 0 || bytes > SPOOL_BYTES_MAX) {
		close(fd);
		return err_set(e, EPROTO,
			"the VMM's device state has %llu bytes; 1 byte to 1 GiB are possible",
			(unsigned long long)bytes);
	}
	/* Only memfds have seals; another file could make reading wait. */
	rc = fcntl(fd, F_GET_SEALS) < 0 ? -EBADF : sum_fd(fd, bytes, &crc);
	s = calloc(1, sizeof(*s));
	if (rc < 0 || s == NULL) {
		close(fd);
		free(s);
		return err_sys(e, rc < 0 ? -rc : ENOMEM, "cannot read the VMM's device state");
	}
	*s = (struct spool){.fd = fd, .bytes = bytes, .crc = crc};
	*out = s;
	return 0;
}

int spool_send(struct spool *s, struct conn *c, struct err *e)
{
	static uint8_t buf[SPOOL_PIECE];

	while (s->at < s->bytes) {
		uint64_t want = s->bytes - s->at < sizeof(buf) ? s->bytes - s->at : sizeof(buf);
		ssize_t n;
		int rc;

		if (conn_backlog(c) >= SPOOL_BACKLOG)
			return 0;
		n = pread(s->fd, buf, want, (off_t)s->at);
		if (n <= 0)
			return err_sys(
				e, n == 0 ? ENODATA : errno, "cannot read the VMM's device state");
		rc = conn_send_blob(c, buf, (size_t)n);
		if (rc < 0)
			return err_sys(e, -rc, "cannot send the device state");
		s->at += (uint64_t)n;
	}
	return 1;
}

int spool_new(struct spool **out, uint64_t bytes, uint32_t crc, struct err *e)
{
	struct spool *s;
	int fd;

	if (bytes == 0 || bytes > SPOOL_BYTES_MAX)
		return err_set(e, EPROTO,
			"the source announced %llu bytes of device state; 1 byte to 1 GiB are "
			"possible",
			(unsigned long long)bytes);
	if (bytes > SPOOL_ALL_MAX - awaited_bytes)
		return err_set(e, EBUSY,
			"the guest has %llu MiB of device state, and other guests have %llu MiB on "
			"their way to this host, which takes %llu MiB at a time: migrate it again "
			"when one of them is there",
			(unsigned long long)bytes >> 20, (unsigned long long)awaited_bytes >> 20,
			(unsigned long long)SPOOL_ALL_MAX >> 20);
	fd = memfd_create("godwit-state", MFD_CLOEXEC);
	s = calloc(1, sizeof(*s));
	if (fd < 0 || s == NULL) {
		int rc = err_sys(
			e, fd < 0 ? errno : ENOMEM, "cannot make a memfd for the device state");

		close_fd(&fd);
		free(s);
		return rc;
	}
	*s = (struct spool){.fd = fd, .bytes = bytes, .crc = crc, .counted = true};
	awaited_bytes += bytes;
	*out = s;
	return 0;
}

int spool_add(struct spool *s, const uint8_t *data, size_t bytes, struct err *e)
{
	if (bytes > s->bytes - s->at)
		return err_set(e, EPROTO, "the source sent more device state than it announced");
	while (bytes > 0) {
		ssize_t n = pwrite(s->fd, data, bytes, (off_t)s->at);

		if (n <= 0)
			return err_sys(e, n == 0 ? ENOSPC : errno, "cannot keep the device state");
		data += n;
		bytes -= (size_t)n;
		s->at += (uint64_t)n;
	}
	return 0;
}

int spool_check(struct spool *s, struct err *e)
{
	uint32_t crc;
	int rc = sum_fd(s->fd, s->bytes, &crc);

	if (rc < 0)
		return err_sys(e, -rc, "cannot read the device state back");
	if (crc != s->crc)
		return err_set(e, EBADMSG,
			"the device state came with another checksum than the source announced");
	return 0;
}

void spool_free(struct spool *s)
{
	if (s == NULL)
		return;
	awaited_bytes -= s->counted ? s->bytes : 0;
	close_fd(&s->fd);
	free(s);
}
