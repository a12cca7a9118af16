// SPDX-License-Identifier: BSD-3-Clause
// godwit's connection to the daemon's API, blocking. Run by godwit's only thread.

#include "godwit_client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "conn.h"

static int not_reachable(const char *path, int errnum, struct err *e)
{
	if (errnum == ENOENT || errnum == ECONNREFUSED)
		return err_set(e, errnum,
			"no godwitd answers on %s: start it (`godwitd`), or name its socket with "
			"--api",
			path);
	if (errnum == EACCES)
		return err_set(e, errnum,
			"you may not use %s: become root, or join the group that owns it", path);
	return err_sys(e, errnum, "cannot connect to %s", path);
}

int godwit_client_open(struct godwit_client *c, const char *path, struct err *e)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};

	memset(c, 0, sizeof(*c));
	c->path = path;
	c->fd = -1;
	if (strlen(path) >= sizeof(at.sun_path))
		return err_set(
			e, ENAMETOOLONG, "the path %.60s... of the API socket is too long", path);
	snprintf(at.sun_path, sizeof(at.sun_path), "%s", path);
	c->buf = malloc(CONN_MSG_BYTES);
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->buf == NULL || c->fd < 0)
		return err_sys(e, c->fd < 0 ? errno : ENOMEM, "cannot make a socket");
	if (connect(c->fd, (struct sockaddr *)&at, sizeof(at)) != 0)
		return not_reachable(path, errno, e);
	return 0;
}

static int put(struct godwit_client *c, const void *data, size_t bytes, struct err *e)
{
	const char *at = data;

	while (bytes > 0) {
		ssize_t n = send(c->fd, at, bytes, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(e, errno, "cannot send to godwitd on %s", c->path);
		at += n;
		bytes -= (size_t)n;
	}
	return 0;
}

int godwit_client_send(struct godwit_client *c, json_t *request, struct err *e)
{
	_cleanup_(free_ptr) char *text = json_dumps(request, JSON_COMPACT);
	uint8_t hdr[CONN_HDR_BYTES];
	int rc;

	json_decref(request);
	if (text == NULL)
		return err_set(e, ENOMEM, "no memory for the request");
	conn_put_header(hdr, CONN_JSON, strlen(text));
	rc = put(c, hdr, sizeof(hdr), e);
	return rc < 0 ? rc : put(c, text, strlen(text), e);
}

/* A control character: of ASCII, or U+0080 to U+009F, which some terminals obey too. */
static unsigned control_bytes(const unsigned char *at)
{
	if (*at < ' ' || *at == 127)
		return 1;
	return at[0] == 0xc2 && at[1] >= 0x80 && at[1] <= 0x9f ? 2 : 0;
}

/* What the other host's daemon or a VMM said stands in the texts: none of it commands the terminal
 * that it is shown on, or begins a line of its own. */
static void tame_text(json_t *text)
{
	size_t left = json_string_length(text);
	_cleanup_(free_ptr) char *tame = malloc(left + 1);
	bool changed = false;

	if (tame == NULL)
		abort();
	memcpy(tame, json_string_value(text), left + 1);
	for (char *at = tame; left > 0; at++, left--) {
		unsigned n = control_bytes((const unsigned char *)at);

		memset(at, '?', n);
		changed |= n > 0;
	}
	if (changed)
		json_string_setn(text, tame, json_string_length(text));
}

static void tame(json_t *j)
{
	const char *key;
	json_t *item;
	size_t i;

	if (json_is_string(j))
		tame_text(j);
	json_array_foreach(j, i, item) tame(item);
	json_object_foreach(j, key, item) tame(item);
}

json_t *godwit_client_next(struct godwit_client *c, struct err *e)
{
	enum conn_kind kind;
	int64_t total;
	json_t *msg;

	while ((total = conn_parse(c->buf, c->have, &kind, e)) == 0) {
		ssize_t n = recv(c->fd, c->buf + c->have, CONN_MSG_BYTES - c->have, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			err_set(e, ECONNRESET, "godwitd on %s has left: see its log", c->path);
			return NULL;
		}
		c->have += (size_t)n;
	}
	if (total < 0)
		return NULL;
	if (kind != CONN_JSON) {
		err_set(e, EPROTO, "godwitd sent a blob where only JSON may be");
		return NULL;
	}
	msg = conn_parse_json(c->buf + CONN_HDR_BYTES, (size_t)total - CONN_HDR_BYTES, e);
	c->have -= (size_t)total;
	memmove(c->buf, c->buf + total, c->have);
	tame(msg);
	return msg;
}

void godwit_client_close(struct godwit_client *c)
{
	close_fd(&c->fd);
	free(c->buf);
	c->buf = NULL;
}
