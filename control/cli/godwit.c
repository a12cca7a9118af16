// SPDX-License-Identifier: BSD-3-Clause
// godwit: asks the daemon of this host. Its sub-commands are the rows of command.h, its options
// those of option_godwit.c; each sub-command is one request, and a way to show the answer.

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "command.h"
#include "completion.h"
#include "doctor.h"
#include "godwit_client.h"
#include "godwit_follow.h"
#include "keys.h"
#include "option.h"
#include "plot.h"
#include "record.h"
#include "report.h"

#define WORDS_MOST 64 /* hosts of one call of keys */

static void usage(FILE *out)
{
	fprintf(out,
		"usage: godwit COMMAND [NAME] [OPTION...]\n\n"
		"Moves the memory of a running virtual machine to another host.\n\ncommands:\n");
	for (unsigned i = 0; i < COMMANDS; i++) {
		char call[40];

		snprintf(
			call, sizeof(call), "%s %s", command_table[i].name, command_table[i].words);
		fprintf(out, "  %-18s %s\n", call, command_table[i].help);
	}
	fprintf(out, "\n`godwit COMMAND --help` lists a command's options; see also godwit(1).\n");
}

static void command_usage(FILE *out, enum command c)
{
	fprintf(out, "usage: godwit %s%s%s [OPTION...]\n\n%s\n\noptions:\n", command_table[c].name,
		*command_table[c].words ? " " : "", command_table[c].words, command_table[c].help);
	option_help(out, "--", option_godwit, 1u << c);
}

static int show_version(const json_t *reply)
{
	printf("godwit %s\n", GODWIT_VERSION);
	printf("godwitd %s\n", report_text(reply, "version"));
	if (strcmp(GODWIT_VERSION, report_text(reply, "version")) != 0)
		printf("the daemon that runs is of another version: restart it\n");
	return EXIT_DONE;
}

/* What resolve tells: an object of texts and lists of texts. */
static void show_tell(const json_t *tell)
{
	const char *key;
	json_t *j, *item;
	size_t i;

	json_object_foreach((json_t *)tell, key, j)
	{
		if (json_is_string(j)) {
			printf("%s: %s\n", key, json_string_value(j));
		} else if (json_is_array(j)) {
			printf("%s:\n", key);
			json_array_foreach(j, i, item) printf(
				"  %s\n", json_is_string(item) ? json_string_value(item) : "");
		} else if (!json_is_null(j)) {
			printf("%s: ", key);
			json_dumpf(j, stdout, JSON_COMPACT | JSON_ENCODE_ANY);
			putchar('\n');
		}
	}
}

static void show_reply(
	enum command c, const struct option_set *o, const char *name, const json_t *reply)
{
	switch (c) {
	case COMMAND_STATUS:
		if (name != NULL) {
			report_session(stdout, json_object_get(reply, "session"));
			break;
		}
		report_daemon(stdout, json_object_get(reply, "daemon"));
		report_list(stdout, json_object_get(reply, "sessions"));
		break;
	case COMMAND_LIST:
		report_list(stdout, json_object_get(reply, "sessions"));
		break;
	case COMMAND_VERSION:
		show_version(reply);
		break;
	case COMMAND_RESOLVE:
		show_tell(json_object_get(reply, "tell"));
		if (option_given(o, "keep"))
			printf("%s: resolved, the guest runs at the %s\n", name,
				option_text(o, "keep"));
		break;
	case COMMAND_LOG:
		printf("level: %s\n", report_text(reply, "level"));
		break;
	case COMMAND_CANCEL:
		printf("%s: cancelled\n", name);
		break;
	case COMMAND_MIGRATE:
	case COMMAND_RECEIVE:
		printf("%s: begun; follow it with `godwit watch %s`\n", name, name);
		break;
	default:
		printf("%s: done\n", name);
	}
}

/* Does the command have this switch or option, and is it given? */
static bool said(enum command c, const struct option_set *o, const char *option)
{
	for (const struct option_row *r = option_godwit; r->name != NULL; r++)
		if (strcmp(r->name, option) == 0 && (r->where & (1u << c)) != 0)
			return option_given(o, option);
	return false;
}

/* status --watch: of one migration it is watch, without a name it asks again and again. */
static bool watches(enum command c, const struct option_set *o)
{
	return c == COMMAND_STATUS && said(c, o, "watch");
}

