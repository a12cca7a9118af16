// SPDX-License-Identifier: BSD-3-Clause
// Maps guest memory for a device, window by window, and takes that back. Made, asked and ended by
// control threads; a thread of its own does the rest, as mapping pins, which takes long.
//
// Invariants: only a window whose memory is all there is mapped, because mapping a hole allocates
// it. No window is unmapped while the device holds a piece of it: it is withdrawn, then its pieces
// are waited for, but for those that are lost: they stay mapped. The memory is registered from
// before the first window until after the last one, at addresses of its own, so that nobody unmaps
// it under the device.
//
// Those addresses are mapped for writing, as DPDK's drivers map memory for both directions; nothing
// here writes. DPDK has room for few registrations (RTE_MAX_MEMSEG_LISTS), so a region is one.

#define ALLOW_EXPERIMENTAL_API // rte_dev_dma_map() is, in DPDK 22.11

#include "extmem_window.h"

#include "port_impl.h"

#include "extmem_window_impl.h"
#include "locked.h"
#include "mem.h"

#include <errno.h>
#include <fcntl.h>
#include <rte_dev.h>
#include <rte_errno.h>
#include <rte_memory.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define NAP_NS 100000

enum extmem_full { EXTMEM_EMPTY, EXTMEM_PART, EXTMEM_WHOLE };

struct extmem_run {
	uint64_t offset, bytes;
};

static size_t lane_bytes(const struct extmem_window *w)
{
	return w->nwindows * sizeof(struct rte_mbuf_ext_shared_info);
}

// Is never called: each count holds one reference of its own.
static void never(void *addr, void *arg)
{
	(void)addr;
	(void)arg;
}

static void say_why(struct extmem_window *w, const struct err *why)
{
	if (atomic_load_explicit(&w->has_why, memory_order_relaxed))
		return;
	w->why = *why;
	// Release: pairs with the acquire in extmem_window_info().
	atomic_store_explicit(&w->has_why, true, memory_order_release);
}

static int first_run(void *arg, uint64_t offset, uint64_t bytes)
{
	struct extmem_run *r = arg;

	*r = (struct extmem_run){offset, bytes};
	return 1;
}

// How full is [off, off + len)? Huge pages don't tell where their holes are, only how many.
static enum extmem_full how_full(
	const struct extmem_window *w, const struct extmem_area *a, uint64_t off, uint64_t len)
{
	struct extmem_run r = {0};
	struct stat st;
	int rc;

	if (fstat(a->fd, &st) != 0 || (uint64_t)st.st_size < off + len)
		return EXTMEM_PART;
	if (st.st_blocks == 0)
		return EXTMEM_EMPTY;
	if ((uint64_t)st.st_blocks * 512 >= (uint64_t)st.st_size)
		return EXTMEM_WHOLE;
	if (a->page_bytes != PAGE_BYTES)
		return EXTMEM_PART;
	rc = w->walk(a->fd, off, len, first_run, &r);
	if (rc == 0)
		return EXTMEM_EMPTY;
	return rc == 1 && r.offset <= off && r.offset + r.bytes >= off + len ? EXTMEM_WHOLE
									     : EXTMEM_PART;
}

static int register_area(struct extmem_area *a)
{
	if (a->registered)
		return 0;
	if (rte_extmem_register(a->base, a->bytes, NULL, 0, EXTMEM_ALIGN_BYTES) != 0)
		return -rte_errno;
	a->registered = true;
	return 0;
}

static int map_window(
	struct extmem_window *w, struct extmem_area *a, uint64_t off, uint64_t len, struct err *e)
{
	int rc;

	if (len > w->left_bytes)
		return err_set(e, ENOMEM,
			"this godwitd may lock %llu MiB more (RLIMIT_MEMLOCK): raise LimitMEMLOCK= "
			"of the service",
			(unsigned long long)w->left_bytes >> 20);
	rc = register_area(a);
	if (rc < 0)
		return err_sys(e, -rc, "DPDK can't register %llu MiB of guest memory",
			(unsigned long long)a->bytes >> 20);
	if (rte_dev_dma_map(
		    w->port->device, a->base + off, (uint64_t)(uintptr_t)(a->base + off), len) == 0)
		return 0;
	rc = rte_errno != 0 ? rte_errno : EIO;
	if (rc == ENOTSUP)
		return err_set(e, rc, "the device's driver maps no memory for DMA");
	return err_sys(e, rc, "the device can't map guest memory for DMA");
}

