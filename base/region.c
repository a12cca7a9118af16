// SPDX-License-Identifier: BSD-3-Clause
// Regions and views. Built by control threads before a session starts; read-only for polling cores
// afterwards.

#include "region.h"

#include "bits.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

void region_map_init(struct region_map *m)
{
	memset(m, 0, sizeof(*m));
}

int region_add(struct region_map *m, const char *name, int fd, uint64_t bytes, uint32_t page_bytes,
	struct err *e)
{
	struct region *r;
	size_t len = strnlen(name, REGION_NAME);

	if (len == 0 || len == REGION_NAME)
		return err_set(
			e, EINVAL, "region name must have 1 to %u characters", REGION_NAME - 1);
	if (bytes == 0 || bytes % PAGE_BYTES != 0 || bytes > REGION_BYTES_MAX)
		return err_set(e, EINVAL,
			"region %s: size %llu is not a multiple of 4096 up to 64 TiB", name,
			(unsigned long long)bytes);
	if (page_bytes != 4096 && page_bytes != 2u << 20 && page_bytes != 1u << 30)
		return err_set(
			e, EINVAL, "region %s: unknown backing page of %u bytes", name, page_bytes);
	if (bytes % page_bytes != 0)
		return err_set(e, EINVAL,
			"region %s: size %llu is no multiple of its backing pages of %u bytes; "
			"give "
			"the guest a size that is",
			name, (unsigned long long)bytes, page_bytes);
	if (m->n == REGION_MAX || m->bytes + bytes > REGION_TOTAL_MAX)
		return err_set(e, ENOSPC, "region %s: more than %u regions or 64 TiB in one guest",
			name, REGION_MAX);
	for (unsigned i = 0; i < m->n; i++)
		if (strcmp(m->r[i].name, name) == 0)
			return err_set(e, EEXIST, "two regions have the name %s", name);

	r = &m->r[m->n];
	memset(r, 0, sizeof(*r));
	memcpy(r->name, name, len);
	r->fd = fd;
	r->bytes = bytes;
	r->page_bytes = page_bytes;
	r->node = -1;
	r->first_chunk = m->nchunks;
	r->nchunks = (bytes + CHUNK_BYTES - 1) / CHUNK_BYTES;
	m->nchunks += r->nchunks;
	m->bytes += bytes;
	return (int)m->n++;
}

int region_add_view(struct region *r, const struct view *v, struct err *e)
{
	if (v->bytes == 0 || (v->gpa | v->offset_bytes | v->bytes) % PAGE_BYTES != 0)
		return err_set(
			e, EINVAL, "region %s: a view is empty or not page-aligned", r->name);
	if (v->offset_bytes > r->bytes || v->bytes > r->bytes - v->offset_bytes)
		return err_set(e, EINVAL, "region %s: a view reaches past its end", r->name);
	if (v->gpa + v->bytes < v->gpa)
		return err_set(e, EINVAL, "region %s: a view wraps the address space", r->name);
	if (r->nviews == REGION_VIEWS)
		return err_set(e, ENOSPC, "region %s: more than %u views", r->name, REGION_VIEWS);
	r->views[r->nviews++] = *v;
	return 0;
}

struct region *region_of_chunk(struct region_map *m, uint64_t chunk)
{
	for (unsigned i = 0; i < m->n; i++)
		if (chunk - m->r[i].first_chunk < m->r[i].nchunks)
			return &m->r[i];
	return NULL;
}

uint64_t region_chunk_mask(const struct region *r, uint64_t chunk_in_region)
{
	uint64_t pages = (r->bytes >> PAGE_SHIFT) - chunk_in_region * CHUNK_PAGES;

	return bits_low(pages < CHUNK_PAGES ? (unsigned)pages : CHUNK_PAGES);
}

int region_mmap(struct region *r, bool writable, struct err *e)
{
	void *p = mmap(NULL, r->bytes, PROT_READ | (writable ? PROT_WRITE : 0),
		MAP_SHARED | MAP_NORESERVE, r->fd, 0);

	if (p == MAP_FAILED)
		return err_sys(e, errno, "cannot map %llu bytes of region %s",
			(unsigned long long)r->bytes, r->name);
	r->base = p;
	return 0;
}

void region_map_close(struct region_map *m)
{
	for (unsigned i = 0; i < m->n; i++) {
		if (m->r[i].base != NULL)
			munmap(m->r[i].base, m->r[i].bytes);
		close_fd(&m->r[i].fd);
	}
	region_map_init(m);
}