static bool follows(enum command c, const struct option_set *o, const char *name)
{
	if (c == COMMAND_MIGRATE || c == COMMAND_RECEIVE)
		return !option_number(o, "detach");
	return c == COMMAND_WATCH || (watches(c, o) && name != NULL);
}

static int wrong(enum command c, const char *text)
{
	fprintf(stderr, "godwit: %s: %s\nTry `godwit %s --help`.\n", command_table[c].name, text,
		command_table[c].name);
	return EXIT_USAGE;
}

/* One request to the daemon, its answer, and what follows it. */
struct asking {
	enum command command;
	const struct option_set *options;
	const char *name;
	bool json, follow;
	struct record *record;
	struct godwit_client client;
};

/* The answer to a request that was sent: shown, or followed by events. */
static int answer(struct asking *a, struct err *e)
{
	json_t *reply = godwit_client_next(&a->client, e);
	bool ok = json_is_true(json_object_get(reply, "ok"));
	/* What the daemon finds wrong with the words of a request is wrong on the command line. */
	bool bad = strcmp(report_text(reply, "errno"), "EINVAL") == 0;
	int code = ok ? EXIT_DONE : bad ? EXIT_USAGE : EXIT_FAILED;

	if (reply == NULL) {
		fprintf(stderr, "godwit: %s\n", e->text);
		return EXIT_NO_DAEMON;
	}
	if (a->json && !a->follow) {
		json_dumpf(reply, stdout, JSON_COMPACT);
		putchar('\n');
	}
	if (!ok) {
		fprintf(stderr, "godwit: %s: %s\n", command_table[a->command].name,
			report_text(reply, "error"));
	} else if (a->follow) {
		const struct godwit_follow_how how = {.json = a->json,
			.record = a->record,
			.session = json_object_get(reply, "session")};

		record_session(a->record, how.session);
		code = godwit_follow(&a->client, a->name, &how);
	} else if (!a->json) {
		show_reply(a->command, a->options, a->name, reply);
	}
	json_decref(reply);
	return code;
}

static int ask_once(struct asking *a, struct err *e)
{
	bool watch = a->follow && a->command == COMMAND_STATUS;
	json_t *request = json_pack("{s:s}", "do",
		watch ? command_table[COMMAND_WATCH].name : command_table[a->command].name);

	if (a->name != NULL)
		json_object_set_new(request, "name", json_string(a->name));
	option_to_json(a->options, request);
	if (godwit_client_send(&a->client, request, e) == 0)
		return answer(a, e);
	fprintf(stderr, "godwit: %s\n", e->text);
	return EXIT_NO_DAEMON;
}

/* Until the daemon leaves, or somebody says enough. */
static int ask_again_and_again(struct asking *a, struct err *e)
{
	int code;

	for (;;) {
		if (!a->json && isatty(STDOUT_FILENO))
			printf("\033[H\033[2J");
		code = ask_once(a, e);
		if (code != EXIT_DONE)
			return code;
		fflush(stdout);
		sleep(1);
	}
}

static int ask(enum command c, const struct option_set *o, const char *name)
{
	struct asking a = {.command = c,
		.options = o,
		.name = name,
		.json = said(c, o, "json"),
		.follow = follows(c, o, name)};
	struct err e;
	int code;

	/* Before anything is begun. */
	if (said(c, o, "record")) {
		if (!a.follow)
			return wrong(c,
				"--record follows a migration: it goes neither with --detach "
				"nor without a NAME");
		if (record_open(&a.record, option_text(o, "record"), name, &e) < 0) {
			fprintf(stderr, "godwit: %s\n", e.text);
			return EXIT_FAILED;
		}
	}
	if (godwit_client_open(&a.client, option_text(o, "api"), &e) < 0) {
		if (c == COMMAND_VERSION)
			printf("godwit %s\n", GODWIT_VERSION);
		fprintf(stderr, "godwit: %s\n", e.text);
		code = EXIT_NO_DAEMON;
	} else {
		code = watches(c, o) && !a.follow ? ask_again_and_again(&a, &e) : ask_once(&a, &e);
	}
	godwit_client_close(&a.client);
	if (record_close(a.record, &e) < 0)
		fprintf(stderr, "godwit: %s\n", e.text);
	return code;
}