static void add(_Atomic uint64_t *v, uint64_t n)
{
	atomic_store_explicit(
		v, atomic_load_explicit(v, memory_order_relaxed) + n, memory_order_relaxed);
}

static void begin_window(
	struct extmem_window *w, struct extmem_area *a, uint64_t n, uint64_t off, uint64_t len)
{
	struct err e;

	if (map_window(w, a, off, len, &e) < 0) {
		say_why(w, &e);
		add(&w->refused_bytes, len);
		atomic_store_explicit(&w->state[n], EXTMEM_REFUSED, memory_order_relaxed);
		return;
	}
	w->left_bytes -= w->left_bytes == UINT64_MAX ? 0 : len;
	add(&w->mapped_bytes, len);
	// Release: who sees it mapped may give it to the device.
	atomic_store_explicit(&w->state[n], EXTMEM_MAPPED, memory_order_release);
}

static bool is_back(const struct extmem_window *w, uint64_t n)
{
	for (unsigned i = 0; i < w->lanes; i++)
		if (rte_mbuf_ext_refcnt_read(&w->count[i][n]) != 1)
			return false;
	return true;
}

// A window stays mapped for the device for good.
static void remains(struct extmem_window *w, uint64_t n, const struct err *why)
{
	w->stuck = true;
	say_why(w, why);
	atomic_store_explicit(&w->state[n], EXTMEM_REFUSED, memory_order_relaxed);
}

static void end_window(
	struct extmem_window *w, struct extmem_area *a, uint64_t n, uint64_t off, uint64_t len)
{
	static const struct timespec nap = {.tv_nsec = NAP_NS};
	struct err e;

	atomic_store_explicit(&w->state[n], EXTMEM_COPIED, memory_order_seq_cst);
	atomic_thread_fence(memory_order_seq_cst); // pairs with extmem_window_take()
	while (!is_back(w, n)) {
		if (atomic_load_explicit(&w->lost, memory_order_relaxed)) {
			err_set(&e, EFAULT,
				"guest memory went away while the device's driver read it");
			remains(w, n, &e);
			return;
		}
		clock_nanosleep(CLOCK_MONOTONIC, 0, &nap, NULL);
	}
	if (rte_dev_dma_unmap(w->port->device, a->base + off, (uint64_t)(uintptr_t)(a->base + off),
		    len) != 0) {
		err_sys(&e, rte_errno, "the device does not let go of guest memory");
		remains(w, n, &e);
		return;
	}
	w->left_bytes += w->left_bytes == UINT64_MAX ? 0 : len;
	add(&w->mapped_bytes, -len);
}

// One look at a window, or the last. Returns its bytes where holes are among its memory.
static uint64_t look(struct extmem_window *w, struct extmem_area *a, uint64_t n, bool ending)
{
	uint64_t off = (n - a->first) * w->window_bytes, left = a->bytes - off;
	uint64_t len = left < w->window_bytes ? left : w->window_bytes;
	uint8_t state = atomic_load_explicit(&w->state[n], memory_order_relaxed);
	enum extmem_full full = EXTMEM_EMPTY;

	if (state == EXTMEM_REFUSED)
		return 0;
	if (!ending)
		full = how_full(w, a, off, len);
	if (state == EXTMEM_COPIED && full == EXTMEM_WHOLE)
		begin_window(w, a, n, off, len);
	if (state == EXTMEM_MAPPED && full != EXTMEM_WHOLE) {
		if (!ending)
			atomic_fetch_add_explicit(&w->discarded, 1, memory_order_relaxed);
		end_window(w, a, n, off, len);
	}
	return full == EXTMEM_PART ? len : 0;
}

