// SPDX-License-Identifier: BSD-3-Clause
// A VMM without vCPUs whose memory a network card writes: DPDK's vhost-user back end, a process of
// its own. It knows what the card wrote last to each page, and tells its successor, which compares.
// The main thread receives packets all the time, the library's runs the callbacks; the lock is
// between them.
//
//   card-vm --agent SOCKET [--incoming] [--no-log]
//
// --no-log: the card is not asked to log what it writes, and nobody sees it.

#include "../kvm/card.h"
#include "godwit.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGES     4096u
#define BYTES     ((uint64_t)PAGES * PAGE_BYTES)
#define GPA       0x10000000u
#define PACKET_US 200

static struct vmm {
	struct godwit *agent;
	struct region_map map;
	struct card *card; /* NULL: incoming */
	bool no_log;
	pthread_mutex_t lock; /* of the next */
	bool runs;
	uint32_t want[PAGES]; /* the first word of each page */
	bool ended;
} vm = {.lock = PTHREAD_MUTEX_INITIALIZER};

static uint32_t first_word(unsigned page)
{
	return *(const uint32_t *)(const void *)(vm.map.r[0].base + (uint64_t)page * PAGE_BYTES);
}

static void set_runs(bool runs)
{
	pthread_mutex_lock(&vm.lock);
	vm.runs = runs;
	pthread_mutex_unlock(&vm.lock);
	printf("state %s\n", runs ? "running" : "paused");
}

static int on_pause(void *arg)
{
	(void)arg;
	set_runs(false);
	return 0;
}

static int on_resume(void *arg)
{
	(void)arg;
	set_runs(true);
	return 0;
}

static int on_save(void *arg, int fd)
{
	(void)arg;
	return write(fd, vm.want, sizeof(vm.want)) == sizeof(vm.want) ? 0 : -EIO;
}

static int on_load(void *arg, int fd, uint64_t bytes)
{
	unsigned bad = 0;

	(void)arg;
	if (bytes != sizeof(vm.want) || read(fd, vm.want, sizeof(vm.want)) != sizeof(vm.want))
		return -EPROTO;
	for (unsigned p = 0; p < PAGES; p++)
		bad += first_word(p) != vm.want[p];
	printf("check: %u pages ok, %u bad\n", PAGES - bad, bad);
	return 0;
}

static void on_end(void *arg)
{
	(void)arg;
	pthread_mutex_lock(&vm.lock);
	vm.ended = true;
	pthread_mutex_unlock(&vm.lock);
}

static int on_track(void *arg, int on)
{
	uint64_t bytes;
	void *base;
	int fd = godwit_vhost_log(vm.agent, &bytes, &base), rc = 0;
	struct err e;

	(void)arg;
	pthread_mutex_lock(&vm.lock);
	if (vm.card != NULL && !vm.no_log)
		rc = card_log(vm.card, on ? fd : -1, bytes, &e);
	pthread_mutex_unlock(&vm.lock);
	return rc;
}

static const struct godwit_ops ops = {.pause = on_pause,
	.resume = on_resume,
	.save = on_save,
	.load = on_load,
	.end = on_end,
	.track = on_track};

static bool make_memory(struct err *e)
{
	const struct view view = {.gpa = GPA, .bytes = BYTES};
	int fd = memfd_create("card-ram", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	region_map_init(&vm.map);
	if (fd < 0 || ftruncate(fd, (off_t)BYTES) < 0 ||
		region_add(&vm.map, "ram", fd, BYTES, PAGE_BYTES, e) < 0 ||
		region_add_view(&vm.map.r[0], &view, e) < 0)
		return false;
	vm.map.r[0].base = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	return vm.map.r[0].base != MAP_FAILED;
}

/* A guest that has booted: each page holds something. */
static int boot(struct err *e)
{
	memset(vm.map.r[0].base, 0x5a, BYTES);
	memset(vm.want, 0x5a, sizeof(vm.want));
	vm.runs = true;
	return card_open(&vm.card, &vm.map, e);
}

static bool serve(const char *socket, bool incoming)
{
	const struct godwit_config config = {.api_version = GODWIT_API_VERSION,
		.name = "card",
		.socket = socket,
		.vm_fd = -1,
		.incoming = incoming,
		.ops = &ops};
	char why[256] = "";

	vm.agent = godwit_new(&config, why, sizeof(why));
	if (vm.agent == NULL ||
		godwit_add_region(vm.agent, "ram", vm.map.r[0].fd, BYTES, vm.map.r[0].base,
			PAGE_BYTES) != 0 ||
		godwit_add_view(vm.agent, 0, 0, 0, GPA, 0, BYTES, 0) != 0 ||
		godwit_add_writer(vm.agent, "card", GODWIT_WRITER_LOGS) < 0 ||
		godwit_start(vm.agent, why, sizeof(why)) < 0) {
		fprintf(stderr, "card-vm: %s\n", why);
		return false;
	}
	printf("state %s\n", incoming ? "incoming" : "running");
	return true;
}

/* A packet to a page by turns of a generator, or none while the guest does not run. */
static bool receive(uint32_t number)
{
	unsigned page = number * 2654435761u >> 20;
	bool ended;

	pthread_mutex_lock(&vm.lock);
	if (vm.card != NULL && vm.runs && !vm.ended) {
		card_write(vm.card, GPA + (uint64_t)page * PAGE_BYTES, number);
		vm.want[page] = number;
	}
	ended = vm.ended;
	pthread_mutex_unlock(&vm.lock);
	return !ended;
}

int main(int argc, char **argv)
{
	const char *socket = NULL;
	bool incoming = false;
	struct err e = {0};
	int rc = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--agent") == 0)
			socket = argv[++i];
		incoming |= strcmp(argv[i], "--incoming") == 0;
		vm.no_log |= strcmp(argv[i], "--no-log") == 0;
	}
	if (socket == NULL || !make_memory(&e))
		return 2;
	if (!incoming)
		rc = boot(&e);
	if (rc != 0) {
		printf("%s\n", e.text);
		return rc > 0 ? 77 : 1;
	}
	if (!serve(socket, incoming))
		return 1;
	for (uint32_t number = 1; receive(number); number++)
		usleep(PACKET_US);
	godwit_free(vm.agent);
	card_close(vm.card);
	return 0;
}
