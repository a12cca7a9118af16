// SPDX-License-Identifier: BSD-3-Clause
// The checker's main program, the guest's first process: starts the parts, prints a line a
// heartbeat, and does what lines on the console ask for:
//   check      checks all memory once          guest: whole N pages, M errors
//   rate N     pages to write a second         guest: rate N
//   grow MIB   works on more memory            guest: grown MIB
//   memory     that the kernel has             guest: memory N MiB
//   disk       ends work on the disk           guest: disk clean, N files
//   off        switches the guest off
// Each answer is one line. Whatever is found wrong is a line with ERROR in it.

#include <getopt.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <time.h>
#include <unistd.h>

#include "checker.h"

static unsigned beat_ms = 200;

void sleep_ms(unsigned ms)
{
	struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

	nanosleep(&t, NULL);
}

uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15u;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

void thread_start(void *(*run)(void *), void *arg)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, run, arg) != 0) {
		console_error("no thread can be started");
		exit(1);
	}
	pthread_detach(thread);
}

static void *beat(void *arg)
{
	(void)arg;
	for (uint64_t n = 1;; n++) {
		console_say("beat %llu written %llu checked %llu churned %llu files %llu "
			    "echoed %llu errors %llu",
			(unsigned long long)n, (unsigned long long)memory_written(),
			(unsigned long long)memory_checked(), (unsigned long long)churn_rounds(),
			(unsigned long long)disk_writes(), (unsigned long long)echo_bytes(),
			(unsigned long long)console_errors());
		sleep_ms(beat_ms);
	}
	return NULL;
}

static void obey(char *line)
{
	unsigned n;

	line[strcspn(line, "\r\n")] = '\0';
	if (strcmp(line, "check") == 0) {
		uint64_t pages = memory_check();

		console_say("whole %llu pages, %llu errors", (unsigned long long)pages,
			(unsigned long long)console_errors());
	} else if (sscanf(line, "rate %u", &n) == 1) {
		memory_rate(n);
		console_say("rate %u", n);
	} else if (sscanf(line, "grow %u", &n) == 1) {
		memory_grow(n);
		console_say("grown %u", n);
	} else if (strcmp(line, "memory") == 0) {
		console_say("memory %llu MiB",
			(unsigned long long)sysconf(_SC_PHYS_PAGES) * PAGE_BYTES >> 20);
	} else if (strcmp(line, "disk") == 0) {
		n = disk_end();
		console_say("disk clean, %u files", n);
	} else if (strcmp(line, "off") == 0) {
		sync();
		reboot(RB_POWER_OFF);
	} else if (line[0] != '\0') {
		console_say("knows no '%s'", line);
	}
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"memory", required_argument, NULL, 'm'},
		{"rate", required_argument, NULL, 'r'}, {"churn", required_argument, NULL, 'c'},
		{"beat", required_argument, NULL, 'b'}, {"disk", no_argument, NULL, 'd'}, {0}};
	unsigned memory = 64, rate = 1000, churn = 4;
	bool disk = false;
	char line[256];

	for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
		if (c == 'm')
			memory = (unsigned)atoi(optarg);
		else if (c == 'r')
			rate = (unsigned)atoi(optarg);
		else if (c == 'c')
			churn = (unsigned)atoi(optarg);
		else if (c == 'b')
			beat_ms = (unsigned)atoi(optarg);
		else if (c == 'd')
			disk = true;
	}
	memory_rate(rate);
	memory_grow(memory);
	if (churn > 0)
		churn_start(churn);
	if (disk)
		disk_start();
	echo_start();
	console_say("ready, %u MiB, %u pages a second", memory, rate);
	thread_start(beat, NULL);
	while (fgets(line, sizeof(line), stdin) != NULL)
		obey(line);
	console_say("nobody is at the console any more");
	for (;;)
		pause();
}