/* The daemon's word is one row of many: without it the doctor goes on. */
static int doctor(const struct option_set *o)
{
	struct doctor d = {.sys = "/sys", .proc = "/proc", .options = o};
	struct godwit_client client;
	json_t *reply = NULL;
	struct err e;

	if (godwit_client_open(&client, option_text(o, "api"), &e) == 0 &&
		godwit_client_send(&client, json_pack("{s:s}", "do", "doctor"), &e) == 0)
		reply = godwit_client_next(&client, &e);
	godwit_client_close(&client);
	if (json_is_object(json_object_get(reply, "daemon")))
		d.daemon = json_incref(json_object_get(reply, "daemon"));
	json_decref(reply);
	doctor_run(&d);
	doctor_print(&d, option_number(o, "json") != 0);
	json_decref(d.rows);
	json_decref(d.daemon);
	return d.count[DOCTOR_PROBLEM] > 0 ? EXIT_FAILED : EXIT_DONE;
}

static int keys(const struct option_set *o, const char *const *names, int n)
{
	const struct keys_options k = {
		.dir = option_text(o, "dir"),
		.days = (unsigned)option_number(o, "days"),
		.nnames = n,
		.names = names,
		.revoke = option_given(o, "revoke") ? option_text(o, "revoke") : NULL,
	};
	struct err e;

	if (keys_make(&k, &e) == 0)
		return EXIT_DONE;
	fprintf(stderr, "godwit: keys: %s\n", e.text);
	return EXIT_FAILED;
}

static int plot(const struct option_set *o, const char *file)
{
	const char *stem = option_given(o, "out") ? option_text(o, "out") : file;
	struct err e;

	if (plot_make(file, stem, &e) < 0) {
		fprintf(stderr, "godwit: plot: %s\n", e.text);
		return EXIT_FAILED;
	}
	printf("%s.svg\n%s.png\n", stem, stem);
	return EXIT_DONE;
}

static int help(const char *name)
{
	enum command c = name ? command_find(name) : COMMANDS;

	if (name == NULL) {
		usage(stdout);
		return EXIT_DONE;
	}
	if (c == COMMANDS) {
		fprintf(stderr, "godwit: there is no command '%s'\n", name);
		usage(stderr);
		return EXIT_USAGE;
	}
	command_usage(stdout, c);
	return EXIT_DONE;
}

static int run(enum command c, int argc, char **argv)
{
	const char *names[WORDS_MOST] = {NULL}, *name, *words = command_table[c].words;
	struct option_set options;
	struct err e;
	int n;

	option_init(&options, option_godwit, 1u << c);
	n = option_argv(&options, argc, argv, names,
		*words == '\0'                 ? 0
		: strstr(words, "...") != NULL ? WORDS_MOST
					       : 1,
		&e);
	name = names[0];
	if (n < 0)
		return wrong(c, e.text);
	if (option_number(&options, "help")) {
		command_usage(stdout, c);
		return EXIT_DONE;
	}
	if (c == COMMAND_HELP)
		return help(name);
	if (words[0] == 'N' && name == NULL)
		return wrong(c, "the NAME of the migration is missing");
	if (c == COMMAND_LOG && name != NULL) {
		if (option_give(&options, "level", name, &e) < 0)
			return wrong(c, e.text);
		name = NULL;
	}
	if (option_complete(&options, &e) < 0)
		return wrong(c, e.text);
	if (c == COMMAND_PLOT)
		return name != NULL ? plot(&options, name)
				    : wrong(c, "the record's FILE is missing");
	if (c == COMMAND_COMPLETION)
		return name != NULL && completion_print(stdout, name) == 0
			       ? EXIT_DONE
			       : wrong(c, "there are scripts for bash and zsh");
	if (c == COMMAND_KEYS)
		return keys(&options, names, n);
	return c == COMMAND_DOCTOR ? doctor(&options) : ask(c, &options, name);
}

int main(int argc, char **argv)
{
	enum command c;

	if (argc < 2) {
		usage(stderr);
		return EXIT_USAGE;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
		return help(NULL);
	if (strcmp(argv[1], "--version") == 0) {
		printf("godwit %s\n", GODWIT_VERSION);
		return EXIT_DONE;
	}
	c = command_find(argv[1]);
	if (c == COMMANDS) {
		fprintf(stderr, "godwit: there is no command '%s'\n", argv[1]);
		usage(stderr);
		return EXIT_USAGE;
	}
	return run(c, argc - 2, argv + 2);
}
