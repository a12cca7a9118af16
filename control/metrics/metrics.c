// SPDX-License-Identifier: BSD-3-Clause
// Metrics over HTTP. Run by the control loop: libmicrohttpd is given no thread of its own, it has
// an epoll descriptor that the loop waits for. Clients are few, and cut where they are silent; what
// they send has a bound, and but for method and path nothing of it is looked at.

#include "metrics.h"

#include <errno.h>
#include <fcntl.h>
#include <microhttpd.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "address.h"
#include "api_socket.h"
#include "clock.h"
#include "expo.h"
#include "session.h"

#define BACKLOG      16
#define CLIENT_BYTES (16u << 10) /* of memory for a request */
#define FRESH_NS     (200 * NS_PER_MS)

struct metrics {
	struct metrics_config config;
	struct api_socket socket; /* its fd is -1 where a port is listened on */
	struct MHD_Daemon *http;
	struct event *ready, *timer;
	char *text; /* made at text_ns; NULL: never */
	size_t text_bytes;
	uint64_t text_ns;
};

static int make_text(struct metrics *m)
{
	char *text = NULL;
	size_t bytes;
	FILE *out;

	if (m->text != NULL && clock_ns() - m->text_ns < FRESH_NS)
		return 0;
	out = open_memstream(&text, &bytes);
	if (out == NULL)
		return -ENOMEM;
	expo_family(out, "godwit_build", "info", "The daemon");
	expo_count(out, "godwit_build", "_info", 1, "version", GODWIT_VERSION, NULL);
	if (m->config.more != NULL)
		m->config.more(m->config.arg, out);
	session_metrics(out);
	expo_end(out);
	if (fclose(out) != 0) {
		free(text);
		return -ENOMEM;
	}
	free(m->text);
	m->text = text;
	m->text_bytes = bytes;
	m->text_ns = clock_ns();
	return 0;
}

static enum MHD_Result answer(
	struct MHD_Connection *c, unsigned status, const char *type, const char *text, size_t bytes)
{
	struct MHD_Response *r =
		MHD_create_response_from_buffer(bytes, (void *)text, MHD_RESPMEM_MUST_COPY);
	enum MHD_Result rc;

	if (r == NULL)
		return MHD_NO;
	MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
		MHD_add_response_header(r, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
	rc = MHD_queue_response(c, status, r);
	MHD_destroy_response(r);
	return rc;
}

static enum MHD_Result refuse(struct MHD_Connection *c, unsigned status, const char *why)
{
	return answer(c, status, "text/plain; charset=utf-8", why, strlen(why));
}

static enum MHD_Result on_request(void *arg, struct MHD_Connection *c, const char *url,
	const char *method, const char *version, const char *upload, size_t *upload_bytes,
	void **state)
{
	struct metrics *m = arg;

	(void)version;
	(void)upload;
	/* The first call is with the header only; a body is passed over. */
	if (*state == NULL) {
		*state = m;
		return MHD_YES;
	}
	if (*upload_bytes > 0) {
		*upload_bytes = 0;
		return MHD_YES;
	}
	if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
		return refuse(c, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET and HEAD\n");
	if (strcmp(url, "/metrics") != 0)
		return refuse(c, MHD_HTTP_NOT_FOUND, "see /metrics\n");
	if (make_text(m) < 0)
		return refuse(c, MHD_HTTP_INTERNAL_SERVER_ERROR, "no memory\n");
	return answer(c, MHD_HTTP_OK, EXPO_CONTENT_TYPE, m->text, m->text_bytes);
}

/* Lets it work, now and when it wants to again if nothing comes: it cuts who is silent. It is asked
 * once a second in any case, as it may have let a place free without a word. */
static void run(struct metrics *m)
{
	MHD_UNSIGNED_LONG_LONG ms;
	struct timeval tv = {.tv_sec = 1};

	MHD_run(m->http);
	if (MHD_get_timeout(m->http, &ms) == MHD_YES && ms < 1000)
		tv = (struct timeval){.tv_usec = (suseconds_t)ms * 1000};
	event_add(m->timer, &tv);
}

static void on_event(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	run(arg);
}

static bool is_loopback(const struct sockaddr *sa)
{
	if (sa->sa_family == AF_INET)
		return ntohl(((const struct sockaddr_in *)sa)->sin_addr.s_addr) >> 24 == 127;
	return sa->sa_family == AF_INET6 &&
	       IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)sa)->sin6_addr);
}

