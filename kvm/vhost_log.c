// SPDX-License-Identifier: BSD-3-Clause
// Dirty source "vhost-log": the log region of vhost (VHOST_SET_LOG_BASE) and vhost-user
// (VHOST_USER_SET_LOG_BASE), which their back ends write while VHOST_F_LOG_ALL is negotiated. Run
// by the agent's thread; back ends set bits at any time, from the kernel and from other processes.
//
// Bits are taken by exchanging whole words with 0, so one that is set meanwhile is either taken or
// stays; taken bits are kept in `pending` until they are armed (law 1). The region is sparse: only
// words that were ever touched are looked at. Addresses that no view shows are nobody's memory.

#include "vhost_log.h"

#include "marks.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

struct vhost_log {
	struct source source;
	const struct region_map *map;
	int fd;
	uint64_t *words; /* back ends: or; agent: exchange */
	uint64_t nwords;
	struct marks pending;
};

int vhost_log_area(const struct source *s, uint64_t *bytes, void **base)
{
	const struct vhost_log *l = (const struct vhost_log *)s;

	*bytes = l->nwords * sizeof(uint64_t);
	*base = l->words;
	return l->fd;
}

/* Back ends know address space 0 only. */
static bool shown(const struct view *v)
{
	return v->as_id == 0;
}

static uint64_t gpa_end(const struct region_map *map)
{
	uint64_t end = 0;

	for (unsigned i = 0; i < map->n; i++)
		for (unsigned j = 0; j < map->r[i].nviews; j++) {
			const struct view *v = &map->r[i].views[j];

			if (shown(v) && v->gpa + v->bytes > end)
				end = v->gpa + v->bytes;
		}
	return end;
}

static void vhost_log_close(struct source *s)
{
	struct vhost_log *l = (struct vhost_log *)s;

	if (l == NULL)
		return;
	if (l->words != NULL)
		munmap(l->words, l->nwords * sizeof(uint64_t));
	close_fd(&l->fd);
	marks_fini(&l->pending);
	free(l);
}

static int make_area(struct vhost_log *l, struct err *e)
{
	size_t bytes;
	void *p;

	l->nwords = (gpa_end(l->map) / VHOST_LOG_PAGE + 63) / 64;
	if (l->nwords == 0)
		return err_set(e, EINVAL, "no memory of the guest has an address");
	bytes = l->nwords * sizeof(uint64_t);
	/* Sealed: a back end that cuts it off would kill this process. */
	l->fd = memfd_create("godwit-vhost-log", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (l->fd < 0 || ftruncate(l->fd, (off_t)bytes) < 0 ||
		fcntl(l->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return err_sys(e, errno, "cannot make the log for vhost");
	p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, l->fd, 0);
	if (p == MAP_FAILED)
		return err_sys(e, errno, "cannot map the log for vhost");
	l->words = p;
	return 0;
}

static int vhost_log_open(struct source **s, const struct source_config *c, struct err *e)
{
	struct vhost_log *l = calloc(1, sizeof(*l));
	int rc;

	if (l == NULL)
		return err_set(e, ENOMEM, "out of memory");
	l->source.ops = &source_vhost_log;
	l->map = c->map;
	l->fd = -1;
	rc = make_area(l, e);
	if (rc == 0 && marks_init(&l->pending, c->map->nchunks) < 0)
		rc = err_set(e, ENOMEM, "out of memory for the pending set");
	if (rc < 0) {
		vhost_log_close(&l->source);
		return rc;
	}
	*s = &l->source;
	return 0;
}

static void vhost_log_info(const struct source *s, struct source_info *info)
{
	(void)s;
	info->granule_bytes = VHOST_LOG_PAGE;
	info->writers = SOURCE_SEES_VHOST;
	info->starts_all_dirty = false;
	info->mode = "log region";
}

static int vhost_log_start(struct source *s, struct err *e)
{
	(void)s;
	(void)e;
	return 0; /* what is in the log from before is reported once more */
}

/* Marks what the views show of guest pages [64 * word, + 64) whose bits are set. */
static void mark_word(struct vhost_log *l, uint64_t word, uint64_t bits)
{
	for (unsigned i = 0; i < l->map->n; i++) {
		const struct region *r = &l->map->r[i];

		for (unsigned j = 0; j < r->nviews; j++) {
			const struct view *v = &r->views[j];
			uint64_t gpn = v->gpa >> PAGE_SHIFT, n = v->bytes >> PAGE_SHIFT;

			if (!shown(v) || gpn >= (word + 1) * 64 || gpn + n <= word * 64)
				continue;
			for (uint64_t left = bits; left != 0; left &= left - 1) {
				uint64_t at = word * 64 + (unsigned)__builtin_ctzll(left) - gpn;

				if (at < n) /* wraps below the view's start */
					marks_range(&l->pending,
						r->first_chunk * CHUNK_PAGES +
							(v->offset_bytes >> PAGE_SHIFT) + at,
						1);
			}
		}
	}
}

static void take_words(struct vhost_log *l, uint64_t first, uint64_t end)
{
	for (uint64_t w = first; w < end && w < l->nwords; w++) {
		if (__atomic_load_n(&l->words[w], __ATOMIC_RELAXED) == 0)
			continue;
		/* acquire: pairs with the back end's OR after its bytes; seq_cst, as its bytes must
		 * not be read before this. Byte 0 holds the first 8 pages: little-endian. */
		mark_word(l, w, le64toh(__atomic_exchange_n(&l->words[w], 0, __ATOMIC_SEQ_CST)));
	}
}

static void take_all(struct vhost_log *l)
{
	off_t end = (off_t)(l->nwords * sizeof(uint64_t)), at = 0;

	while (at < end) {
		off_t data = lseek(l->fd, at, SEEK_DATA), hole;

		if (data < 0)
			return;
		hole = lseek(l->fd, data, SEEK_HOLE);
		if (hole < 0)
			hole = end;
		take_words(l, (uint64_t)data / 8, ((uint64_t)hole + 7) / 8);
		at = hole;
	}
}

static int64_t vhost_log_look(struct source *s, uint64_t *out, bool last, struct err *e)
{
	struct vhost_log *l = (struct vhost_log *)s;

	(void)last;
	(void)e;
	take_all(l);
	return marks_show(&l->pending, out);
}

static int64_t vhost_log_arm(struct source *s, uint64_t first, uint64_t n, const uint64_t *want,
	uint64_t *out, struct err *e)
{
	(void)out;
	(void)e;
	marks_clear_words(&((struct vhost_log *)s)->pending, first, n, want);
	return 0;
}

static void vhost_log_put_back(struct source *s, uint64_t first, uint64_t n, const uint64_t *words)
{
	struct vhost_log *l = (struct vhost_log *)s;

	for (uint64_t c = 0; c < n; c++)
		marks_or(&l->pending, first + c, words[c]);
}

static int vhost_log_stop(struct source *s, struct err *e)
{
	struct vhost_log *l = (struct vhost_log *)s;

	(void)e;
	take_all(l);
	marks_drop(&l->pending);
	return 0;
}

const struct source_ops source_vhost_log = {
	.name = "vhost-log",
	.open = vhost_log_open,
	.info = vhost_log_info,
	.start = vhost_log_start,
	.look = vhost_log_look,
	.arm = vhost_log_arm,
	.put_back = vhost_log_put_back,
	.stop = vhost_log_stop,
	.close = vhost_log_close,
};
