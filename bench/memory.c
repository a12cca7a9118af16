// SPDX-License-Identifier: BSD-3-Clause
// The memory that stages work on: files as a VMM has them, mapped and populated before any clock
// runs, because populating a page costs more than moving it.

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image_from.h"
#include "memory.h"

static int map_populated(struct region_map *map, uint64_t bytes, bool huge)
{
	int fd = memfd_create("godwit-bench", MFD_CLOEXEC | (huge ? MFD_HUGETLB : 0));
	struct err e;
	int rc;

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)bytes) != 0) {
		close(fd);
		return -errno;
	}
	region_map_init(map);
	rc = region_add(map, "ram", fd, bytes, huge ? 2u << 20 : 4096, &e);
	if (rc >= 0)
		rc = region_mmap(&map->r[0], true, &e);
	else
		close(fd);
	if (rc >= 0 && madvise(map->r[0].base, bytes, MADV_POPULATE_WRITE) != 0)
		rc = -errno;
	if (rc < 0)
		region_map_close(map);
	return rc < 0 ? rc : 0;
}

static int fill(const struct bench *b, uint8_t *dst, uint64_t pages)
{
	if (b->from != NULL)
		return image_from_file(b->from, dst, pages * PAGE_BYTES);
	if (b->pid != 0)
		return image_from_process(b->pid, dst, pages * PAGE_BYTES);
	image_fill(&b->content, 0, pages, dst);
	return 0;
}

const char *bench_content(const struct bench *b)
{
	return b->from != NULL ? "file" : b->pid != 0 ? "process" : image_name(b->content.content);
}

int bench_image(struct bench *b, uint64_t bytes, bool huge)
{
	int rc = map_populated(&b->map, bytes, huge);

	if (rc != 0)
		return rc;
	b->pages = bytes / PAGE_BYTES;
	b->image = b->map.r[0].base;
	b->huge = huge;
	return bench_fill(b);
}

int bench_fill(struct bench *b)
{
	return fill(b, b->image, b->pages);
}

int bench_target(struct bench *b)
{
	int rc;

	if (b->target != NULL)
		return 0;
	rc = map_populated(&b->target_map, b->pages * PAGE_BYTES, b->huge);
	if (rc == 0)
		b->target = b->target_map.r[0].base;
	return rc;
}

int bench_file(const struct bench *b, const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	struct stat st;
	void *base;
	int rc = 0;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) != 0 || st.st_size < (off_t)PAGE_BYTES) {
		close(fd);
		return -EINVAL;
	}
	base = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (base == MAP_FAILED)
		rc = -errno;
	else
		rc = fill(b, base, (uint64_t)st.st_size / PAGE_BYTES);
	if (base != MAP_FAILED)
		munmap(base, (size_t)st.st_size);
	close(fd);
	return rc;
}

void bench_free(struct bench *b)
{
	region_map_close(&b->map);
	region_map_close(&b->target_map);
}
