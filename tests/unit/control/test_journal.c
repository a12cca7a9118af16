// SPDX-License-Identifier: BSD-3-Clause
// journal.c and journal_scan.c: what was promised is read back, and nothing else.

#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "journal.h"
#include "statedir.h"

static char dir[] = "/tmp/godwit-journal-XXXXXX";
static char sub[64];
static json_t *seen; /* name: records */

static void on_journal(void *arg, const char *name, json_t *records)
{
	(void)arg;
	json_object_set(seen, name, records);
}

static json_t *scan(void)
{
	struct err e;

	json_decref(seen);
	seen = json_object();
	assert_int_equal(journal_scan(sub, on_journal, NULL, &e), 0);
	return seen;
}

static void append(const char *name, const char *text)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/%s.journal", sub, name);
	fd = open(path, O_WRONLY | O_APPEND | O_CREAT, 0600);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static void test_write_and_read(void **state)
{
	struct journal *j, *other;
	struct err e;
	json_t *records;

	(void)state;
	scan(); /* makes the folder */
	assert_int_equal(journal_open(&j, sub, "web-1", &e), 0);
	assert_int_equal(journal_write(j, json_pack("{s:s}", "what", "pause"), &e), 0);
	assert_int_equal(journal_write(j, json_pack("{s:s}", "what", "commit"), &e), 0);
	assert_int_equal(journal_open(&other, sub, "web-1", &e), -EEXIST);
	assert_has(e.text, "godwit resolve web-1");
	journal_close(j);
	records = json_object_get(scan(), "web-1");
	assert_int_equal(json_array_size(records), 2);
	assert_string_equal(
		json_string_value(json_object_get(json_array_get(records, 1), "what")), "commit");
	assert_int_equal(journal_reopen(&j, sub, "web-1", &e), 0);
	journal_end(j);
	assert_int_equal(json_object_size(scan()), 0);
	assert_int_equal(journal_reopen(&j, sub, "web-1", &e), -ENOENT);
	journal_close(NULL);
}

static void test_torn_and_damaged(void **state)
{
	struct journal *j;
	struct err e;
	json_t *records;

	(void)state;
	append("torn", "{\"n\":1}\n{\"n\":2}\n{\"n\":");
	assert_int_equal(json_array_size(json_object_get(scan(), "torn")), 2);
	/* What is appended does not run into the torn line. */
	assert_int_equal(journal_reopen(&j, sub, "torn", &e), 0);
	assert_int_equal(journal_write(j, json_pack("{s:i}", "n", 3), &e), 0);
	journal_close(j);
	records = json_object_get(scan(), "torn");
	assert_int_equal(json_array_size(records), 3);
	assert_int_equal(json_integer_value(json_object_get(json_array_get(records, 2), "n")), 3);
	/* A whole line that can't be read may have been a promise. */
	append("torn", "garbage\n");
	records = json_object_get(scan(), "torn");
	assert_int_equal(json_array_size(records), 4);
	assert_int_equal(
		json_integer_value(json_object_get(json_array_get(records, 3), "damaged")), 4);
	assert_int_equal(journal_reopen(&j, sub, "torn", &e), 0);
	journal_end(j);
	append("empty", "");
	assert_int_equal(json_array_size(json_object_get(scan(), "empty")), 0);
	journal_reopen(&j, sub, "empty", &e);
	journal_end(j);
}

static void test_names(void **state)
{
	static const char *const bad[] = {"", "a/b", "../x", ".", "..", "a b", "-x", "\xc3\xa4",
		"0123456789012345678901234567890123456789012345678901234567890123"};
	struct journal *j;
	struct err e;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(journal_open(&j, sub, bad[i], &e), -EINVAL);
	assert_int_equal(journal_name_check("A_z.9-", &e), 0);
	/* Files that are no journals are left alone. */
	append("..x", "{}\n");
	assert_int_equal(json_object_size(scan()), 0);
}

/* A disk that is full: nothing was promised, and what stood there stands. */
static void test_full_disk(void **state)
{
	struct rlimit limit = {.rlim_cur = 12, .rlim_max = RLIM_INFINITY}, before;
	struct journal *j;
	struct err e;
	int rc;

	(void)state;
	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &before);
	limit.rlim_max = before.rlim_max;
	assert_int_equal(journal_open(&j, sub, "full", &e), 0);
	assert_int_equal(journal_write(j, json_pack("{s:i}", "n", 1), &e), 0);
	setrlimit(RLIMIT_FSIZE, &limit);
	rc = journal_write(j, json_pack("{s:i}", "n", 2), &e);
	setrlimit(RLIMIT_FSIZE, &before);
	assert_int_equal(rc, -EFBIG);
	assert_has(e.text, "full.journal");
	assert_int_equal(json_array_size(json_object_get(scan(), "full")), 1);
	assert_int_equal(journal_write(j, json_pack("{s:i}", "n", 3), &e), 0);
	assert_int_equal(json_array_size(json_object_get(scan(), "full")), 2);
	journal_end(j);
}

static void test_state_dir(void **state)
{
	struct err e;
	int fd = statedir_hold(sub, &e);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(statedir_hold(sub, &e), -EBUSY);
	assert_has(e.text, "another godwitd");
	close(fd);
	fd = statedir_hold(sub, &e);
	assert_true(fd >= 0);
	close(fd);
	assert_true(statedir_hold("/proc/godwit", &e) < 0);
	assert_has(e.text, "--state-dir");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_write_and_read),
		cmocka_unit_test(test_torn_and_damaged),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_full_disk),
		cmocka_unit_test(test_state_dir),
	};
	char command[96];
	int rc;

	if (mkdtemp(dir) == NULL)
		return 1;
	snprintf(sub, sizeof(sub), "%s/state", dir);
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	json_decref(seen);
	snprintf(command, sizeof(command), "rm -r %s", dir);
	return system(command) == 0 ? rc : 1;
}
