// SPDX-License-Identifier: BSD-3-Clause
// The example of a VMM that links libgodwit. The callbacks run on the library's thread, one at a
// time; the main thread starts and stops it and polls the state.
// Invariants: a callback says what went wrong on stderr, as only a number goes back; after end()
// the guest never runs here again.

#include "migrate.h"

#include <errno.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdio.h>

void migrate_say(struct migrate *m, enum godwit_state state)
{
	static const char *const names[] = {
		"running", "paused", "fenced", "incoming", "loaded", "ended"};

	pthread_mutex_lock(&m->lock);
	if (m->said != (int)state)
		printf("state %s\n", names[state]);
	m->said = (int)state;
	pthread_mutex_unlock(&m->lock);
}

// Stamps only: a look at all content would keep the guest waiting for seconds.
static int check_on_move(struct migrate *m, const char *when, struct err *e)
{
	struct check_result res;
	int rc;

	if (!m->vm->opt.check_on_move)
		return 0;
	rc = vm_check(m->vm, false, &res, e);
	if (rc < 0)
		return rc;
	printf("check: %llu pages ok, %llu bad (%s)\n", (unsigned long long)res.ok,
		(unsigned long long)res.bad, when);
	if (res.bad == 0)
		return 0;
	return err_set(e, EPROTO, "page at gpa %#llx is bad: %s", (unsigned long long)res.bad_gpa,
		res.why);
}

static int tell(int rc, const struct err *e)
{
	if (rc < 0)
		fprintf(stderr, "godwit-vm: %s\n", e->text);
	return rc;
}

static int on_pause(void *opaque)
{
	struct migrate *m = opaque;

	vm_pause(m->vm);
	migrate_say(m, GODWIT_PAUSED);
	return 0;
}

static int on_resume(void *opaque)
{
	struct migrate *m = opaque;

	m->ran_here = true;
	migrate_say(m, GODWIT_RUNNING);
	vm_resume(m->vm);
	return 0;
}

static int on_throttle(void *opaque, unsigned percent)
{
	struct migrate *m = opaque;

	if (percent < 1 || percent > 100)
		return -EINVAL;
	if (__atomic_exchange_n(&m->vm->throttle, percent, __ATOMIC_RELAXED) != percent)
		printf("throttle %u\n", percent);
	return 0;
}

static int on_save(void *opaque, int fd)
{
	struct migrate *m = opaque;
	struct err e;
	int rc = vm_save(m->vm, fd, &e);

	if (rc == 0)
		rc = check_on_move(m, "saved", &e);
	return tell(rc, &e);
}

static int on_free_request(void *opaque, uint32_t id)
{
	struct migrate *m = opaque;

	hint_request(&m->hint, id);
	return 0;
}

static uint32_t on_hint(void *opaque, unsigned vcpu, uint16_t port, bool ask)
{
	struct migrate *m = opaque;

	return hint_port(&m->hint, vcpu, port, ask);
}

static int on_ring_full(void *opaque, unsigned vcpu)
{
	struct migrate *m = opaque;

	return godwit_ring_full(m->agent, (int)vcpu);
}

/* vCPUs that were made since; before they run. */
static int add_vcpus(struct migrate *m, struct err *e)
{
	for (; m->vm->opt.ring > 0 && m->vcpus < m->vm->nvcpus; m->vcpus++) {
		int rc = godwit_add_vcpu(m->agent, m->vm->vcpus[m->vcpus].fd);

		if (rc < 0)
			return err_sys(e, -rc, "cannot register vCPU %u", m->vcpus);
	}
	return 0;
}

static int on_load(void *opaque, int fd, uint64_t bytes)
{
	struct migrate *m = opaque;
	struct err e;
	int rc = vm_load(m->vm, fd, bytes, &e);

	if (rc == 0)
		rc = add_vcpus(m, &e);
	if (rc == 0)
		hint_begin(&m->hint, m->vm, m->agent);
	if (rc == 0)
		rc = check_on_move(m, "loaded", &e);
	if (rc == 0)
		migrate_say(m, GODWIT_LOADED);
	return tell(rc, &e);
}

