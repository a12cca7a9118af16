// SPDX-License-Identifier: BSD-3-Clause
// The status device. Run by the agent's thread, with the guest paused.
// Invariant: each page is told after its last byte was written.

#include "device.h"

#include <errno.h>

#define WORDS (GUEST_PAGE / sizeof(uint64_t))

static const uint64_t pages[LAYOUT_FILES] = {
	[LAYOUT_RAM] = GUEST_STATUS, // low RAM: offset and address are the same
	[LAYOUT_BIOS] = LAYOUT_BIOS_LAST * GUEST_PAGE,
};

static uint64_t word(uint64_t value, uint64_t k)
{
	return (value + k) * UINT64_C(0x9e3779b97f4a7c15);
}

static uint64_t *page_of(const struct vm *vm, unsigned file)
{
	return (uint64_t *)(void *)(vm->mem.base[file] + pages[file]);
}

uint64_t device_save(struct vm *vm)
{
	uint64_t value = ++vm->status_value;

	for (unsigned f = 0; f < LAYOUT_FILES; f++) {
		for (uint64_t k = 0; k < WORDS; k++)
			page_of(vm, f)[k] = word(value, k);
		if (vm->wrote != NULL)
			vm->wrote(vm->wrote_arg, f, pages[f], GUEST_PAGE);
	}
	return value;
}

int device_load(struct vm *vm, uint64_t value, struct err *e)
{
	for (unsigned f = 0; f < LAYOUT_FILES; f++)
		for (uint64_t k = 0; k < WORDS; k++)
			if (page_of(vm, f)[k] != word(value, k))
				return err_set(e, EPROTO,
					"what the status device wrote into memory file %u while "
					"its "
					"state was saved did not come: the late delta was lost",
					f);
	vm->status_value = value;
	return 0;
}
