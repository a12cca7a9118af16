// SPDX-License-Identifier: BSD-3-Clause
// What the target's daemon answers to a session at the source: the other half of fuzz_peer. The
// first byte chooses what was asked; each line is an answer, good but for what is spoilt in it. The
// session goes on from stage to stage as long as it likes what it hears. libFuzzer runs it, with
// -close_fd_mask: the daemon logs each refusal.

#include "session_rig.h"

#include "can.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

#define TOKEN "00112233445566778899aabbccddeeff"

static char folder[] = "/dev/shm/godwit-fuzz-XXXXXX";
static struct sockaddr_in target; /* takes connections, and says nothing by itself */
static int target_fd;

static void forget_folder(void)
{
	rmdir(folder);
}

static void open_once(void)
{
	socklen_t len = sizeof(target);

	if (rig_host.base != NULL)
		return;
	target.sin_family = AF_INET;
	target.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	target_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (mkdtemp(folder) == NULL || bind(target_fd, (struct sockaddr *)&target, len) < 0 ||
		listen(target_fd, 128) < 0 ||
		getsockname(target_fd, (struct sockaddr *)&target, &len) < 0)
		abort();
	atexit(forget_folder);
	rig_open(folder);
}

/* All that any answer holds. */
static json_t *good(const struct session *s)
{
	json_t *msg = json_pack(
		"{s:I, s:b, s:i, s:s, s:s, s:[i], s:[s], s:s, s:i, s:s, s:s, s:[], s:{s:s}, "
		"s:s, s:o}",
		"re", (json_int_t)s->ask_seq, "ok", 1, "protocol", SESSION_PROTOCOL, "token", TOKEN,
		"secret", TOKEN, "kept", 0, "rdma_keys", "0123456789abcdef 01234567", "digest",
		s->digest[0] != '\0' ? s->digest : TOKEN, "pages", 0, "outcome", "running", "error",
		"no", "ports", "rdma", "state", "none", "godwit", "0", "can",
		can_tell(false, false));

	rig_lanes(msg, s->nflows);
	return msg;
}

/* It would dial its flows now, and there are no cores to run them. */
static bool has_gone_on(const struct session *s)
{
	return session_over(s) ||
	       (s->stage == stage_find("flows") && s->state == SESSION_PREPARING);
}

static void turn(struct session *s)
{
	int fd;

	for (unsigned i = 0; i < 3; i++) {
		rig_answer(s);
		event_base_loop(rig_host.base, EVLOOP_NONBLOCK);
	}
	while ((fd = accept(target_fd, NULL, NULL)) >= 0)
		close(fd);
}

static void spoil(json_t *msg, uint8_t which, uint8_t how, const char *word)
{
	json_t *can = json_object_get(msg, "can");
	json_t *lane = json_array_get(json_object_get(msg, "lanes"), 0);
	json_t *in[] = {msg, msg, can, json_object_get(can, "codecs")};

	if (json_object_get(msg, "spread") != NULL && (how & 0xc0) == 0xc0)
		in[2] = in[3] = lane;
	rig_spoil(in[which >> 6], which, how, word);
}

/* A line is an object whose members take the place of the good ones, or how to spoil those. */
static void say(struct session *s, const uint8_t *line, size_t bytes)
{
	struct err e;
	json_t *other = conn_parse_json(line, bytes, &e), *msg = good(s);
	char word[64];

	if (msg == NULL)
		abort();
	if (other == NULL && bytes > 0 && line[0] == 'b') {
		json_decref(msg);
		peer_ops.blob(s, line + 1, bytes - 1);
		return;
	}
	if (other != NULL)
		json_object_update(msg, other);
	snprintf(word, sizeof(word), "%.*s", (int)(bytes < 60 ? bytes : 60), (const char *)line);
	for (size_t i = 0; other == NULL && i + 2 <= bytes; i += 2)
		spoil(msg, line[i], line[i + 1], word);
	json_decref(other);
	peer_ops.json(s, msg);
	json_decref(msg);
}

/* The network was lost; the target is called again until it takes the call. */
static void reconnect(struct session *s)
{
	s->reconnect.wait_ns = s->reconnect.until_ns = UINT64_MAX / 2;
	s->reconnect.joined = s->reconnect.lost = true;
	s->stage = stage_find("flows");
	s->state = SESSION_RECONNECTING;
	conn_free(s->conn);
	s->conn = NULL;
	reconnect_tick(s);
}