static void on_end(void *opaque)
{
	struct migrate *m = opaque;

	vm_gone(m->vm);
	__atomic_store_n(&m->ended, 1, __ATOMIC_RELEASE);
	pthread_kill(m->main_thread, m->wake_signal);
}

static void on_wrote(void *opaque, unsigned file, uint64_t offset, uint64_t bytes)
{
	struct migrate *m = opaque;

	godwit_wrote(m->agent, (int)file, offset, bytes); // regions are added in the files' order
}

static int add_memory(struct migrate *m, struct err *e)
{
	static const char *const names[LAYOUT_FILES] = {"ram", "bios"};
	const struct memory *mem = &m->vm->mem;

	for (unsigned f = 0; f < LAYOUT_FILES; f++) {
		int rc = godwit_add_region(m->agent, names[f], mem->fd[f], mem->lay.file_bytes[f],
			mem->base[f], mem->page_bytes[f]);

		if (rc < 0)
			return err_sys(e, -rc, "cannot register memory file %s", names[f]);
	}
	for (unsigned i = 0; i < LAYOUT_SLOTS; i++) {
		const struct slot *s = &mem->lay.slots[i];
		int rc = godwit_add_view(
			m->agent, (int)s->file, i, 0, s->gpa, s->offset, s->bytes, 0);

		if (rc < 0)
			return err_sys(e, -rc, "cannot register memory slot %u", i);
	}
	return 0;
}

int migrate_start(
	struct migrate *m, struct vm *vm, pthread_t main_thread, int wake_signal, struct err *e)
{
	static const struct godwit_ops ops = {.pause = on_pause,
		.resume = on_resume,
		.throttle = on_throttle,
		.save = on_save,
		.load = on_load,
		.end = on_end,
		.free_request = on_free_request};
	struct godwit_config config = {.api_version = GODWIT_API_VERSION,
		.name = vm->opt.name,
		.socket = vm->opt.agent,
		.vm_fd = vm->vm_fd,
		.tracker = vm->opt.ring > 0 ? GODWIT_TRACK_KVM_RING : GODWIT_TRACK_AUTO,
		.ring_bytes = vm->opt.ring * (uint32_t)sizeof(struct kvm_dirty_gfn),
		.incoming = vm->opt.incoming,
		.ops = &ops,
		.opaque = m};
	char why[ERR_TEXT_BYTES] = "";
	int rc;

	*m = (struct migrate){.vm = vm,
		.main_thread = main_thread,
		.wake_signal = wake_signal,
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.said = -1,
		.ran_here = !vm->opt.incoming};
	if (vm->opt.agent == NULL)
		return 0;
	m->agent = godwit_new(&config, why, sizeof(why));
	if (m->agent == NULL)
		return err_set(e, errno, "%s", why);
	vm->wrote = on_wrote;
	vm->wrote_arg = m;
	vm->ring_full = on_ring_full;
	vm->hint = on_hint;
	rc = add_memory(m, e);
	if (rc == 0)
		rc = add_vcpus(m, e);
	if (rc < 0)
		return rc;
	if (!vm->opt.incoming && vm->opt.free == 0 && vm->opt.balloon == 0)
		godwit_keeps_memory(m->agent);
	rc = godwit_start(m->agent, why, sizeof(why));
	if (rc < 0)
		return err_set(e, -rc, "%s", why);
	if (!vm->opt.incoming)
		hint_begin(&m->hint, vm, m->agent);
	return 0;
}

void migrate_stop(struct migrate *m)
{
	/* A resumed guest must not run into what is being freed. */
	gate_close(&m->vm->gate, GATE_ENDING);
	godwit_free(m->agent);
	m->agent = NULL;
	m->vm->wrote = NULL;
}
