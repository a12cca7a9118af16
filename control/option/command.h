/* SPDX-License-Identifier: BSD-3-Clause */
/* What one can ask of the daemon: the sub-commands of godwit, which are the requests of the API. */
#ifndef GODWIT_CONTROL_COMMAND_H
#define GODWIT_CONTROL_COMMAND_H

/* enumerator, name, what follows it ("NAME", "[NAME]" or ""), help */
#define COMMAND_LIST(X)                                                                            \
	X(MIGRATE, "migrate", "NAME", "take a guest of this host to another one")                  \
	X(RECEIVE, "receive", "NAME", "await a guest for a VMM of this host that is waiting")      \
	X(STATUS, "status", "[NAME]", "tell how a migration stands; without NAME, the daemon too") \
	X(LIST, "list", "", "one line for each migration")                                         \
	X(CANCEL, "cancel", "NAME", "end a migration; the guest runs on at the source")            \
	X(BEGIN, "begin", "NAME", "begin a migration that --prepare has made ready")               \
	X(SWITCH_NOW, "switch-now", "NAME", "pause the guest and finish, however much is left")    \
	X(SET, "set", "NAME", "change limits of a migration that is under way")                    \
	X(RESOLVE, "resolve", "NAME", "decide where a guest runs after silence at the hand-over")  \
	X(WATCH, "watch", "NAME", "follow a migration that is under way")                          \
	X(LOG, "log", "[LEVEL]", "tell what goes to the daemon's log, or change it")               \
	X(PLOT, "plot", "FILE", "make pictures of a recorded migration, FILE.svg and FILE.png")    \
	X(DOCTOR, "doctor", "", "tell what this host has for migrations, and what to change")      \
	X(KEYS, "keys", "HOST...", "make a test authority, and keys and certificates of hosts")    \
	X(COMPLETION, "completion", "SHELL",                                                       \
		"print a script that completes command lines: bash, zsh")                          \
	X(VERSION, "version", "", "versions of this program and of the daemon")                    \
	X(HELP, "help", "[NAME]", "this text, or that of a sub-command")

enum command {
#define X(id, name, words, help) COMMAND_##id,
	COMMAND_LIST(X)
#undef X
		COMMANDS
};

struct command_row {
	const char *name;
	const char *words;
	const char *help;
};

extern const struct command_row command_table[COMMANDS];

/* COMMANDS: there is none of that name. */
enum command command_find(const char *name);

#endif
