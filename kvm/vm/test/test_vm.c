// SPDX-License-Identifier: BSD-3-Clause
// Virtual machines in one process: the guest runs, its state and memory move to a second one, and
// what was lost on the way is found by the host's check and by the guest itself.
// Takes "kvm" or "soft"; exits 77 where KVM cannot be used.

#include "../device.h"
#include "../vm.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static bool soft;

// VMs are static: those of a test that failed run on, and the next test must not stand on them.

static struct option_set options(bool incoming)
{
	struct option_set o = {.soft = soft,
		.incoming = incoming,
		.memory_bytes = 16u << 20,
		.nominal_bytes = 16u << 20,
		.vcpus = incoming ? 0 : 2,
		.name = "test",
		.pattern = PATTERN_RANDOM,
		.share = 100,
		.image = {IMAGE_MIX, 7, 80}};

	return o;
}

static void nap_ms(long ms)
{
	struct timespec ts = {ms / 1000, ms % 1000 * 1000000};

	nanosleep(&ts, NULL);
}

// Waits, two minutes at most, until the guest has stamped so many pages.
static void wait_ticks(const struct vm *vm, uint64_t n)
{
	for (int i = 0; i < 12000 && vm_ticks(vm) < n && vm->failed == 0; i++)
		nap_ms(10);
	if (vm->failed != 0)
		fail_msg("%s", vm->why.text);
	assert_true(vm_ticks(vm) >= n);
}

static void open_vm(struct vm *vm, const struct option_set *o)
{
	struct err e;

	if (vm_open(vm, o, &e) < 0)
		fail_msg("%s", e.text);
	if (vm_start(vm, &e) < 0)
		fail_msg("%s", e.text);
}

// The page that a vCPU stamped last may be half stamped for all that check() knows.
static bool stamped_last(const struct vm *vm, uint64_t i)
{
	for (unsigned v = 0; v < vm->mem.lay.nvcpus; v++) {
		const struct block *b =
			memory_at(&vm->mem, GUEST_BLOCKS + (uint64_t)v * GUEST_PAGE);

		if (b->cur_index == i)
			return true;
	}
	return false;
}

static struct check_result check(struct vm *vm)
{
	struct check_result res;
	struct err e;

	if (vm_check(vm, true, &res, &e) < 0)
		fail_msg("%s", e.text);
	return res;
}

static uint64_t save(struct vm *vm, int fd)
{
	struct err e;

	if (vm_save(vm, fd, &e) < 0)
		fail_msg("%s", e.text);
	return (uint64_t)lseek(fd, 0, SEEK_END);
}

static void copy_memory(struct vm *to, const struct vm *from)
{
	for (unsigned f = 0; f < LAYOUT_FILES; f++)
		memcpy(to->mem.base[f], from->mem.base[f], from->mem.lay.file_bytes[f]);
}

