// SPDX-License-Identifier: BSD-3-Clause
// Memory that is taken, filled and given back. What the kernel hands out has to be zero; a kernel
// that clears pages when they are freed (init_on_free=1) does not clear them again, so a page that
// was free when the guest moved, and came with other content, shows here.

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "checker.h"

static size_t bytes;
static _Atomic uint64_t rounds;

static void once(void)
{
	uint64_t *words =
		mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (words == MAP_FAILED) {
		console_error("churn: no %zu bytes", bytes);
		return;
	}
	for (size_t i = 0; i < bytes / 8; i++) {
		if (words[i] != 0) {
			console_error("churn: new memory is not zero: word %zu is %016llx", i,
				(unsigned long long)words[i]);
			break;
		}
		if (i % (PAGE_BYTES / 8) == PAGE_BYTES / 8 - 1) // its next page is another one
			memset(words + i + 1 - PAGE_BYTES / 8, 0xa5, PAGE_BYTES);
	}
	munmap(words, bytes);
	atomic_fetch_add(&rounds, 1);
}

static void *work(void *arg)
{
	(void)arg;
	for (;;) {
		once();
		sleep_ms(100);
	}
	return NULL;
}

void churn_start(unsigned mib)
{
	bytes = (size_t)mib << 20;
	thread_start(work, NULL);
}

uint64_t churn_rounds(void)
{
	return atomic_load(&rounds);
}