/* As the stages before leave it: its passes are over, its journal is begun. */
static void prepared(struct session *s)
{
	struct err e;

	if (precopy_init(s, &e) < 0 || handover_begin(s, &e) < 0)
		abort();
}

/* The session has told of its lanes over nic, and waits for those of the target. */
static struct session *ask_lanes(void)
{
	struct session *s = rig_stand(true, "flows", NULL);

	rig_nic(s);
	prepared(s);
	stage_begin(s, s->stage);
	if (s->answered == NULL)
		abort();
	return s;
}

/* The session has asked, and waits for its answer. */
static struct session *ask(uint8_t what)
{
	static const char *const stages[] = {
		"hello", "preflight", "prepare", "verify", "load", "commit", "flows", "commit"};
	const char *stage = stages[what & 7];
	struct session *s;

	if ((what & 16) != 0)
		return ask_lanes();
	s = rig_stand(true, stage, NULL);
	s->opt.codec = &codec_raw;
	s->opt.flows = 1;
	s->opt.verify = VERIFY_MEMORY;
	s->seal_wish = SEAL_WISH_NONE;
	s->rdma.direct = (what & 8) != 0;
	s->peer_timeout_ns = UINT64_MAX / 2;
	strcpy(s->opt.link, "tcp");
	snprintf(s->opt.to, sizeof(s->opt.to), "127.0.0.1:%u", ntohs(target.sin_port));
	if (strcmp(stage, "hello") == 0) {
		json_decref(s->peer);
		s->peer = NULL;
		conn_free(s->conn);
		s->conn = NULL;
		source_connect(s);
	} else if (strcmp(stage, "flows") == 0) {
		reconnect(s);
	} else {
		if (s->stage > stage_find("flows"))
			prepared(s);
		stage_begin(s, s->stage);
	}
	rig_answer(s);
	while (s->answered == NULL || (s->stage == stage_find("verify") && s->digest[0] == '\0')) {
		if (session_over(s) || event_base_loop(rig_host.base, EVLOOP_ONCE) != 0)
			abort();
	}
	return s;
}

/* It waits for the key of the one window that the target's memory has. */
static void by_turns(struct session *s)
{
	const struct link_rdma_pool_plan plan = {.window_bytes = LINK_RDMA_POOL_CHUNK * CHUNK_BYTES,
		.most = LINK_RDMA_POOL_LEAST,
		.there = {true}};
	struct link_rdma_pool_ask want;
	struct err e;

	if (link_rdma_pool_new(&s->rdma.pool, &rig_map, &plan, 1, &e) < 0)
		abort();
	s->rdma.pool->most = 2; /* one is looked ahead */
	link_rdma_pool_near(s->rdma.pool, 0, 0, 4);
	if (!link_rdma_pool_turn(s->rdma.pool, &want))
		abort();
}

/* Unspoilt each is taken: else nothing below the first check is reached. */
static void good_ones(void)
{
	static bool done;

	for (unsigned what = 0; !done && what < 8; what++) {
		struct session *s = ask((uint8_t)what);
		unsigned stage = s->stage;

		say(s, (const uint8_t *)"", 0);
		if (session_over(s) && s->result != RESULT_DONE)
			abort();
		if (s->stage == stage && s->answered != NULL)
			abort();
		rig_end(s);
	}
	if (!done) {
		struct session *s = ask(16);

		say(s, (const uint8_t *)"", 0);
		if (rig_flows == 0)
			abort();
		rig_end(s);
	}
	done = true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	const uint8_t *at, *nl;
	struct session *s;

	if (bytes == 0)
		return 0;
	open_once();
	good_ones();
	s = ask(data[0]);
	if ((data[0] & 32) != 0)
		by_turns(s);
	for (at = data + 1; at < data + bytes && !has_gone_on(s); at = nl + 1) {
		size_t left = (size_t)(data + bytes - at);

		nl = memchr(at, '\n', left);
		if (nl == NULL)
			nl = data + bytes;
		say(s, at, (size_t)(nl - at));
		if (!has_gone_on(s))
			turn(s);
	}
	rig_end(s);
	return 0;
}
