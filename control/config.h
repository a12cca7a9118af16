/* SPDX-License-Identifier: BSD-3-Clause */
/* The configuration file: lines "key = value", comments from '#' on; keys as option.h has them.
 * A line "[port NAME]" begins the keys of a port. */
#ifndef GODWIT_CONTROL_CONFIG_H
#define GODWIT_CONTROL_CONFIG_H

#include <stddef.h>

#include "option.h"
#include "ports.h"

/* Gives the file's options to set, and those of its [port NAME] sections to ports, which adds them.
 * -ENOENT: there is no such file; -EINVAL: e says FILE:LINE: what is wrong and what is allowed. */
int config_read(struct option_set *set, struct ports *ports, const char *path, struct err *e);
/* The same for a text in memory; path is for messages. */
int config_parse(struct option_set *set, struct ports *ports, const char *path, const char *text,
	size_t bytes, struct err *e);

#endif
