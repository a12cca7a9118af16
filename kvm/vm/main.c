// SPDX-License-Identifier: BSD-3-Clause
// godwit-vm: the main program. The main thread waits for signals and prints heartbeats; vCPUs and
// the agent have threads of their own. Every line on stdout is one event, see godwit-vm(1).
// Invariant: heartbeats never go back, and stop while the guest is not running here.

#include "migrate.h"

#include "clock.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { EXIT_OK, EXIT_BAD_PAGE, EXIT_USAGE, EXIT_NO_KVM, EXIT_START, EXIT_GUEST };

#define WAKE SIGALRM /* a thread has news for the main thread */

static int fail(int code, const struct err *e)
{
	fprintf(stderr, "godwit-vm: %s\n", e->text);
	return code;
}

static void wake(void *arg)
{
	pthread_kill(*(pthread_t *)arg, WAKE);
}

// False: a page is bad, or the check could not be done.
static bool check(struct vm *vm, bool deep)
{
	struct check_result res;
	struct err e;

	if (vm_check(vm, deep, &res, &e) < 0) {
		printf("check: not done: %s\n", e.text);
		return false;
	}
	printf("check: %" PRIu64 " pages ok, %" PRIu64 " bad\n", res.ok, res.bad);
	if (res.bad > 0)
		printf("BAD page gpa %#" PRIx64 ": %s\n", res.bad_gpa, res.why);
	return res.bad == 0;
}

static void heartbeat(struct migrate *m, uint64_t *last)
{
	uint64_t now = vm_ticks(m->vm);

	if (m->agent != NULL && godwit_get_state(m->agent) == GODWIT_FENCED)
		migrate_say(m, GODWIT_FENCED);
	if (now == *last || gate_reasons(&m->vm->gate) != 0)
		return;
	*last = now;
	printf("tick %" PRIu64 "\n", now);
}

// Waits for signals until there is a reason to end. Returns an exit code.
static int serve(struct migrate *m, const sigset_t *set)
{
	struct vm *vm = m->vm;
	uint64_t last = 0, period = vm->opt.tick_ms * NS_PER_MS, start = clock_ns();
	uint64_t next = start + period;
	struct err why;
	bool told = false;

	for (;;) {
		uint64_t now = clock_ns(), left = next > now ? next - now : 0;
		struct timespec ts = {(time_t)(left / NS_PER_S), (long)(left % NS_PER_S)};
		int sig = sigtimedwait(set, NULL, &ts);

		if (sig == SIGTERM || sig == SIGINT)
			return EXIT_OK;
		if (sig == SIGUSR1 || sig == SIGUSR2)
			check(vm, sig == SIGUSR2);
		if (__atomic_load_n(&vm->failed, __ATOMIC_ACQUIRE) == 2) {
			why = vm->why;
			return fail(EXIT_GUEST, &why);
		}
		if (__atomic_load_n(&m->ended, __ATOMIC_ACQUIRE) && !told) {
			told = true;
			migrate_say(m, GODWIT_ENDED);
			printf(m->ran_here ? "ended: the guest runs elsewhere\n"
					   : "ended: the guest will not run here\n");
			if (!vm->opt.stay)
				return EXIT_OK;
		}
		if (clock_ns() < next)
			continue;
		heartbeat(m, &last);
		next += period;
		if (vm->opt.run_ms > 0 && next > start + vm->opt.run_ms * NS_PER_MS)
			return EXIT_OK;
	}
}

static int finish(struct vm *vm, int code)
{
	bool good = true;

	if (vm->opt.check_on_exit && vm->has_guest) {
		vm_pause(vm); // for good
		good = check(vm, true);
	}
	printf("final: ticks %" PRIu64 " torn %" PRIu64 "\n", vm_ticks(vm), vm_torn_count(vm));
	if (code == EXIT_OK && (!good || vm_torn_count(vm) > 0))
		return EXIT_BAD_PAGE;
	return code;
}

static void describe(const struct vm *vm)
{
	char vcpus[32] = "vCPUs as it brings";

	if (vm->nvcpus > 0)
		snprintf(vcpus, sizeof(vcpus), "%u vCPUs", vm->nvcpus);
	printf("guest %s: %s, %s, %" PRIu64 " MiB used of %" PRIu64 " MiB, %s pages\n",
		vm->opt.name, vm->engine->name, vcpus, vm->mem.lay.used_bytes >> 20,
		vm->mem.lay.file_bytes[LAYOUT_RAM] >> 20, vm->opt.huge ? "2 MiB" : "4 KiB");
}

static int run(struct vm *vm, pthread_t *self, const sigset_t *set)
{
	struct migrate m;
	struct err e;
	int code = EXIT_START;

	vm->wake = wake;
	vm->wake_arg = self;
	if (migrate_start(&m, vm, *self, WAKE, &e) < 0) {
		migrate_stop(&m);
		return fail(EXIT_START, &e);
	}
	describe(vm);
	migrate_say(&m, vm->opt.incoming ? GODWIT_INCOMING : GODWIT_RUNNING);
	if (vm_start(vm, &e) < 0)
		fail(EXIT_START, &e);
	else
		code = serve(&m, set);
	// The agent goes first: a guest under a lease is resumed by that, and then stopped here.
	migrate_stop(&m);
	return finish(vm, code);
}

int main(int argc, char **argv)
{
	struct option_set o;
	struct vm vm;
	struct err e;
	sigset_t set;
	pthread_t self = pthread_self();
	int rc;

	setvbuf(stdout, NULL, _IOLBF, 0);
	rc = option_parse(&o, argc, argv, &e);
	if (rc != 0)
		return rc > 0 ? EXIT_OK : fail(EXIT_USAGE, &e);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGUSR2);
	sigaddset(&set, WAKE);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);

	rc = vm_open(&vm, &o, &e);
	if (rc < 0)
		return fail(rc == -EINVAL   ? EXIT_USAGE
			    : rc == -ENODEV ? EXIT_NO_KVM
			    : rc == -EINTR  ? EXIT_OK
					    : EXIT_START,
			&e);
	rc = run(&vm, &self, &set);
	vm_close(&vm);
	return rc;
}
