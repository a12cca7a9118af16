// SPDX-License-Identifier: BSD-3-Clause
// Reads what QEMU's human monitor prints, as far as no QMP command tells the same. Pure: text in,
// values out; a line that is not as expected is passed over.

#include "qemu.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "  0000000000100000-000000000fffffff (prio 0, ram): ram0 @0000000000100000 KVM" */
bool qemu_view_of(const char *mtree, const char *name, uint64_t *gpa, uint64_t *offset)
{
	static const char mark[] = ", ram): ";
	size_t len = strlen(name);

	for (const char *at = strstr(mtree, mark); at != NULL; at = strstr(at + 1, mark)) {
		const char *line = at, *word = at + sizeof(mark) - 1;
		uint64_t first, last;

		while (line > mtree && line[-1] != '\n')
			line--;
		if (strncmp(word, name, len) != 0 || strchr(" \r\n", word[len]) == NULL ||
			sscanf(line, " %" SCNx64 "-%" SCNx64 " (", &first, &last) != 2)
			continue;
		*gpa = first;
		*offset = 0;
		if (strncmp(word + len, " @", 2) == 0)
			*offset = strtoull(word + len + 2, NULL, 16);
		return true;
	}
	return false;
}

/* "Host virtual address for 0x100000 (ram0) is 0x7fd4a80ff000" */
uint64_t qemu_host_address(const char *text)
{
	static const char mark[] = ") is 0x";
	const char *at = strstr(text, mark);

	return at != NULL ? strtoull(at + sizeof(mark) - 1, NULL, 16) : 0;
}

/* "CR0=80050033 CR2=... CR4=003506f0", "EFER=0000000000000d01" */
bool qemu_register_has(const char *text, const char *name, uint64_t bits)
{
	size_t len = strlen(name);

	for (const char *at = strstr(text, name); at != NULL; at = strstr(at + 1, name))
		if (at[len] == '=' && (strtoull(at + len + 1, NULL, 16) & bits) != 0)
			return true;
	return false;
}
