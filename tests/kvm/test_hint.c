// SPDX-License-Identifier: BSD-3-Clause
// What a VMM tells of pages that need not go, as the daemon sees it through the agent protocol.

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm.h"

#define CHUNKS 4u
#define PAGES  (VMM_BYTES / PAGE_BYTES)

static struct vmm vmm;
static int sock;
static uint64_t *planes, *hints; /* OUT, IN; BALLOON, FREE */

static int ask(uint16_t type, uint64_t a, uint64_t b, struct agent_msg *m)
{
	return vmm_ask(sock, type, a, b, -1, m);
}

static uint64_t hint_flags(void)
{
	struct agent_msg m;

	assert_int_equal(ask(AGENT_HINTS, 0, 0, &m), 0);
	if (hints == NULL)
		hints = mmap(NULL, 2 * CHUNKS * 8, PROT_READ | PROT_WRITE, MAP_SHARED, m.fd, 0);
	close(m.fd);
	return m.a;
}

static void begin(int incoming)
{
	char why[256];

	assert_int_equal(vmm_open(&vmm, incoming, why), 0);
	sock = vmm_connect(&vmm);
	assert_int_equal(vmm_hello(sock, &planes, NULL), 0);
	hints = NULL;
	hint_flags();
}

static void end(void)
{
	munmap(planes, 2 * CHUNKS * 8);
	munmap(hints, 2 * CHUNKS * 8);
	close(sock);
	vmm_close(&vmm);
}

static void drop_out(void)
{
	struct agent_msg m;

	assert_int_equal(ask(AGENT_LOOK, 0, 0, &m), 0);
	memcpy(planes + CHUNKS, planes, CHUNKS * 8);
	assert_int_equal(ask(AGENT_ARM, 0, CHUNKS, &m), 0);
	memset(planes, 0, 2 * CHUNKS * 8);
}

static void balloon_needs_its_feature(void **state)
{
	(void)state;
	begin(0);
	assert_int_equal(hint_flags() & AGENT_HINT_BALLOON, 0);
	assert_int_equal(godwit_keeps_memory(vmm.g), -EBUSY); /* it has started */
	assert_int_equal(hint_flags() & AGENT_HINT_KEEPS, 0);
	assert_int_equal(godwit_inflate(vmm.g, 3, 2), 0);
	assert_int_equal(hints[0], 0);
	godwit_balloon(vmm.g, 1);
	assert_int_equal(hint_flags() & AGENT_HINT_BALLOON, AGENT_HINT_BALLOON);
	assert_int_equal(godwit_inflate(vmm.g, 3, 2), 0);
	assert_int_equal(godwit_inflate(vmm.g, 60, 10), 0);
	assert_int_equal(hints[0], 0xf000000000000018);
	assert_int_equal(hints[1], 0x3f);
	assert_int_equal(godwit_inflate(vmm.g, PAGES - 1, 2), -EFAULT);
	assert_int_equal(hints[CHUNKS - 1], 0);
	end();
}

static void what_leaves_is_dirty(void **state)
{
	(void)state;
	begin(0);
	godwit_balloon(vmm.g, 1);
	godwit_inflate(vmm.g, 3, 4);
	godwit_inflate(vmm.g, 130, 1);
	assert_int_equal(ask(AGENT_TRACK_START, 0, 0, NULL), 0);
	assert_int_equal(vmm.tracking, 1);
	drop_out();
	assert_int_equal(godwit_deflate(vmm.g, 4, 1), 0);
	assert_int_equal(hints[0], 0x68);
	assert_int_equal(ask(AGENT_LOOK, 0, 0, NULL), 0);
	assert_int_equal(planes[0], 0x10);
	drop_out();
	godwit_balloon(vmm.g, 0); /* the device was reset */
	assert_int_equal(hints[0] | hints[2], 0);
	assert_int_equal(ask(AGENT_LOOK, 0, 0, NULL), 0);
	assert_int_equal(planes[0], 0x68);
	assert_int_equal(planes[2], 4);
	assert_int_equal(ask(AGENT_TRACK_STOP, 0, 0, NULL), 0);
	assert_int_equal(vmm.tracking, 0);
	end();
}

static void balloon_comes_with_the_guest(void **state)
{
	(void)state;
	begin(1);
	planes[CHUNKS] = 0xff00;
	planes[2 * CHUNKS - 1] = ~UINT64_C(0); /* beyond the region's end too */
	assert_int_equal(ask(AGENT_BALLOON, 0, CHUNKS + 1, NULL), -EINVAL);
	assert_int_equal(ask(AGENT_BALLOON, 0, CHUNKS, NULL), 0);
	godwit_balloon(vmm.g, 1); /* as load() does */
	assert_int_equal(hints[0], 0xff00);
	assert_int_equal(hints[CHUNKS - 1], 0x1f);
	end();
	begin(0);
	assert_int_equal(ask(AGENT_BALLOON, 0, 1, NULL), -EPERM);
	end();
}

