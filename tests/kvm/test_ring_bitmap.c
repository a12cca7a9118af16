// SPDX-License-Identifier: BSD-3-Clause
// The row "kvm-ring" against a fake of KVM (fake_ring.h): the bitmap beside the rings, and a VM
// with manual protection, which no x86 kernel lets a test try. The last test shows that the others
// would notice a bitmap that is not read.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "bits.h"
#include "fake_ring.h"
#include "seed.h"

static struct source *open_row(void)
{
	const struct source_config c = {
		.map = &fake_map, .vm_fd = FAKE_VM_FD, .vcpus = &fake_vcpus};
	struct source *s = NULL;
	struct err e;

	assert_int_equal(source_kvm_ring.open(&s, &c, &e), 0);
	return s;
}

static struct source *started(void)
{
	struct source *s = open_row();
	struct err e;

	assert_int_equal(source_kvm_ring.start(s, &e), 0);
	return s;
}

static int64_t look(struct source *s, uint64_t out[FAKE_WORDS])
{
	struct err e;

	memset(out, 0, FAKE_WORDS * sizeof(*out));
	return source_kvm_ring.look(s, out, false, &e);
}

static void assert_only(struct source *s, uint32_t page)
{
	uint64_t out[FAKE_WORDS];

	assert_int_equal(look(s, out), 1);
	assert_true(bits_test(out, page));
}

static void assert_none(struct source *s)
{
	uint64_t out[FAKE_WORDS];

	assert_int_equal(look(s, out), 0);
}

static void arm(struct source *s, uint32_t page)
{
	uint64_t want = UINT64_C(1) << page % 64, out = 0;
	struct err e;

	assert_int_equal(source_kvm_ring.arm(s, page / 64, 1, &want, &out, &e), 0);
}

static void test_until_armed(void **state)
{
	struct source *s = started();
	uint64_t word = UINT64_C(1) << 130 % 64;

	(void)state;
	assert_none(s);
	fake_device_writes(1, 2);
	assert_only(s, 130);
	assert_only(s, 130);
	arm(s, 131); /* another */
	assert_only(s, 130);
	arm(s, 130);
	assert_none(s);
	source_kvm_ring.put_back(s, 130 / 64, 1, &word);
	assert_only(s, 130);
	arm(s, 130);
	fake_device_writes(1, 2);
	assert_only(s, 130);
	source_kvm_ring.close(s);
}

static void test_in_both(void **state)
{
	struct source *s = started();

	(void)state;
	fake_device_writes(0, 77);
	fake_vcpu_writes(0, 0, 77);
	fake_vcpu_writes(1, 0, 77);
	assert_only(s, 77);
	arm(s, 77);
	assert_none(s);
	/* Both protect it again. */
	fake_vcpu_writes(1, 0, 77);
	assert_only(s, 77);
	arm(s, 77);
	fake_device_writes(0, 77);
	assert_only(s, 77);
	source_kvm_ring.close(s);
}

static void test_alias(void **state)
{
	struct source *s = started();

	(void)state;
	fake_device_writes(FAKE_ALIAS, 89);
	assert_only(s, fake_shows[FAKE_ALIAS].first + 89);
	fake_vcpu_writes(0, 0, 110); /* the same page */
	assert_only(s, 110);
	fake_device_writes(0, 110);
	assert_only(s, 110);
	arm(s, 110);
	assert_none(s);
	source_kvm_ring.close(s);
}

/* What was written before start is of pass 0; what came before stop is nobody's any more. */
static void test_ends(void **state)
{
	struct source *s = open_row();
	struct err e;

	(void)state;
	fake_device_writes(0, 5);
	fake_vcpu_writes(0, 0, 6);
	assert_int_equal(source_kvm_ring.start(s, &e), 0);
	assert_none(s);
	fake_device_writes(0, 7);
	fake_device_writes(1, 7);
	fake_vcpu_writes(1, 1, 8);
	assert_int_equal(source_kvm_ring.stop(s, &e), 0);
	assert_false(fake_logs());
	assert_int_equal(source_kvm_ring.start(s, &e), 0);
	assert_none(s);
	fake_device_writes(0, 9);
	assert_only(s, 9);
	source_kvm_ring.close(s);
}

/* Only ENXIO says that there is no bitmap. Anything else must not pass for that: writes would be
 * lost in silence. */
static void test_get_fails(void **state)
{
	struct source *s = open_row();
	struct err e;
	uint64_t out[FAKE_WORDS];

	(void)state;
	fake.get_errno = EIO;
	assert_int_equal(source_kvm_ring.start(s, &e), -EIO);
	assert_non_null(strstr(e.text, "bitmap"));
	assert_false(fake_logs());
	fake.get_errno = 0;
	assert_int_equal(source_kvm_ring.start(s, &e), 0);
	fake.get_errno = EFAULT;
	assert_int_equal(look(s, out), -EFAULT);
	source_kvm_ring.close(s);
}

