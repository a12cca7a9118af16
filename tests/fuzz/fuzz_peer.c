// SPDX-License-Identifier: BSD-3-Clause
// What the source's daemon says to a session at the target: good messages with members spoilt by
// any bytes, a line each. The first byte chooses the stage that the session stands at, and whether
// its memory is registered by turns. The session is a real one (session_rig.h), and its VMM answers
// nothing. libFuzzer runs it, with -close_fd_mask: the daemon logs each refusal.

#include "session_rig.h"

#include <stdlib.h>
#include <string.h>

#include "can.h"
#include "describe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* What a good source says: all members of all requests. */
static json_t *good(const char *op)
{
	json_t *msg = json_pack(
		"{s:s, s:i, s:o, s:s, s:s, s:s, s:i, s:i, s:i, s:{s:s, s:i, s:{}}, s:i, s:i, "
		"s:b, s:{s:s, s:s, s:i, s:i, s:i, s:i, s:i}, s:[s], s:o}",
		"op", op, "seq", 1, "regions", describe_regions(&rig_map), "codec", "raw", "link",
		"tcp", "seal", "none", "flows", 1, "populated_bytes", 4096, "reconnect_ms", 0,
		"machine", "machine", "q35", "cpus", 2, "disks", "bytes", 5, "crc", 7, "paused", 1,
		"nic", "port", "p0", "address", "192.0.2.1", "version", 1, "mtu", 1500, "frames",
		1500, "ring_bytes", 65536, "silence_ms", 10000, "codecs", "raw", "can",
		can_tell(false, false));

	rig_lanes(msg, 1);
	return msg;
}

/* One of the members, or of what they hold. */
static void spoil(json_t *msg, const uint8_t how[3], const char *word)
{
	json_t *region = json_array_get(json_object_get(msg, "regions"), 0);
	json_t *in[] = {msg, msg, region, json_array_get(json_object_get(region, "views"), 0),
		json_object_get(msg, "machine"), json_object_get(msg, "nic"),
		json_object_get(msg, "can"), json_object_get(json_object_get(msg, "can"), "codecs"),
		json_array_get(json_object_get(msg, "lanes"), 0), json_object_get(msg, "spread")};

	rig_spoil(in[how[0] % (sizeof(in) / sizeof(in[0]))], how[1], how[2], word);
}

static const char *next_op(const struct session *s)
{
	unsigned next = s->stage + 1;

	while (next < stage_count && stage_table[next].target == NULL)
		next++;
	if (next < stage_count && strcmp(stage_table[next].name, "verify") == 0)
		next = stage_find("load"); /* digests are taken by a thread: tests do that */
	return next < stage_count ? stage_table[next].name : "commit";
}

/* A line is an object whose members take the place of the good ones, a blob, or how to spoil. */
static void say(struct session *s, const uint8_t *line, size_t bytes)
{
	struct err e;
	json_t *other = conn_parse_json(line, bytes, &e), *msg;
	char word[64];

	if (other == NULL && bytes > 0 && line[0] == 'b') {
		peer_ops.blob(s, line + 1, bytes - 1);
		return;
	}
	msg = good(next_op(s));
	if (msg == NULL)
		abort();
	if (other != NULL)
		json_object_update(msg, other);
	json_decref(other);
	snprintf(word, sizeof(word), "%.*s", (int)(bytes < 60 ? bytes : 60), (const char *)line);
	for (size_t i = 0; other == NULL && i + 3 <= bytes; i += 3)
		spoil(msg, line + i, word);
	s->reply_seq = 0;
	/* As if hello had said it: greet.c keeps what passes. */
	if (s->stage == stage_find("hello") && can_read(msg, &e) == 0) {
		json_decref(s->peer);
		s->peer = json_incref(msg);
	}
	peer_ops.json(s, msg);
	s->reply_seq = 0; /* as if it had been answered */
	json_decref(msg);
}

/* Unspoilt it is taken: else nothing below the first check is reached. */
static void good_one(void)
{
	static bool done;
	struct session *s;

	if (done)
		return;
	s = rig_stand(false, "hello",
		json_pack("{s:s, s:i, s:{}}", "machine", "q35", "cpus", 2, "disks"));
	say(s, (const uint8_t *)"", 0);
	if (s->stage != stage_find("preflight") || session_over(s) || s->nflows != 1)
		abort();
	rig_end(s);
	s = rig_stand(false, "prepare", NULL);
	rig_nic(s);
	say(s, (const uint8_t *)"", 0);
	if (rig_flows == 0)
		abort();
	rig_end(s);
	done = true;
}

/* Members that are compared, and read by their kinds. */
static void read_members(const uint8_t *text, size_t bytes)
{
	json_t *msg, *regions = describe_regions(&rig_map);
	uint8_t token[TOKEN_BYTES];
	struct err e;

	if (describe_compare(regions, &rig_map, &e) != 0)
		abort();
	json_decref(regions);
	msg = conn_parse_json(text, bytes, &e);
	if (msg == NULL)
		return;
	describe_compare(json_object_get(msg, "regions"), &rig_map, &e);
	describe_compare_machine(json_object_get(msg, "machine"), json_object_get(msg, "here"), &e);
	peer_get_token(msg, "token", token, &e);
	json_decref(msg);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	static const char *const stages[] = {"hello", "flows", "save", "load"};
	const uint8_t *at, *nl;
	struct session *s;
	json_t *about = NULL;

	if (bytes == 0)
		return 0;
	if (rig_host.base == NULL)
		rig_open("/");
	good_one();
	read_members(data + 1, bytes - 1);
	if ((data[0] & 4) != 0)
		about = json_pack("{s:s, s:i, s:{}}", "machine", "q35", "cpus", 2, "disks");
	s = rig_stand(false, (data[0] & 8) != 0 ? "prepare" : stages[data[0] & 3], about);
	if ((data[0] & 8) != 0)
		rig_nic(s);
	else if ((data[0] & 16) != 0)
		rig_turns(s);
	for (at = data + 1; at < data + bytes && s->state != SESSION_ENDED; at = nl + 1) {
		size_t left = (size_t)(data + bytes - at);

		nl = memchr(at, '\n', left);
		if (nl == NULL)
			nl = data + bytes;
		/* Memory is made ready by threads, with a journal: tests do that. */
		if (s->stage == stage_find("preflight"))
			break;
		say(s, at, (size_t)(nl - at));
		if (!session_over(s) && (nl - at) % 3 != 0)
			rig_register(s, (nl - at) % 3 == 2);
	}
	rig_turns_end(s);
	rig_end(s);
	return 0;
}
