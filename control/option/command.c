// SPDX-License-Identifier: BSD-3-Clause
// The table of sub-commands and requests. Read-only; used by godwit and by godwitd's API.

#include "command.h"

#include <string.h>

const struct command_row command_table[COMMANDS] = {
#define X(id, name, words, help) [COMMAND_##id] = {name, words, help},
	COMMAND_LIST(X)
#undef X
};

enum command command_find(const char *name)
{
	enum command c = 0;

	while (c < COMMANDS && strcmp(command_table[c].name, name) != 0)
		c++;
	return c;
}
