// SPDX-License-Identifier: BSD-3-Clause
// Scripts that complete command lines. Run by godwit's only thread. All that they know is in the
// tables of commands and options; names of migrations are asked of the daemon, where it answers.

#include "completion.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "command.h"
#include "option.h"

/* Text inside single quotes; before each of special stands a backslash. */
static void put_quoted(FILE *out, const char *text, const char *special)
{
	for (; *text != '\0'; text++) {
		if (*text == '\'')
			fputs("'\\'", out);
		else if (strchr(special, *text) != NULL)
			fputc('\\', out);
		fputc(*text, out);
	}
}

/* As words; before each of special stands a backslash. */
static void put_choices(FILE *out, const char *choices, const char *special)
{
	for (; *choices != '\0'; choices++) {
		if (strchr(special, *choices) != NULL)
			fputc('\\', out);
		fputc(*choices == '|' ? ' ' : *choices, out);
	}
}

static const char *choices_of(const struct option_row *r)
{
	return r->choices != NULL ? r->choices : r->offers;
}

static bool is_file(const struct option_row *r)
{
	static const char *const args[] = {"FILE", "DIR", "SOCKET", "STEM"};

	if (r->kind == OPTION_PATH)
		return true;
	for (size_t i = 0; i < sizeof(args) / sizeof(args[0]); i++)
		if (r->kind == OPTION_TEXT && strcmp(r->arg, args[i]) == 0)
			return true;
	return false;
}

enum word { WORD_NONE, WORD_NEW, WORD_MIGRATION, WORD_COMMAND, WORD_FILE, WORD_CHOICE };

/* What stands after a command's name. choices: where it is WORD_CHOICE. */
static enum word word_of(enum command c, const char **choices)
{
	*choices = "";
	switch (c) {
	case COMMAND_MIGRATE:
	case COMMAND_RECEIVE:
	case COMMAND_KEYS:
		return WORD_NEW;
	case COMMAND_HELP:
		return WORD_COMMAND;
	case COMMAND_PLOT:
		return WORD_FILE;
	case COMMAND_LOG:
		*choices = "error|warning|info|debug";
		return WORD_CHOICE;
	case COMMAND_COMPLETION:
		*choices = "bash|zsh";
		return WORD_CHOICE;
	default:
		return *command_table[c].words != '\0' ? WORD_MIGRATION : WORD_NONE;
	}
}

static void bash_values(
	FILE *out, const char *before, const struct option_row *rows, unsigned where)
{
	for (const struct option_row *r = rows; r->name != NULL; r++) {
		if ((r->where & where) == 0 || r->kind == OPTION_SWITCH)
			continue;
		fprintf(out, "\t'%s--%s') ", before, r->name);
		if (choices_of(r) != NULL) {
			fputs("words='", out);
			put_choices(out, choices_of(r), "");
			fputs("' ;;\n", out);
		} else {
			fputs(is_file(r) ? "files=1 ;;\n" : "return ;;\n", out);
		}
	}
}

static void bash_flags(FILE *out, const struct option_row *rows, unsigned where)
{
	for (const struct option_row *r = rows; r->name != NULL; r++)
		if ((r->where & where) != 0)
			fprintf(out, " --%s", r->name);
}

static void bash_commands(FILE *out)
{
	for (unsigned c = 0; c < COMMANDS; c++)
		fprintf(out, "%s%s", c > 0 ? " " : "", command_table[c].name);
}

static void bash_after(FILE *out, enum command c)
{
	const char *choices;

	fprintf(out, "\t%s) flags='", command_table[c].name);
	bash_flags(out, option_godwit, 1u << c);
	fputs("'; ", out);
	switch (word_of(c, &choices)) {
	case WORD_MIGRATION:
		fputs("words=$(godwit list 2>/dev/null | awk 'NR > 1 { print $1 }') ;;\n", out);
		break;
	case WORD_COMMAND:
		fputs("words='", out);
		bash_commands(out);
		fputs("' ;;\n", out);
		break;
	case WORD_CHOICE:
		fputs("words='", out);
		put_choices(out, choices, "");
		fputs("' ;;\n", out);
		break;
	case WORD_FILE:
		fputs("files=1 ;;\n", out);
		break;
	default:
		fputs(";;\n", out);
	}
}

/* The words before the cursor are in cur and prev, also where "--name=value" was cut at the =. */
static void bash_begin(FILE *out, const char *function)
{
	fprintf(out,
		"%s() {\n"
		"\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words= "
		"flags= "
		"files=\n"
		"\tif [ \"$cur\" = = ]; then\n\t\tcur=\n"
		"\telif [ \"$prev\" = = ]; then\n\t\tprev=${COMP_WORDS[COMP_CWORD-2]}\n\tfi\n",
		function);
}

static void bash_end(FILE *out, const char *function, const char *program)
{
	fprintf(out,
		"\tcase \"$cur\" in\n\t-*) words=$flags files= ;;\n\tesac\n"
		"\tif [ -n \"$files\" ]; then\n"
		"\t\tcompopt -o filenames 2>/dev/null\n"
		"\t\tmapfile -t COMPREPLY < <(compgen -f -- \"$cur\")\n"
		"\telse\n"
		"\t\tmapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n"
		"\tfi\n}\n"
		"complete -F %s %s\n",
		function, program);
}

