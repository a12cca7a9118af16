// SPDX-License-Identifier: BSD-3-Clause
// godwit-keeper: waits beside a QEMU whose guest a godwitd moves. It keeps the last list of
// commands that the daemon sent; when the daemon's socket ends, it has QEMU carry them out. It
// shares the daemon's QMP socket and speaks on it only after the daemon has gone. See keeper.h.

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "keeper.h"
#include "qmp.h"

/* Nobody else gives the guest back: a QEMU that hangs, on a disk say, is waited for. Days: as long
 * as it lives, that is; its end closes the monitor. */
#define ANSWER_MS   (INT_MAX / 2)
#define TRIES       600 /* of one command that QEMU refuses for now: a minute */
#define TRIES_HUMAN 20  /* of one of its human monitor, whose text does not tell why */
#define REST_MS     100

/* What the daemon left of a message that it had read in part. */
static void drop_rest_of_line(void)
{
	struct pollfd p = {.fd = KEEPER_QMP_FD, .events = POLLIN};
	char c = 0;

	while (c != '\n' && poll(&p, 1, 0) == 1 && recv(KEEPER_QMP_FD, &c, 1, MSG_DONTWAIT) == 1)
		;
}

/* Ends a command that the daemon had written in part: QEMU's reader starts afresh at this byte. */
static void start_afresh(void)
{
	static const char reset[] = {(char)0xff, '\n'};

	if (send(KEEPER_QMP_FD, reset, sizeof(reset), MSG_NOSIGNAL) < 0)
		return;
}

static void rest(void)
{
	const struct timespec ts = {.tv_nsec = REST_MS * 1000000L};

	nanosleep(&ts, NULL);
}

static int carry_out(struct qmp *q, const json_t *command)
{
	const char *what = json_string_value(json_object_get(command, "execute"));
	json_t *arguments = json_object_get(command, "arguments");
	/* A disk that went stays away, and the next one waits for its turn. */
	int tries =
		what != NULL && strcmp(what, "human-monitor-command") == 0 ? TRIES_HUMAN : TRIES;
	struct err e = {0};
	int rc = -EINVAL;

	for (int i = 0; what != NULL && i < tries; i++) {
		json_t *answer = NULL;

		rc = qmp_call(q, what, json_incref(arguments), &answer, &e);
		/* The human monitor's answer is what went wrong there. */
		if (rc == 0 && json_string_length(answer) > 0)
			rc = err_set(&e, EREMOTEIO, "%.240s", json_string_value(answer));
		json_decref(answer);
		if (rc != -EREMOTEIO)
			break;
		rest();
	}
	if (rc < 0)
		fprintf(stderr, "godwit-keeper: %s: %s\n", what != NULL ? what : "?", e.text);
	return rc;
}

static int give_back(const char *list)
{
	json_t *commands = json_loads(list, 0, NULL), *command;
	struct qmp *q;
	int failed = 0;
	size_t i;

	if (json_array_size(commands) == 0)
		return 0;
	drop_rest_of_line();
	start_afresh();
	q = qmp_adopt(KEEPER_QMP_FD, ANSWER_MS);
	if (q == NULL)
		return 1;
	json_array_foreach(commands, i, command)
	{
		failed |= carry_out(q, command) < 0;
	}
	fprintf(stderr, "godwit-keeper: godwitd has gone: its guest here was %s\n",
		failed ? "given back in part" : "given back");
	return failed;
}

int main(int argc, char **argv)
{
	static char list[KEEPER_BYTES + 1] = "[]", next[KEEPER_BYTES + 1];
	ssize_t n;

	if (argc > 1) {
		printf("godwit-keeper is run by godwitd, and gives the guest of a QEMU back if "
		       "godwitd dies; see godwit-keeper(8).\n");
		return strcmp(argv[1], "--help") == 0 ? 0 : 2;
	}
	/* Told to end, as all of a service is, it still does what it is there for. */
	signal(SIGTERM, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	prctl(PR_SET_DUMPABLE, 0);
	while ((n = recv(KEEPER_FD, next, KEEPER_BYTES, 0)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			break;
		next[n] = '\0';
		memcpy(list, next, (size_t)n + 1);
		if (send(KEEPER_FD, "k", 1, MSG_NOSIGNAL) < 0)
			break;
	}
	return give_back(list);
}
