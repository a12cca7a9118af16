// SPDX-License-Identifier: BSD-3-Clause
// The table of dirty sources. Constant; read by any thread.

#include "source.h"

#include <string.h>

const struct source_ops *const source_table[] = {
	&source_kvm_log,
	&source_kvm_ring,
	&source_pagemap_scan,
	&source_vhost_log,
	&source_vmm_writes,
	&source_fake,
	NULL,
};

const struct source_ops *source_find(const char *name)
{
	for (unsigned i = 0; source_table[i] != NULL; i++)
		if (strcmp(source_table[i]->name, name) == 0)
			return source_table[i];
	return NULL;
}