// One walk over all windows. ending: none is to be mapped any more.
static void walk(struct extmem_window *w, bool ending)
{
	uint64_t holed_bytes = 0;

	for (unsigned i = 0; i < w->nareas; i++) {
		struct extmem_area *a = &w->area[i];
		uint64_t end = a->first + (a->bytes + w->window_bytes - 1) / w->window_bytes;

		for (uint64_t n = a->first; n < end; n++) {
			if (!ending && atomic_load_explicit(&w->ending, memory_order_relaxed))
				return;
			holed_bytes += look(w, a, n, ending);
		}
	}
	if (!ending)
		atomic_store_explicit(&w->holed_bytes, holed_bytes, memory_order_relaxed);
}

static void area_free(struct extmem_window *w, struct extmem_area *a)
{
	// What the device may still read stays where it is.
	if (!w->stuck && a->registered && rte_extmem_unregister(a->base, a->bytes) != 0)
		w->stuck = true;
	if (!w->stuck && a->base != NULL)
		munmap(a->base, a->bytes);
	close_fd(&a->fd);
}

static void drop(struct extmem_window *w)
{
	for (unsigned i = 0; i < w->nareas; i++)
		area_free(w, &w->area[i]);
	// Packets that are lost may be freed after all, and count then.
	for (unsigned i = 0; !w->stuck && w->count != NULL && i < w->lanes; i++)
		mem_free(w->count[i], lane_bytes(w));
	free(w->count);
	free((void *)w->state);
	sem_destroy(&w->turn);
	free(w);
}

static void *work(void *arg)
{
	struct extmem_window *w = arg;
	_Atomic unsigned *users = &w->port->windows, *waiting = &w->port->ending;
	bool ending = false;

	while (!ending) {
		while (sem_wait(&w->turn) != 0) // debuggers interrupt
			;
		// What is asked for from now on may be about what this look has passed.
		atomic_exchange_explicit(&w->asked, false, memory_order_acq_rel);
		ending = atomic_load_explicit(&w->ending, memory_order_acquire);
		walk(w, ending);
		atomic_fetch_add_explicit(&w->looks, 1, memory_order_release);
	}
	drop(w);
	atomic_fetch_sub_explicit(waiting, 1, memory_order_relaxed);
	// Release: the port may be closed now.
	atomic_fetch_sub_explicit(users, 1, memory_order_release);
	return NULL;
}

