// SPDX-License-Identifier: BSD-3-Clause
// Names of hosts and lists of them. Pure; run by the control loop and by godwit keys.

#include "identity.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

#define SEPARATORS ", \t"

/* The bytes of an address; how many, 0 for none. */
static unsigned address_of(const char *text, unsigned char out[16])
{
	if (inet_pton(AF_INET, text, out) == 1)
		return 4;
	return inet_pton(AF_INET6, text, out) == 1 ? 16 : 0;
}

bool identity_is_address(const char *name)
{
	unsigned char address[16];

	return address_of(name, address) > 0;
}

bool identity_is_name(const char *name, bool pattern)
{
	if (identity_is_address(name))
		return true;
	if (pattern && strncmp(name, "*.", 2) == 0)
		name += 2;
	if (*name == '\0' || *name == '.' || *name == '-' || strlen(name) >= IDENTITY_BYTES)
		return false;
	for (const char *c = name; *c != '\0'; c++)
		if (!isalnum((unsigned char)*c) && strchr("-._", *c) == NULL)
			return false;
	return strstr(name, "..") == NULL;
}

bool identity_matches(const char *pattern, const char *name)
{
	unsigned char a[16], b[16];
	unsigned na = address_of(pattern, a), nb = address_of(name, b);
	const char *dot;

	if (na > 0 || nb > 0)
		return na == nb && memcmp(a, b, na) == 0;
	if (strncmp(pattern, "*.", 2) != 0)
		return strcasecmp(pattern, name) == 0;
	dot = strchr(name, '.');
	return dot != NULL && dot != name && strcasecmp(pattern + 1, dot) == 0;
}

/* The next entry of a list, copied; false at its end. */
static bool next(const char **list, char entry[IDENTITY_BYTES])
{
	size_t len;

	*list += strspn(*list, SEPARATORS);
	len = strcspn(*list, SEPARATORS);
	if (len == 0)
		return false;
	if (len >= IDENTITY_BYTES)
		len = IDENTITY_BYTES - 1;
	memcpy(entry, *list, len);
	entry[len] = '\0';
	*list += len;
	return true;
}

int identity_check_list(const char *list, struct err *e)
{
	char entry[IDENTITY_BYTES];
	const char *at = list;
	unsigned n = 0;

	for (; next(&at, entry); n++)
		if (!identity_is_name(entry, true))
			return err_set(e, EINVAL,
				"'%.60s' is no name of a host: write host.example, *.example or an "
				"address",
				entry);
	if (n == 0)
		return err_set(e, EINVAL, "the list names nobody");
	return 0;
}

bool identity_listed(const char *list, const char *name)
{
	char entry[IDENTITY_BYTES];

	while (next(&list, entry))
		if (identity_matches(entry, name))
			return true;
	return false;
}
