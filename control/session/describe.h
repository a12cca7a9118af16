/* SPDX-License-Identifier: BSD-3-Clause */
/* A guest described for the other side, and compared with it: what preflight checks before anything
 * is touched. */
#ifndef GODWIT_CONTROL_DESCRIBE_H
#define GODWIT_CONTROL_DESCRIBE_H

#include <jansson.h>

#include "err.h"
#include "region.h"

/* Array of regions: name, bytes, page_bytes, views. New reference. */
json_t *describe_regions(const struct region_map *map);

/* 0 when the guest here has the same regions, in the same order, at the same guest addresses;
 * -EINVAL with the first difference named. Backing page sizes may differ. */
int describe_compare(const json_t *theirs, const struct region_map *here, struct err *e);

/* What a VMM's driver tells of it moreover, each side's or NULL: 0 when they fit, -EINVAL. */
int describe_compare_machine(const json_t *theirs, const json_t *here, struct err *e);

#endif