static int memory_fd(void)
{
	int fd = memfd_create("state", MFD_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static void runs_and_checks(void **state)
{
	struct option_set o = options(false);
	struct check_result res;
	static struct vm vm;

	(void)state;
	for (unsigned p = PATTERN_SEQ; p <= PATTERN_HOT; p++) {
		o.pattern = (enum pattern)p;
		open_vm(&vm, &o);
		wait_ticks(&vm, 3000);
		res = check(&vm); // anywhere in the loop
		assert_int_equal(res.bad, 0);
		assert_true(res.ok > 4000);
		vm_pause(&vm);
		uint64_t held = vm_ticks(&vm);
		nap_ms(20);
		assert_int_equal(vm_ticks(&vm), held);
		vm_resume(&vm);
		wait_ticks(&vm, held + 1000);
		assert_int_equal(vm_torn_count(&vm), 0);
		vm_close(&vm);
	}
}

static void moves(void **state)
{
	struct option_set o = options(false), in = options(true);
	_cleanup_(close_fd) int fd = memory_fd();
	static struct vm a, b;
	struct err e;
	uint64_t bytes, at;

	(void)state;
	open_vm(&a, &o);
	open_vm(&b, &in);
	for (int round = 0; round < 3; round++) { // a hand-over that is taken back, twice
		wait_ticks(&a, vm_ticks(&a) + 1000);
		vm_pause(&a);
		bytes = save(&a, fd);
		if (round < 2)
			vm_resume(&a);
	}
	copy_memory(&b, &a);
	at = vm_ticks(&a);
	if (vm_load(&b, fd, bytes, &e) < 0)
		fail_msg("%s", e.text);
	if (vm_load(&b, fd, bytes, &e) < 0) // again, as after a failed migration
		fail_msg("again: %s", e.text);
	assert_int_equal(vm_ticks(&b), at);
	assert_int_equal(check(&b).bad, 0);
	vm_gone(&a);
	vm_resume(&b);
	wait_ticks(&b, at + 3000);
	assert_int_equal(check(&b).bad, 0);
	assert_int_equal(vm_torn_count(&b), 0);
	assert_int_equal(vm_ticks(&a), at);
	vm_close(&a);
	vm_close(&b);
}

// The same state, saved again by the VM that loaded it, is the same but for clocks.
static void state_survives(void **state)
{
	static const uint32_t types[] = {STATE_LOOP, STATE_REGS, STATE_SREGS2, STATE_XCRS,
		STATE_XSAVE, STATE_DEBUG, STATE_CPUID};
	struct option_set o = options(false), in = options(true);
	_cleanup_(close_fd) int fd = memory_fd();
	_cleanup_(close_fd) int again = memory_fd();
	_cleanup_(free_ptr) uint8_t *x = malloc(STATE_MAX_BYTES), *y = malloc(STATE_MAX_BYTES);
	struct state_in sx, sy;
	static struct vm a, b;
	struct err e;
	uint64_t nx, ny;

	(void)state;
	open_vm(&a, &o);
	open_vm(&b, &in);
	wait_ticks(&a, 1000);
	vm_pause(&a);
	nx = save(&a, fd);
	copy_memory(&b, &a);
	if (vm_load(&b, fd, nx, &e) < 0)
		fail_msg("%s", e.text);
	ny = save(&b, again);
	assert_int_equal(pread(fd, x, nx, 0), nx);
	assert_int_equal(pread(again, y, ny, 0), ny);
	assert_int_equal(state_in_init(&sx, x, nx, &a.mem.lay, a.engine->kind, &e), 0);
	assert_int_equal(state_in_init(&sy, y, ny, &a.mem.lay, a.engine->kind, &e), 0);
	assert_int_equal(sx.nvcpus, 2);
	for (unsigned v = 0; v < 2; v++)
		for (unsigned i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
			size_t lx = 0, ly = 0;
			const void *px = state_find(&sx, types[i], v, &lx);
			const void *py = state_find(&sy, types[i], v, &ly);

			assert_int_equal(px == NULL, py == NULL);
			if (px == NULL)
				continue;
			assert_int_equal(lx, ly);
			if (memcmp(px, py, lx) != 0)
				fail_msg("section %u of vCPU %u changed", types[i], v);
		}
	vm_close(&a);
	vm_close(&b);
}

// What goes wrong with memory on the way: each is refused or found.
static void losses_are_found(void **state)
{
	struct option_set o = options(false), in = options(true);
	_cleanup_(close_fd) int fd = memory_fd();
	_cleanup_(free_ptr) uint8_t *old = malloc(o.memory_bytes);
	uint64_t bytes, gpa = 0, i;
	struct stamp *s, was;
	uint32_t *table;
	static struct vm a, b;
	struct err e;

	(void)state;
	open_vm(&a, &o);
	open_vm(&b, &in);
	wait_ticks(&a, 20000);
	vm_pause(&a);
	memcpy(old, a.mem.base[LAYOUT_RAM], o.memory_bytes);
	vm_resume(&a);
	wait_ticks(&a, vm_ticks(&a) + 5000);
	vm_pause(&a);
	bytes = save(&a, fd);

	// Memory of an earlier moment.
	copy_memory(&b, &a);
	memcpy(b.mem.base[LAYOUT_RAM], old, o.memory_bytes);
	assert_int_equal(vm_load(&b, fd, bytes, &e), -EPROTO);

	// The late write did not come.
	for (unsigned f = 0; f < LAYOUT_FILES; f++) {
		copy_memory(&b, &a);
		b.mem.base[f][f == LAYOUT_RAM ? GUEST_STATUS + 8 : LAYOUT_BIOS_LAST * GUEST_PAGE]++;
		assert_int_equal(vm_load(&b, fd, bytes, &e), -EPROTO);
		assert_non_null(strstr(e.text, "late"));
	}

	// One page is stale: the host's check and the guest see it, and the guest goes on.
	copy_memory(&b, &a);
	const struct params *p = memory_at(&b.mem, GUEST_PARAMS);
	table = memory_at(&b.mem, b.mem.lay.table_gpa);
	for (i = 0; i < p->n_low; i++) {
		gpa = guest_gpa(p, i);
		if (table[i] > 0 && memcmp(memory_at(&b.mem, gpa), old + gpa, GUEST_PAGE) != 0)
			break;
	}
	assert_true(i < p->n_low);
	memcpy(memory_at(&b.mem, gpa), old + gpa, GUEST_PAGE);
	if (vm_load(&b, fd, bytes, &e) < 0)
		fail_msg("%s", e.text);
	assert_int_equal(check(&b).bad, 1);
	assert_int_equal(check(&b).bad_gpa, gpa);
	vm_resume(&b);
	for (int k = 0; k < 2000 && vm_torn_count(&b) == 0; k++)
		nap_ms(10);
	assert_int_equal(vm_torn_count(&b), 1);
	vm_pause(&b);
	assert_int_equal(check(&b).bad, 0); // stamped anew

	// Half a page is old, and a page whose content beside the stamps changed.
	for (i = 0; i < p->n_low && (table[i] == 0 || table[i + 1] == 0 || stamped_last(&b, i));
		i++)
		;
	gpa = guest_gpa(p, i);
	s = (struct stamp *)(void *)((char *)memory_at(&b.mem, gpa) + STAMP_TAIL);
	was = *s;
	s->count--;
	((uint8_t *)memory_at(&b.mem, gpa + GUEST_PAGE))[2048] ^= 1;
	assert_int_equal(check(&b).bad, 2);
	*s = was;
	assert_int_equal(check(&b).bad, 1);
	vm_close(&a);
	vm_close(&b);
}

// Damaged state, of any kind, is an error and nothing else.
static void bad_state_is_refused(void **state)
{
	struct option_set o = options(false), in = options(true);
	_cleanup_(close_fd) int fd = memory_fd();
	_cleanup_(close_fd) int bad = memory_fd();
	_cleanup_(free_ptr) uint8_t *x = malloc(STATE_MAX_BYTES);
	static struct vm a, b;
	struct err e;
	uint64_t n;

	(void)state;
	open_vm(&a, &o);
	open_vm(&b, &in);
	wait_ticks(&a, 1000);
	vm_pause(&a);
	n = save(&a, fd);
	copy_memory(&b, &a);
	assert_int_equal(pread(fd, x, n, 0), n);
	srand(1);
	for (int k = 0; k < 300; k++) {
		uint64_t len = k % 2 ? n : (uint64_t)rand() % n, at = (uint64_t)rand() % n;

		x[at] ^= 1 + rand() % 255;
		assert_int_equal(ftruncate(bad, 0), 0);
		assert_int_equal(pwrite(bad, x, len, 0), len);
		assert_true(vm_load(&b, bad, len, &e) < 0);
		assert_int_equal(pread(fd, x, n, 0), n);
	}
	assert_true(vm_load(&b, fd, n + 1, &e) < 0);
	assert_true(vm_load(&b, fd, 0, &e) < 0);
	assert_true(vm_load(&b, fd, UINT64_MAX, &e) < 0);
	assert_int_equal(vm_load(&b, fd, n, &e), 0);
	vm_close(&b);

	in.vcpus = 1;
	open_vm(&b, &in);
	assert_int_equal(vm_load(&b, fd, n, &e), -EINVAL);
	vm_close(&b);
	in = options(true);
	in.memory_bytes = in.nominal_bytes = 18u << 20;
	open_vm(&b, &in);
	assert_int_equal(vm_load(&b, fd, n, &e), -EINVAL);
	vm_close(&b);
	vm_close(&a);
}

static void few_huge_pages_are_said(void **state)
{
	struct option_set o = options(true);
	struct err e = {0};
	struct vm vm;
	int rc;

	(void)state;
	o.huge = true;
	o.memory_bytes = o.nominal_bytes = UINT64_C(512) << 30; // more than this host can have
	rc = vm_open(&vm, &o, &e);
	assert_int_equal(rc, -ENOMEM);
	assert_non_null(strstr(e.text, "nr_hugepages"));
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(runs_and_checks),
		cmocka_unit_test(moves),
		cmocka_unit_test(state_survives),
		cmocka_unit_test(losses_are_found),
		cmocka_unit_test(bad_state_is_refused),
		cmocka_unit_test(few_huge_pages_are_said),
	};
	struct option_set o = options(true);
	struct err e;
	struct vm vm;
	int rc;

	soft = argc > 1 && strcmp(argv[1], "soft") == 0;
	o.soft = soft;
	rc = vm_open(&vm, &o, &e);
	if (rc == -ENODEV) {
		printf("skipped: %s\n", e.text);
		return 77;
	}
	if (rc == 0)
		vm_close(&vm);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
