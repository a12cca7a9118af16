// SPDX-License-Identifier: BSD-3-Clause
// mem.c: buffers are zero, and of the node that was asked for.

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <numa.h>
#include <numaif.h>

#include "mem.h"

#define BYTES (3u << 20)

/* The policy of the memory at p, and whether it names node 0. */
static int policy(void *p, bool *first)
{
	unsigned long nodes[16] = {0};
	int mode;

	assert_int_equal(get_mempolicy(&mode, nodes, sizeof(nodes) * 8, p, MPOL_F_ADDR), 0);
	*first = nodes[0] == 1;
	return mode;
}

static void of_a_node(void **state)
{
	uint8_t *near, *any;
	int node = -1;
	bool first;

	(void)state;
	if (numa_available() < 0) {
		print_message("this kernel has no NUMA\n");
		skip();
	}
	near = mem_new(BYTES, 0);
	any = mem_new(BYTES, -1);
	assert_true(near != NULL && any != NULL);
	assert_int_equal(policy(near, &first), MPOL_PREFERRED);
	assert_true(first);
	assert_int_equal(policy(any, &first), MPOL_DEFAULT);
	// Where a page of it really is.
	assert_int_equal(
		get_mempolicy(&node, NULL, 0, near + BYTES - 1, MPOL_F_NODE | MPOL_F_ADDR), 0);
	assert_int_equal(node, 0);
	mem_free(near, BYTES);
	mem_free(any, BYTES);
}

/* A node that is not there is no reason to have no memory. */
static void of_a_node_that_is_not_there(void **state)
{
	uint8_t *p = mem_new(BYTES, 1 << 20);

	(void)state;
	assert_non_null(p);
	for (size_t i = 0; i < BYTES; i += 4096)
		assert_int_equal(p[i], 0);
	mem_free(p, BYTES);
	mem_free(NULL, BYTES);
}

/* A byte behind the end, up to the next multiple of 64, is a fault at once. */
static void guarded(void **state)
{
	static const size_t sizes[] = {1, 64, 4096, 5000, 262144};

	(void)state;
	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		size_t end = (sizes[i] + 63) & ~(size_t)63;
		volatile uint8_t *p = mem_new_guarded(sizes[i], -1);
		int status;
		pid_t child;

		assert_non_null(p);
		assert_int_equal((uintptr_t)p % 64, 0);
		for (size_t k = 0; k < end; k++)
			assert_int_equal(p[k], 0);
		p[0] = p[end - 1] = 1;
		child = fork();
		if (child == 0) {
			signal(SIGSEGV, SIG_DFL);
			p[end] = 1;
			_exit(0);
		}
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
		mem_free_guarded((void *)p, sizes[i]);
	}
	mem_free_guarded(NULL, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(of_a_node),
		cmocka_unit_test(of_a_node_that_is_not_there),
		cmocka_unit_test(guarded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
