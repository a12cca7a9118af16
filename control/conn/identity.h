/* SPDX-License-Identifier: BSD-3-Clause */
/* Who another daemon is: the names in its certificate (DNS names and addresses, as text), and the
 * list of names that may take part. Pure. */
#ifndef GODWIT_CONTROL_IDENTITY_H
#define GODWIT_CONTROL_IDENTITY_H

#include <stdbool.h>

#include "err.h"

#define IDENTITY_BYTES 256u /* of a name, with the NUL */

/* A DNS name of letters, digits, '-', '.', '_', or an address; "*." in front where pattern. */
bool identity_is_name(const char *name, bool pattern);

bool identity_is_address(const char *name);

/* Is name what pattern says? Letters' case does not matter; "*.example" stands for one more label,
 * never for an address. Addresses are compared as such: "::1" is "0:0:0:0:0:0:0:1". */
bool identity_matches(const char *pattern, const char *name);

/* A list of patterns, by commas or spaces. */
int identity_check_list(const char *list, struct err *e); /* 0 or -EINVAL */
bool identity_listed(const char *list, const char *name);

#endif