// A place for the region that huge pages can have, and the region there.
static int area_map(struct extmem_area *a, const struct region *r, struct err *e)
{
	uint64_t align = r->page_bytes > EXTMEM_ALIGN_BYTES ? r->page_bytes : EXTMEM_ALIGN_BYTES;
	uint8_t *room = mmap(NULL, a->bytes + align, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint8_t *at, *end;

	if (room == MAP_FAILED)
		return err_sys(e, errno, "no addresses for region %s", r->name);
	end = room + a->bytes + align;
	at = (uint8_t *)(((uintptr_t)room + align - 1) & ~(uintptr_t)(align - 1));
	if (mmap(at, a->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE | MAP_FIXED,
		    a->fd, 0) == MAP_FAILED) {
		int rc = errno;

		munmap(room, a->bytes + align);
		return err_sys(e, rc, "region %s can't be mapped for a device", r->name);
	}
	if (at > room)
		munmap(room, (size_t)(at - room));
	if (end > at + a->bytes)
		munmap(at + a->bytes, (size_t)(end - at - a->bytes));
	a->base = at;
	return 0;
}

static int areas_new(struct extmem_window *w, const struct region_map *map, struct err *e)
{
	for (unsigned i = 0; i < map->n; i++) {
		const struct region *r = &map->r[i];
		uint64_t align =
			r->page_bytes > EXTMEM_ALIGN_BYTES ? r->page_bytes : EXTMEM_ALIGN_BYTES;
		struct extmem_area *a = &w->area[w->nareas];
		int rc;

		w->bytes += r->bytes;
		w->small_bytes += r->bytes & (align - 1);
		*a = (struct extmem_area){.seen = r->base,
			.bytes = r->bytes & ~(align - 1),
			.first = w->nwindows,
			.page_bytes = r->page_bytes};
		if (a->bytes == 0)
			continue;
		a->fd = fcntl(r->fd, F_DUPFD_CLOEXEC, 0);
		if (a->fd < 0)
			return err_sys(e, errno, "cannot keep the file of region %s", r->name);
		w->nareas++;
		w->nwindows += (a->bytes + w->window_bytes - 1) / w->window_bytes;
		rc = area_map(a, r, e);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int counts_new(struct extmem_window *w)
{
	w->state = calloc(w->nwindows + 1, sizeof(*w->state));
	w->count = calloc(w->lanes, sizeof(*w->count));
	for (unsigned i = 0; w->count != NULL && w->nwindows > 0 && i < w->lanes; i++) {
		w->count[i] = mem_new(lane_bytes(w), -1);
		if (w->count[i] == NULL)
			return -ENOMEM;
		for (uint64_t n = 0; n < w->nwindows; n++) {
			w->count[i][n].free_cb = never;
			rte_mbuf_ext_refcnt_set(&w->count[i][n], 1);
		}
	}
	return w->state != NULL && w->count != NULL ? 0 : -ENOMEM;
}

static int start(struct extmem_window *w, struct err *e)
{
	sigset_t all, old;
	pthread_t thread;
	int rc;

	// Signals are the control loop's.
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&thread, NULL, work, w);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc != 0)
		return err_sys(e, rc, "cannot start the thread that maps guest memory");
	pthread_detach(thread);
	return 0;
}

/* Whether DPDK maps it by VFIO or registers it with an RDMA device hangs on the port's driver. */
static uint64_t left_bytes(const char *root)
{
	uint64_t vfio = locked_left_bytes(root, LOCKED_BY_VFIO);
	uint64_t rdma = locked_left_bytes(root, LOCKED_BY_RDMA);

	return vfio < rdma ? vfio : rdma;
}

int extmem_window_new(
	struct extmem_window **out, const struct extmem_window_config *c, struct err *e)
{
	struct extmem_window *w = calloc(1, sizeof(*w));
	int rc;

	if (w == NULL)
		return err_set(e, ENOMEM, "no memory for windows of guest memory");
	w->port = c->port;
	w->lanes = c->lanes;
	w->window_bytes = c->window_bytes > 0 ? c->window_bytes : EXTMEM_WINDOW_BYTES;
	w->left_bytes = left_bytes(c->root != NULL ? c->root : "");
	w->walk = c->walk;
	atomic_init(&w->asked, true);
	sem_init(&w->turn, 0, 1);
	rc = areas_new(w, c->map, e);
	if (rc == 0 && counts_new(w) < 0)
		rc = err_set(e, ENOMEM, "no memory for windows of guest memory");
	if (rc == 0) {
		atomic_fetch_add_explicit(&w->port->windows, 1, memory_order_relaxed);
		rc = start(w, e);
		if (rc < 0)
			atomic_fetch_sub_explicit(&w->port->windows, 1, memory_order_relaxed);
	}
	if (rc < 0) {
		drop(w);
		return rc;
	}
	*out = w;
	return 0;
}

void extmem_window_look(struct extmem_window *w)
{
	if (!atomic_exchange_explicit(&w->asked, true, memory_order_acq_rel))
		sem_post(&w->turn);
}

void extmem_window_info(struct extmem_window *w, struct extmem_window_info *i)
{
	*i = (struct extmem_window_info){
		// Acquire: with the number comes what that look found.
		.looks = atomic_load_explicit(&w->looks, memory_order_acquire),
		.bytes = w->bytes,
		.mapped_bytes = atomic_load_explicit(&w->mapped_bytes, memory_order_relaxed),
		.holed_bytes = atomic_load_explicit(&w->holed_bytes, memory_order_relaxed),
		.small_bytes = w->small_bytes,
		.refused_bytes = atomic_load_explicit(&w->refused_bytes, memory_order_relaxed),
		.discarded = atomic_load_explicit(&w->discarded, memory_order_relaxed),
	};
	if (atomic_load_explicit(&w->has_why, memory_order_acquire))
		i->why = w->why;
}

void extmem_window_free(struct extmem_window *w)
{
	if (w == NULL)
		return;
	// The queues' cores have the device give back what it holds, until the thread is through.
	atomic_fetch_add_explicit(&w->port->ending, 1, memory_order_relaxed);
	atomic_store_explicit(&w->ending, true, memory_order_release);
	sem_post(&w->turn);
}