static void free_pages_answer_a_request(void **state)
{
	struct agent_msg m;

	(void)state;
	begin(0);
	assert_int_equal(hint_flags(), AGENT_HINT_FREE);
	assert_int_equal(ask(AGENT_TRACK_START, 0, 0, NULL), 0);
	drop_out();
	assert_int_equal(godwit_free_pages(vmm.g, 0, 1, 1), -ESTALE);
	assert_int_equal(ask(AGENT_FREE, 7, 0, NULL), 0);
	assert_int_equal(vmm.free_id, 7);
	assert_int_equal(godwit_free_pages(vmm.g, 6, 1, 1), -ESTALE);
	assert_int_equal(ask(AGENT_FREE_LOOK, 7, 0, &m), 0);
	assert_int_equal(m.a + m.b, 0);
	assert_int_equal(godwit_free_pages(vmm.g, 7, 8, 8), 0);
	assert_int_equal(godwit_free_pages(vmm.g, 7, 8, 8), 0); /* twice */
	assert_int_equal(godwit_free_pages(vmm.g, 7, PAGES, 1), -EFAULT);
	godwit_wrote(vmm.g, 0, 9 * PAGE_BYTES, 1); /* used again at once */
	assert_int_equal(ask(AGENT_FREE_LOOK, 6, 0, NULL), -ESTALE);
	assert_int_equal(ask(AGENT_FREE_LOOK, 7, 0, &m), 0);
	assert_int_equal(m.a, 8);
	assert_int_equal(m.b, 0);
	assert_int_equal(hints[CHUNKS], 0xff00);
	assert_int_equal(planes[0] & 0xff00, 0x200); /* the look came after the report */
	assert_int_equal(godwit_free_end(vmm.g, 7), 0);
	assert_int_equal(godwit_free_pages(vmm.g, 7, 1, 1), -ESTALE);
	assert_int_equal(ask(AGENT_FREE_LOOK, 7, 0, &m), 0);
	assert_int_equal(m.a, 0);
	assert_int_equal(m.b, 1);
	end();
}

static void late_and_poisoned_reports_change_nothing(void **state)
{
	struct agent_msg m;

	(void)state;
	begin(0);
	assert_int_equal(ask(AGENT_TRACK_START, 0, 0, NULL), 0);
	assert_int_equal(ask(AGENT_FREE, 1, 0, NULL), 0);
	godwit_free_pages(vmm.g, 1, 8, 8);
	assert_int_equal(ask(AGENT_FREE, 2, 0, NULL), 0); /* a new request */
	assert_int_equal(ask(AGENT_FREE_LOOK, 2, 0, &m), 0);
	assert_int_equal(m.a, 0);
	godwit_free_pages(vmm.g, 2, 8, 8);
	godwit_poison(vmm.g, 0xaaaaaaaa);
	assert_int_equal(godwit_free_pages(vmm.g, 2, 8, 8), -EPERM);
	assert_int_equal(ask(AGENT_FREE_LOOK, 2, 0, &m), 0);
	assert_int_equal(m.a, 0);
	assert_int_equal(hint_flags(), 0);
	assert_int_equal(ask(AGENT_FREE, 3, 0, NULL), -EPERM);
	godwit_poison(vmm.g, 0);
	assert_int_equal(ask(AGENT_FREE, 4, 0, NULL), 0);
	assert_int_equal(ask(AGENT_TRACK_STOP, 0, 0, NULL), 0); /* the session is over */
	assert_int_equal(vmm.free_id, 0);
	assert_int_equal(godwit_free_pages(vmm.g, 4, 8, 8), -ESTALE);
	end();
}

static void back_ends_that_cannot_log_are_refused(void **state)
{
	struct agent_msg m;
	uint64_t bytes;
	void *base;

	(void)state;
	begin(0);
	assert_true(godwit_vhost_log(vmm.g, &bytes, &base) >= 0);
	assert_int_equal(bytes, CHUNKS * 8);
	vmm.fail = -ENOTSUP;
	assert_int_equal(ask(AGENT_TRACK_START, 0, 0, &m), -ENOTSUP);
	assert_int_equal(ask(AGENT_LOOK, 0, 0, NULL), -EINVAL);
	assert_int_equal(ask(AGENT_TRACK_START, 0, 0, NULL), 0);
	drop_out();
	__atomic_fetch_or((uint8_t *)base + 1, 2, __ATOMIC_SEQ_CST);
	assert_int_equal(ask(AGENT_LOOK, 0, 0, NULL), 0);
	assert_int_equal(planes[0], 0x200);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(balloon_needs_its_feature),
		cmocka_unit_test(what_leaves_is_dirty),
		cmocka_unit_test(balloon_comes_with_the_guest),
		cmocka_unit_test(free_pages_answer_a_request),
		cmocka_unit_test(late_and_poisoned_reports_change_nothing),
		cmocka_unit_test(back_ends_that_cannot_log_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
