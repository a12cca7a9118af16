// SPDX-License-Identifier: BSD-3-Clause
// A socket that listens on the daemon's address. Run by main at the start.

#include "listen.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "address.h"
#include "log.h"

#define BACKLOG 128

static int bind_one(const struct addrinfo *ai)
{
	int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int on = 1, off = 0, errnum;

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (ai->ai_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	if (bind(fd, ai->ai_addr, ai->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
		return fd;
	errnum = errno;
	close(fd);
	return -errnum;
}

static int no_listening(const char *address, const char *port, int errnum, struct err *e)
{
	if (errnum == EADDRINUSE)
		return err_set(e, errnum,
			"cannot listen on %s: port %s is in use. `ss -ltnp 'sport = :%s'` shows by "
			"which "
			"process (another godwitd?): end it, or choose another port with --listen",
			address, port, port);
	if (errnum == EADDRNOTAVAIL)
		return err_set(e, errnum,
			"cannot listen on %s: this host has no such address (see `ip address`); "
			"choose "
			"another with --listen",
			address);
	if (errnum == EACCES)
		return err_set(e, errnum,
			"cannot listen on %s: ports below 1024 need root; choose another with "
			"--listen",
			address);
	return err_sys(e, errnum, "cannot listen on %s", address);
}

/* Binds to the first address that takes it. Names are looked up here, before the loop runs. */
int listen_bind(const char *address, struct err *e)
{
	struct addrinfo hints = {.ai_flags = AI_PASSIVE, .ai_socktype = SOCK_STREAM}, *list = NULL;
	char host[ADDRESS_HOST], port[6];
	int fd = -EADDRNOTAVAIL, rc;

	rc = address_split(address, host, port, e);
	if (rc < 0)
		return rc;
	/* No host: "::" takes IPv4 too; the wildcard of IPv4 where the kernel has no IPv6. */
	rc = getaddrinfo(host[0] ? host : "::", port, &hints, &list);
	if (rc != 0)
		return err_set(
			e, EADDRNOTAVAIL, "cannot listen on %s: %s", address, gai_strerror(rc));
	for (const struct addrinfo *ai = list; ai != NULL && fd < 0; ai = ai->ai_next)
		fd = bind_one(ai);
	freeaddrinfo(list);
	if (host[0] == '\0' && (fd == -EAFNOSUPPORT || fd == -EADDRNOTAVAIL)) {
		struct sockaddr_in any = {
			.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
		struct addrinfo v4 = {.ai_family = AF_INET,
			.ai_addr = (struct sockaddr *)&any,
			.ai_addrlen = sizeof(any)};

		log_info("listen", "this kernel has no IPv6: listening on IPv4 only");
		fd = bind_one(&v4);
	}
	return fd < 0 ? no_listening(address, port, -fd, e) : fd;
}
