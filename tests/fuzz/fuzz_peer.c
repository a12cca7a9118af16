// SPDX-License-Identifier: BSD-3-Clause
// What the source's daemon says to a session at the target: good messages with members spoilt by
// any bytes, a line each. The first byte chooses the stage that the session stands at. The session
// is a real one; its VMM answers nothing, there are no cores and no flows. libFuzzer runs it, with
// -close_fd_mask: the daemon logs each refusal.

#include "session_impl.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "can.h"
#include "describe.h"
#include "ports.h"

#define RAM_BYTES (4 * CHUNK_BYTES)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static struct ports none;
static struct session_host host = {.state_dir = "/", .ports = &none};
static struct region_map map;
static int far_end; /* where answers go: nobody reads them */

static void vmm_silent(
	struct vmm *v, uint16_t type, uint64_t a, uint64_t b, int fd, vmm_fn done, void *arg)
{
	(void)v;
	(void)type;
	(void)a;
	(void)b;
	(void)fd;
	(void)done;
	(void)arg;
}

static void vmm_end(struct vmm *v)
{
	json_decref(v->about);
	free(v->in);
	free(v);
}

static const struct vmm_ops vmm_ops = {"fuzz", vmm_silent, vmm_end};

static void open_once(void)
{
	struct view low = {0, 0, RAM_BYTES, 0, 0};
	struct err e;
	int fd;

	if (host.base != NULL)
		return;
	host.base = event_base_new();
	region_map_init(&map);
	fd = memfd_create("ram", MFD_CLOEXEC);
	if (host.base == NULL || ftruncate(fd, RAM_BYTES) < 0 ||
		region_add(&map, "ram", fd, RAM_BYTES, PAGE_BYTES, &e) < 0 ||
		region_add_view(&map.r[0], &low, &e) < 0 || region_mmap(&map.r[0], true, &e) < 0)
		abort();
}

/* A target whose VMM has answered. about: what its QEMU told, or NULL. */
static struct session *stand(const char *stage, json_t *about)
{
	static const struct vmm_where where = {.driver = VMM_AGENT, .socket = "x"};
	struct vmm *v = calloc(1, sizeof(*v));
	struct session *s;
	struct err e;
	int sv[2];

	s = session_new(&host, "guest", &where, false, &e);
	if (s == NULL || v == NULL || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, sv) < 0)
		abort();
	s->conn = conn_new(host.base, sv[0], NULL, &e);
	far_end = sv[1];
	v->ops = &vmm_ops;
	v->map = map;
	v->about = about;
	v->in = calloc(map.nchunks, sizeof(*v->in));
	v->planes_fd = v->hints_fd = v->pidfd = -1;
	s->vmm = v;
	s->vmm_ready = true;
	s->peer = json_pack("{s:o}", "can", peer_tell(s));
	s->stage = stage_find(stage);
	s->state = stage_table[s->stage].state;
	return s;
}

/* What a good source says: all members of all requests. */
static json_t *good(const char *op)
{
	return json_pack(
		"{s:s, s:i, s:o, s:s, s:s, s:s, s:i, s:i, s:i, s:{s:s, s:i, s:{}}, s:i, s:i, "
		"s:b, s:{s:s, s:s, s:i, s:i, s:i, s:i, s:i}, s:[s], s:o}",
		"op", op, "seq", 1, "regions", describe_regions(&map), "codec", "raw", "link",
		"tcp", "seal", "none", "flows", 1, "populated_bytes", 4096, "reconnect_ms", 0,
		"machine", "machine", "q35", "cpus", 2, "disks", "bytes", 5, "crc", 7, "paused", 1,
		"nic", "port", "p0", "address", "192.0.2.1", "version", 1, "mtu", 1500, "frames",
		1500, "ring_bytes", 65536, "silence_ms", 10000, "codecs", "raw", "can",
		can_tell(false, false));
}

/* Puts something else into one of the members, or into what they hold. */
static void spoil(json_t *msg, const uint8_t how[3], const char *word)
{
	json_t *region = json_array_get(json_object_get(msg, "regions"), 0);
	json_t *in[] = {msg, msg, region, json_array_get(json_object_get(region, "views"), 0),
		json_object_get(msg, "machine"), json_object_get(msg, "nic"),
		json_object_get(msg, "can"),
		json_object_get(json_object_get(msg, "can"), "codecs")};
	json_t *object = in[how[0] % (sizeof(in) / sizeof(in[0]))], *value;
	void *it = json_object_iter(object);

	for (unsigned i = how[1]; it != NULL && i % 16 > 0; i--)
		it = json_object_iter_next(object, it);
	if (it == NULL)
		return;
	switch (how[2] % 6) {
	case 0:
		value = json_integer((json_int_t)(int8_t)how[2] << (how[1] / 4));
		break;
	case 1:
		value = json_string(word);
		break;
	case 2:
		value = json_array();
		break;
	case 3:
		value = json_pack("{s:[{s:n}]}", "disk", "name");
		break;
	case 4:
		value = json_null();
		break;
	default:
		value = json_false();
	}
	json_object_set_new(object, json_object_iter_key(it), value != NULL ? value : json_null());
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

static void end(struct session *s)
{
	struct err e = {.errnum = ECANCELED};

	session_end(s, RESULT_CANCELLED, &e);
	for (int i = 0; i < 1000 && s->state != SESSION_ENDED; i++)
		event_base_loop(host.base, EVLOOP_ONCE);
	if (s->state != SESSION_ENDED)
		abort();
	close(far_end);
}

/* Unspoilt it is taken: else nothing below the first check is reached. */
static void good_one(void)
{
	static bool done;
	struct session *s;

	if (done)
		return;
	s = stand("hello", json_pack("{s:s, s:i, s:{}}", "machine", "q35", "cpus", 2, "disks"));
	say(s, (const uint8_t *)"", 0);
	if (s->stage != stage_find("preflight") || session_over(s) || s->nflows != 1)
		abort();
	end(s);
	done = true;
}

/* Members that are compared, and read by their kinds. */
static void read_members(const uint8_t *text, size_t bytes)
{
	json_t *msg, *regions = describe_regions(&map);
	uint8_t token[TOKEN_BYTES];
	struct err e;

	if (describe_compare(regions, &map, &e) != 0)
		abort();
	json_decref(regions);
	msg = conn_parse_json(text, bytes, &e);
	if (msg == NULL)
		return;
	describe_compare(json_object_get(msg, "regions"), &map, &e);
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
	open_once();
	good_one();
	read_members(data + 1, bytes - 1);
	if ((data[0] & 4) != 0)
		about = json_pack("{s:s, s:i, s:{}}", "machine", "q35", "cpus", 2, "disks");
	s = stand(stages[data[0] & 3], about);
	for (at = data + 1; at < data + bytes && s->state != SESSION_ENDED; at = nl + 1) {
		size_t left = (size_t)(data + bytes - at);

		nl = memchr(at, '\n', left);
		if (nl == NULL)
			nl = data + bytes;
		/* Memory is made ready by threads, with a journal: tests do that. */
		if (s->stage == stage_find("preflight"))
			break;
		say(s, at, (size_t)(nl - at));
	}
	end(s);
	return 0;
}
