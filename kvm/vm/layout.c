// SPDX-License-Identifier: BSD-3-Clause
// Where the guest's memory lies. Run by the main thread at the start; pure.
// Invariants: RAM is always in two slots with a hole between them; the alias covers worked pages
// of the low slot and is aligned to no chunk, so that the rules for odd slots are exercised.

#include "layout.h"

#include <errno.h>
#include <string.h>

#define MIB            (UINT64_C(1) << 20)
#define GIB            (UINT64_C(1) << 30)
#define LOW_MAX        (3 * GIB)
#define ALIAS_MAX      (256 * MIB)
#define MEMORY_MIN     (8 * MIB)
#define MEMORY_MAX     (1024 * GIB)
#define NOMINAL_MAX    (32 * 1024 * GIB)
#define BIG_PAGE       (2 * MIB)
#define PAGES_OF(b)    ((b) / GUEST_PAGE)
#define ROUND_UP(a, b) (((a) + (b)-1) / (b) * (b))

// Page tables: one top, a directory pointer page each 512 GiB, a directory each GiB.
static uint64_t paging_pages(uint64_t high_bytes)
{
	uint64_t gibs = ROUND_UP(GUEST_HIGH + high_bytes, GIB) / GIB;

	return 1 + ROUND_UP(gibs, 512) / 512 + gibs;
}

static void alias_slot(struct layout *l)
{
	uint64_t at = (l->work_offset + l->low_bytes) / 2 / (256 * 1024) * (256 * 1024);
	uint64_t pages;

	at += 5 * GUEST_PAGE;
	pages = PAGES_OF((l->low_bytes - at) / 2);
	if (pages > PAGES_OF(ALIAS_MAX))
		pages = PAGES_OF(ALIAS_MAX);
	if (pages % 2 == 0)
		pages--;
	l->slots[3] = (struct slot){LAYOUT_RAM, GUEST_ALIAS, at, pages * GUEST_PAGE};
}

int layout_make(struct layout *l, uint64_t memory, uint64_t nominal, unsigned nvcpus, struct err *e)
{
	memset(l, 0, sizeof(*l));
	if (memory < MEMORY_MIN || memory > MEMORY_MAX || memory % BIG_PAGE != 0)
		return err_set(e, EINVAL,
			"--memory must be a multiple of 2M from 8M to 1T; got %llu bytes",
			(unsigned long long)memory);
	if (nominal < memory || nominal > NOMINAL_MAX || nominal % BIG_PAGE != 0)
		return err_set(e, EINVAL,
			"--nominal must be a multiple of 2M from --memory to 32T; got %llu bytes",
			(unsigned long long)nominal);
	if (nvcpus < 1 || nvcpus > GUEST_VCPUS)
		return err_set(e, EINVAL, "--vcpus must be 1 to %u; got %u", GUEST_VCPUS, nvcpus);

	l->nvcpus = nvcpus;
	l->file_bytes[LAYOUT_RAM] = nominal;
	l->file_bytes[LAYOUT_BIOS] = LAYOUT_BIOS_BYTES;
	l->used_bytes = memory;
	l->low_bytes = memory / 2 / BIG_PAGE * BIG_PAGE;
	if (l->low_bytes > LOW_MAX)
		l->low_bytes = LOW_MAX;
	l->paging_pages = paging_pages(memory - l->low_bytes);
	l->table_gpa = GUEST_PAGING + l->paging_pages * GUEST_PAGE;
	l->table_bytes = ROUND_UP((PAGES_OF(memory) + PAGES_OF(LAYOUT_BIOS_BYTES)) * 4, GUEST_PAGE);
	l->work_offset = l->table_gpa + l->table_bytes;
	l->slots[0] = (struct slot){LAYOUT_RAM, 0, 0, l->low_bytes};
	l->slots[1] = (struct slot){LAYOUT_RAM, GUEST_HIGH, l->low_bytes, nominal - l->low_bytes};
	l->slots[2] = (struct slot){LAYOUT_BIOS, GUEST_BIOS, 0, LAYOUT_BIOS_BYTES};
	alias_slot(l);
	return 0;
}

void layout_params(const struct layout *l, struct params *p)
{
	const struct slot *alias = &l->slots[3];

	p->magic = GUEST_MAGIC;
	p->nvcpus = l->nvcpus;
	p->n_low = PAGES_OF(l->low_bytes - l->work_offset);
	p->n_ram = PAGES_OF(l->used_bytes - l->work_offset);
	p->n_total = p->n_ram + LAYOUT_BIOS_LAST - LAYOUT_BIOS_FIRST;
	p->low_delta = l->work_offset;
	p->high_delta = GUEST_HIGH - p->n_low * GUEST_PAGE;
	p->bios_delta = GUEST_BIOS + LAYOUT_BIOS_FIRST * GUEST_PAGE - p->n_ram * GUEST_PAGE;
	p->alias_first = PAGES_OF(alias->offset - l->work_offset);
	p->alias_n = PAGES_OF(alias->bytes);
	p->alias_delta = GUEST_ALIAS - p->alias_first * GUEST_PAGE;
	p->table_gpa = l->table_gpa;
}

int layout_find(const struct layout *l, uint64_t gpa, unsigned *file, uint64_t *offset)
{
	for (unsigned i = 0; i < LAYOUT_SLOTS; i++) {
		const struct slot *s = &l->slots[i];

		if (gpa - s->gpa < s->bytes) {
			*file = s->file;
			*offset = gpa - s->gpa + s->offset;
			return 0;
		}
	}
	return -EFAULT;
}