/* A listening socket on the loopback, or -errno. Addresses only: no name is asked of a server. */
static int listen_port_on(const char *where, struct err *e)
{
	const struct addrinfo hints = {
		.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};
	_cleanup_(close_fd) int fd = -1;
	char host[ADDRESS_HOST], port[6] = "";
	struct addrinfo *found = NULL;
	int one = 1, rc = address_split(where, host, port, NULL);

	if (rc < 0 || strchr(where, ':') == NULL || host[0] == '\0' ||
		getaddrinfo(host, port, &hints, &found) != 0)
		return err_set(e, EINVAL,
			"metrics: '%.60s' is neither a path (/run/godwit/metrics.sock) nor an "
			"address and port of the loopback (127.0.0.1:9646)",
			where);
	if (!is_loopback(found->ai_addr)) {
		freeaddrinfo(found);
		return err_set(e, EINVAL,
			"metrics: %.60s is not of the loopback, and metrics are for this host: put "
			"what asks from elsewhere behind a proxy of its own",
			where);
	}
	fd = socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd >= 0)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	rc = fd < 0 || bind(fd, found->ai_addr, found->ai_addrlen) != 0 || listen(fd, BACKLOG) != 0
		     ? err_sys(e, errno, "metrics: cannot listen on %s", where)
		     : 0;
	freeaddrinfo(found);
	if (rc < 0)
		return rc;
	rc = fd;
	fd = -1;
	return rc;
}

static int open_socket(struct metrics *m, struct err *e)
{
	const struct metrics_config *c = &m->config;
	const struct api_socket_names names = {"socket of metrics", "metrics", c->group_option, ""};
	int fd, rc;

	if (c->where[0] != '/')
		return listen_port_on(c->where, e);
	rc = api_socket_open(
		&m->socket, &names, c->where, c->everybody ? 0666 : 0660, c->group, NULL, e);
	if (rc < 0)
		return rc;
	/* Its own, which the library closes. */
	fd = fcntl(m->socket.fd, F_DUPFD_CLOEXEC, 0);
	return fd < 0 ? err_sys(e, errno, "metrics: no descriptor") : fd;
}

static int start(struct metrics *m, int fd, struct err *e)
{
	const union MHD_DaemonInfo *info;

	m->http = MHD_start_daemon(MHD_USE_EPOLL, 0, NULL, NULL, on_request, m,
		MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT, METRICS_CLIENTS,
		MHD_OPTION_CONNECTION_TIMEOUT, METRICS_IDLE_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
		(size_t)CLIENT_BYTES, MHD_OPTION_END);
	if (m->http == NULL) {
		close(fd);
		return err_set(e, ENOMEM, "metrics: cannot start to serve");
	}
	info = MHD_get_daemon_info(m->http, MHD_DAEMON_INFO_EPOLL_FD);
	if (info == NULL)
		return err_set(e, ENOTSUP, "metrics: this libmicrohttpd has no epoll");
	m->ready = event_new(m->config.base, info->epoll_fd, EV_READ | EV_PERSIST, on_event, m);
	m->timer = evtimer_new(m->config.base, on_event, m);
	if (m->ready == NULL || m->timer == NULL || event_add(m->ready, NULL) != 0)
		return err_set(e, ENOMEM, "metrics: no memory");
	return 0;
}

int metrics_new(struct metrics **out, const struct metrics_config *c, struct err *e)
{
	struct metrics *m = calloc(1, sizeof(*m));
	int rc;

	if (m == NULL)
		return err_set(e, ENOMEM, "metrics: no memory");
	m->config = *c;
	m->socket.fd = -1;
	rc = open_socket(m, e);
	if (rc >= 0)
		rc = start(m, rc, e);
	if (rc < 0) {
		metrics_free(m);
		return rc;
	}
	*out = m;
	return 0;
}

void metrics_free(struct metrics *m)
{
	if (m == NULL)
		return;
	if (m->ready != NULL)
		event_free(m->ready);
	if (m->timer != NULL)
		event_free(m->timer);
	if (m->http != NULL)
		MHD_stop_daemon(m->http);
	api_socket_close(&m->socket);
	free(m->text);
	free(m);
}
