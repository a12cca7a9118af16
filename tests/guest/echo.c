// SPDX-License-Identifier: BSD-3-Clause
// Sends back what TCP connections bring, port 7: the other end sees that a connection lives, and
// that its stream is whole. One thread a connection.

#include <netinet/in.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#include "checker.h"

#define PORT 7

static _Atomic uint64_t echoed;

static void *serve(void *arg)
{
	int fd = (int)(intptr_t)arg;
	char data[4096];
	ssize_t n;

	while ((n = read(fd, data, sizeof(data))) > 0) {
		for (ssize_t sent = 0, m; sent < n; sent += m) {
			m = send(fd, data + sent, (size_t)(n - sent), MSG_NOSIGNAL);
			if (m <= 0)
				goto gone;
		}
		atomic_fetch_add(&echoed, (uint64_t)n);
	}
gone:
	close(fd);
	return NULL;
}

static void *work(void *arg)
{
	struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(PORT)};
	int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;

	(void)arg;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&here, sizeof(here)) != 0 || listen(fd, 8) != 0) {
		console_error("echo: port %d can't be had", PORT);
		return NULL;
	}
	for (;;) {
		int peer = accept(fd, NULL, NULL);

		if (peer >= 0)
			thread_start(serve, (void *)(intptr_t)peer);
	}
	return NULL;
}

void echo_start(void)
{
	thread_start(work, NULL);
}

uint64_t echo_bytes(void)
{
	return atomic_load(&echoed);
}
