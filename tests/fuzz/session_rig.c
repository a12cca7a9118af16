// SPDX-License-Identifier: BSD-3-Clause
// A session for fuzzers, see session_rig.h. Run by libFuzzer's one thread.

#include "session_rig.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ports.h"

#define ASKED 16u

struct rig_vmm {
	struct vmm vmm;
	struct {
		vmm_fn done;
		void *arg;
	} asked[ASKED];
	unsigned nasked;
};

static struct ports none;
struct session_host rig_host = {.state_dir = "/", .ports = &none};
struct region_map rig_map;
static int far_end; /* where answers go: nobody reads them */

static void vmm_asked(
	struct vmm *v, uint16_t type, uint64_t a, uint64_t b, int fd, vmm_fn done, void *arg)
{
	struct rig_vmm *r = (struct rig_vmm *)v;

	(void)type;
	(void)a;
	(void)b;
	(void)fd;
	if (r->nasked == ASKED)
		abort();
	r->asked[r->nasked].done = done;
	r->asked[r->nasked++].arg = arg;
}

static void vmm_end(struct vmm *v)
{
	if (v->map.r[0].base != NULL && v->map.r[0].base != rig_map.r[0].base)
		munmap(v->map.r[0].base, v->map.r[0].bytes);
	json_decref(v->about);
	free(v->out);
	free(v->in);
	free(v);
}

static const struct vmm_ops vmm_ops = {"fuzz", vmm_asked, vmm_end};

void rig_open(const char *state_dir)
{
	struct view low = {0, 0, RIG_RAM_BYTES, 0, 0};
	struct err e;
	int fd;

	rig_host.state_dir = state_dir;
	rig_host.base = event_base_new();
	region_map_init(&rig_map);
	fd = memfd_create("ram", MFD_CLOEXEC);
	if (rig_host.base == NULL || ftruncate(fd, RIG_RAM_BYTES) < 0 ||
		region_add(&rig_map, "ram", fd, RIG_RAM_BYTES, PAGE_BYTES, &e) < 0 ||
		region_add_view(&rig_map.r[0], &low, &e) < 0 ||
		region_mmap(&rig_map.r[0], true, &e) < 0)
		abort();
}

struct session *rig_stand(bool source, const char *stage, json_t *about)
{
	static const struct vmm_where where = {.driver = VMM_AGENT, .socket = "x"};
	struct rig_vmm *r = calloc(1, sizeof(*r));
	struct session *s;
	struct err e;
	int sv[2];

	s = session_new(&rig_host, "guest", &where, source, &e);
	if (s == NULL || r == NULL || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, sv) < 0)
		abort();
	s->conn = conn_new(rig_host.base, sv[0], NULL, &e);
	far_end = sv[1];
	r->vmm.ops = &vmm_ops;
	r->vmm.map = rig_map;
	r->vmm.about = about;
	r->vmm.out = calloc(rig_map.nchunks, sizeof(uint64_t));
	r->vmm.in = calloc(rig_map.nchunks, sizeof(uint64_t));
	r->vmm.planes_fd = r->vmm.hints_fd = r->vmm.pidfd = -1;
	s->vmm = &r->vmm;
	s->vmm_ready = true;
	s->begun = true;
	s->peer = json_pack("{s:o}", "can", peer_tell(s));
	s->stage = stage_find(stage);
	s->state = stage_table[s->stage].state;
	return s;
}

void rig_answer(struct session *s)
{
	while (s->vmm != NULL && ((struct rig_vmm *)s->vmm)->nasked > 0) {
		struct rig_vmm *r = (struct rig_vmm *)s->vmm;
		struct vmm_answer good = {.fd = -1};
		vmm_fn done = r->asked[0].done;
		void *arg = r->asked[0].arg;

		r->nasked--;
		for (unsigned i = 0; i < r->nasked; i++)
			r->asked[i] = r->asked[i + 1];
		done(arg, &good);
	}
}

void rig_spoil(json_t *object, uint8_t which, uint8_t how, const char *word)
{
	void *it = json_object_iter(object);
	json_t *value;

	for (unsigned i = which; it != NULL && i % 16 > 0; i--)
		it = json_object_iter_next(object, it);
	if (it == NULL)
		return;
	switch (how % 6) {
	case 0:
		value = json_integer((json_int_t)((uint64_t)(int8_t)how << (which / 4)));
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

void rig_end(struct session *s)
{
	struct err e = {.errnum = ECANCELED};

	if (s->state == SESSION_UNDECIDED || !session_before_commit(s))
		handover_give_back(s, &e);
	else
		session_end(s, RESULT_CANCELLED, &e);
	for (int i = 0; i < 1000 && s->state != SESSION_ENDED; i++) {
		rig_answer(s);
		event_base_loop(rig_host.base, EVLOOP_ONCE);
	}
	if (s->state != SESSION_ENDED)
		abort();
	close(far_end);
}