/* Such a VM would leave rings empty: manual protection is taken from it, and it is said. */
static void test_manual(void **state)
{
	struct source_info info;
	struct source *s;

	(void)state;
	fake.manual = true;
	s = started();
	assert_int_equal(fake.takes, 1);
	source_kvm_ring.info(s, &info);
	assert_string_equal(info.mode, "manual protect switched off");
	fake_vcpu_writes(0, 0, 3);
	assert_only(s, 3);
	fake_device_writes(1, 0);
	arm(s, 3);
	assert_only(s, 128);
	source_kvm_ring.close(s);
}

static void test_manual_stays(void **state)
{
	struct source *s;
	struct err e;

	(void)state;
	fake.manual = true;
	fake.refuses = EINVAL;
	s = open_row();
	assert_int_equal(source_kvm_ring.start(s, &e), -EINVAL);
	assert_non_null(strstr(e.text, "manual dirty-log protection"));
	assert_false(fake_logs());
	source_kvm_ring.close(s);
}

/* A VMM may open the library anew: the kernel goes on in its rings where it was. */
static void test_again(void **state)
{
	struct source *s = started();

	(void)state;
	for (uint32_t i = 0; i < 5; i++)
		fake_vcpu_writes(1, 0, i);
	source_kvm_ring.close(s);
	s = started();
	assert_none(s);
	fake_vcpu_writes(1, 0, 9);
	assert_only(s, 9);
	arm(s, 9);
	fake_vcpu_writes(1, 0, 9);
	assert_only(s, 9);
	assert_int_equal(kvm_ring_overruns(s), 0);
	source_kvm_ring.close(s);
}

/* The same, and the one before left the ring after an overrun: the kernel resets from further back
 * than it fills. What was lost is unknown; afterwards the ring works, and its vCPU is not held. */
static void test_again_after_an_overrun(void **state)
{
	struct source *s;
	uint64_t out[FAKE_WORDS], want[FAKE_WORDS];
	struct err e;

	(void)state;
	fake.ring[1].reset = 250;
	fake.ring[1].dirty = 261;
	s = started();
	fake_vcpu_writes(1, 0, 9);
	assert_int_equal(look(s, out), FAKE_PAGES);
	assert_int_equal(kvm_ring_overruns(s), 1);
	assert_int_equal(fake.ring[1].reset, fake.ring[1].dirty);
	memset(want, 0xff, sizeof(want));
	assert_int_equal(source_kvm_ring.arm(s, 0, FAKE_WORDS, want, out, &e), 0);
	for (uint32_t i = 0; i < 300; i++) {
		fake_vcpu_writes(1, 0, i % 100);
		assert_only(s, i % 100);
		arm(s, i % 100);
	}
	assert_int_equal(kvm_ring_overruns(s), 1);
	source_kvm_ring.close(s);
}

/* Random histories against what was written and not armed since. Returns the first step after which
 * a look is not just that, or -1. */
static int play(uint64_t number)
{
	struct seed seed = {.state = number};
	struct source *s = started();
	uint64_t owed[FAKE_WORDS] = {0}, out[FAKE_WORDS];
	int wrong = -1;

	for (int step = 0; step < 60 && wrong < 0; step++) {
		for (uint64_t n = seed_below(&seed, 20); n > 0; n--) {
			uint32_t slot = (uint32_t)seed_below(&seed, FAKE_SLOTS);
			uint32_t page = (uint32_t)seed_below(&seed, fake_shows[slot].n);
			unsigned who = (unsigned)seed_below(&seed, FAKE_VCPUS + 1);

			if (who < FAKE_VCPUS)
				fake_vcpu_writes(who, slot, page);
			else
				fake_device_writes(slot, page);
			bits_set(owed, fake_shows[slot].first + page);
		}
		if (look(s, out) < 0 || memcmp(out, owed, sizeof(out)) != 0)
			wrong = step;
		for (uint64_t n = seed_below(&seed, 40); n > 0; n--) {
			uint32_t page = (uint32_t)seed_below(&seed, FAKE_PAGES);
			uint64_t word = UINT64_C(1) << page % 64;

			if (!bits_test(owed, page))
				continue;
			arm(s, page);
			bits_clear(owed, page);
			if (seed_below(&seed, 4) == 0) {
				source_kvm_ring.put_back(s, page / 64, 1, &word);
				bits_set(owed, page);
			}
		}
	}
	source_kvm_ring.close(s);
	return wrong;
}

static void test_histories(void **state)
{
	(void)state;
	for (uint64_t number = 1; number <= 100; number++) {
		int step = play(number);

		if (step >= 0)
			fail_msg("seed %llu, step %d: not the pages that were written",
				(unsigned long long)number, step);
	}
}

/* Without the bitmap the same histories must not pass. */
static void test_without_bitmap(void **state)
{
	(void)state;
	fake.lies = true;
	assert_true(play(1) >= 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, fake_make, fake_drop)
	const struct CMUnitTest tests[] = {
		T(test_until_armed),
		T(test_in_both),
		T(test_alias),
		T(test_ends),
		T(test_get_fails),
		T(test_manual),
		T(test_manual_stays),
		T(test_again),
		T(test_again_after_an_overrun),
		T(test_histories),
		T(test_without_bitmap),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
