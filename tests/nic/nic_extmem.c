// SPDX-License-Identifier: BSD-3-Clause
// Guest memory that is mapped for a device by DPDK's own calls is given back before its port is
// gone, also where the session has ended before; and a second port is served like the first.

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "extmem_window.h"
#include "lcore.h"
#include "port_impl.h"

#define GUEST_MB 4

static void must(int rc, const struct err *e)
{
	if (rc >= 0)
		return;
	printf("%s\n", e->text);
	exit(1);
}

static struct port *open_port(const char *device, const char *ipv4)
{
	struct port_config c = {.name = "test", .device = device, .queues = 1, .ipv4 = ipv4};
	struct port *p = NULL;
	struct err e;

	must(port_open(&p, &c, &e), &e);
	return p;
}

static void nap_us(uint64_t us)
{
	const struct timespec t = {.tv_nsec = (long)(us * 1000)};

	nanosleep(&t, NULL);
}

static int all(int fd, uint64_t offset, uint64_t len,
	int (*run)(void *arg, uint64_t offset, uint64_t bytes), void *arg)
{
	(void)fd;
	return run(arg, offset, len);
}

// On a device that maps nothing: the calls are DPDK's own.
static void is_given_back(void)
{
	struct port *p = open_port("net_null0", "192.0.2.3/24");
	struct extmem_window_info i = {0};
	struct extmem_window *w;
	struct region_map map;
	struct err e;
	int fd = memfd_create("ram", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, GUEST_MB << 20) != 0 ||
		fallocate(fd, 0, 0, GUEST_MB << 20) != 0)
		must(err_set(&e, errno, "no memory"), &e);
	region_map_init(&map);
	must(region_add(&map, "ram", fd, GUEST_MB << 20, PAGE_BYTES, &e), &e);
	must(region_mmap(&map.r[0], false, &e), &e);
	must(extmem_window_new(&w,
		     &(struct extmem_window_config){
			     .port = p, .map = &map, .lanes = 1, .walk = all},
		     &e),
		&e);
	while (i.looks == 0) {
		nap_us(1000);
		extmem_window_info(w, &i);
	}
	if (i.mapped_bytes != map.bytes) {
		printf("WRONG: %llu bytes are mapped: %s\n", (unsigned long long)i.mapped_bytes,
			i.why.text);
		exit(1);
	}
	region_map_close(&map); // the session may end first
	extmem_window_free(w);
	port_close(p);
}

int main(void)
{
	struct eal_config c = {
		.cores = "0", .mem_mb = 128, .no_huge = true, .idle = LCORE_IDLE_YIELD};
	struct eal_info info;
	struct err e;

	must(eal_start(&c, &info, &e), &e);
	is_given_back();
	is_given_back();
	eal_stop();
	return 0;
}