static void print_bash(FILE *out)
{
	fputs("# Completes godwit and godwitd in bash.\n", out);
	bash_begin(out, "_godwit");
	fputs("\tlocal command=${COMP_WORDS[1]}\n"
	      "\tif [ \"$COMP_CWORD\" = 1 ]; then\n\t\twords='",
		out);
	bash_commands(out);
	fputs("'\n\telse\n\tcase \"$command $prev\" in\n", out);
	for (unsigned c = 0; c < COMMANDS; c++) {
		char before[40];

		snprintf(before, sizeof(before), "%s ", command_table[c].name);
		bash_values(out, before, option_godwit, 1u << c);
	}
	fputs("\t*) case \"$command\" in\n", out);
	for (unsigned c = 0; c < COMMANDS; c++)
		bash_after(out, (enum command)c);
	fputs("\tesac ;;\n\tesac\n\tfi\n", out);
	bash_end(out, "_godwit", "godwit");
	bash_begin(out, "_godwitd");
	fputs("\tflags='", out);
	bash_flags(out, option_godwitd, OPTION_FLAG);
	fputs("'\n\tcase \"$prev\" in\n", out);
	bash_values(out, "", option_godwitd, OPTION_FLAG);
	fputs("\t*) words=$flags ;;\n\tesac\n", out);
	bash_end(out, "_godwitd", "godwitd");
}

static void zsh_options(FILE *out, const struct option_row *rows, unsigned where)
{
	for (const struct option_row *r = rows; r->name != NULL; r++) {
		if ((r->where & where) == 0)
			continue;
		fprintf(out, " \\\n\t\t'--%s%s[", r->name, r->kind == OPTION_SWITCH ? "" : "=");
		put_quoted(out, r->help, "[]:\\");
		fputc(']', out);
		if (choices_of(r) != NULL) {
			fprintf(out, ":%s:(", r->arg);
			put_choices(out, choices_of(r), ":");
			fputc(')', out);
		} else if (is_file(r)) {
			fprintf(out, ":%s:_files", r->arg);
		} else if (r->kind != OPTION_SWITCH) {
			fputs(":", out);
			put_quoted(out, r->arg, "[]:\\");
			fputs(": ", out);
		}
		fputc('\'', out);
	}
}

static void zsh_word(FILE *out, enum command c)
{
	const char *choices;

	switch (word_of(c, &choices)) {
	case WORD_NEW:
		fputs(" \\\n\t\t'1:name: '", out);
		break;
	case WORD_MIGRATION:
		fputs(" \\\n\t\t'1:migration:_godwit_migrations'", out);
		break;
	case WORD_COMMAND:
		fputs(" \\\n\t\t'1:command:_godwit_commands'", out);
		break;
	case WORD_FILE:
		fputs(" \\\n\t\t'1:record:_files'", out);
		break;
	case WORD_CHOICE:
		fputs(" \\\n\t\t'1:value:(", out);
		put_choices(out, choices, ":");
		fputs(")'", out);
		break;
	default:
		break;
	}
}

static void print_zsh(FILE *out)
{
	fputs("#compdef godwit godwitd\n# Completes godwit and godwitd in zsh.\n"
	      "_godwit_migrations() {\n"
	      "\tlocal -a names=(${(f)\"$(godwit list 2>/dev/null | awk 'NR > 1 { print $1 "
	      "}')\"})\n"
	      "\tcompadd -a names\n}\n"
	      "_godwit_commands() {\n\tlocal -a commands=(",
		out);
	for (unsigned c = 0; c < COMMANDS; c++) {
		fprintf(out, "\n\t\t'%s:", command_table[c].name);
		put_quoted(out, command_table[c].help, ":\\");
		fputc('\'', out);
	}
	fputs("\n\t)\n\t_describe command commands\n}\n"
	      "_godwit() {\n"
	      "\tif [[ $service = godwitd ]]; then\n\t\t_arguments",
		out);
	zsh_options(out, option_godwitd, OPTION_FLAG);
	fputs("\n\t\treturn\n\tfi\n"
	      "\tif (( CURRENT == 2 )); then\n\t\t_godwit_commands\n\t\treturn\n\tfi\n"
	      "\tshift words\n\t(( CURRENT-- ))\n\tcase $words[1] in\n",
		out);
	for (unsigned c = 0; c < COMMANDS; c++) {
		fprintf(out, "\t%s) _arguments", command_table[c].name);
		zsh_word(out, (enum command)c);
		zsh_options(out, option_godwit, 1u << c);
		fputs("\n\t\t;;\n", out);
	}
	fputs("\tesac\n}\n_godwit \"$@\"\n", out);
}

int completion_print(FILE *out, const char *shell)
{
	if (strcmp(shell, "bash") == 0)
		print_bash(out);
	else if (strcmp(shell, "zsh") == 0)
		print_zsh(out);
	else
		return -EINVAL;
	return 0;
}
