/* SPDX-License-Identifier: BSD-3-Clause */
/* libgodwit: what a VMM links so that Godwit can migrate its guest.
 *
 * The library runs inside the VMM's process, because KVM answers the dirty-log calls to no other.
 * It listens on a unix SOCK_SEQPACKET socket; godwitd connects to it, gets the guest's RAM files,
 * and drives dirty tracking, pause, resume and device state through it. Pages never go through the
 * library: godwitd maps the RAM files itself.
 *
 * Life of a VMM that uses it:
 *
 *     godwit_new -> godwit_add_region, godwit_add_view ... -> godwit_start
 *       ... guest runs; the callbacks below are called as a migration asks for them ...
 *     godwit_free
 *
 * godwit_start makes one thread; every callback is called on it, one at a time, and may block.
 * The library never logs, never exits, changes no signal handler and keeps no global state. Errors
 * are returned as negative errno values, with a sentence in the caller's buffer where there is one.
 * Functions may be called from any thread; godwit_new ... godwit_start from one thread in order.
 *
 * The pause is a lease: when godwitd's end of the socket closes before the migration was fenced,
 * the library calls resume() by itself, so that a dead daemon never costs the guest. */
#ifndef GODWIT_H
#define GODWIT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GODWIT_API_VERSION 2

struct godwit; /* one guest */

/* What the VMM does for a migration. Each returns 0 or a negative errno value. opaque is
 * godwit_config.opaque. */
struct godwit_ops {
	/* Stop all vCPUs and the VMM's own writers of guest memory (device models). When it returns
	 * 0, nothing that the VMM controls writes guest memory any more. Paused already: 0. */
	int (*pause)(void *opaque);

	/* Let the guest run, from where it is: after pause, or on the target after load.
	 * On the target this is the moment at which the guest is taken over. */
	int (*resume)(void *opaque);

	/* Give the vCPUs percent (1 to 100) of their time. Optional (NULL): -ENOTSUP. */
	int (*throttle)(void *opaque, unsigned percent);

	/* Write the whole device state to fd, from offset 0. The guest is paused. It may still
	 * write guest memory; what it writes must be seen by the dirty log or told with
	 * godwit_wrote() before it returns. */
	int (*save)(void *opaque, int fd);

	/* Read the device state (bytes long, offset 0) from fd and install it. Guest memory is
	 * complete. May be called again after a failed migration. It must check what it reads. */
	int (*load)(void *opaque, int fd, uint64_t bytes);

	/* The guest runs elsewhere, or will not run here: end. It must never run here again.
	 * Called at most once; the library serves no daemon afterwards. */
	void (*end)(void *opaque);

	/* Tracking begins (on 1) or ends (0): writers that keep a log of their own, vhost and
	 * vhost-user back ends, are to begin or end it, in the region that godwit_vhost_log()
	 * gives. When it returns 0 for on, each of their writes shows in the log. Optional
	 * (NULL): there are no such writers. */
	int (*track)(void *opaque, int on);

	/* Ask the guest which of its pages are free: it answers with this id by
	 * godwit_free_pages() and godwit_free_end(), in its own time, or never. 0: no answer is
	 * wanted any more. Optional (NULL): the guest can't be asked. */
	int (*free_request)(void *opaque, uint32_t id);
};

enum godwit_tracker {
	GODWIT_TRACK_AUTO,         /* KVM_LOG where vm_fd is given, else PAGEMAP_SCAN */
	GODWIT_TRACK_KVM_LOG,      /* KVM_GET_DIRTY_LOG, with manual protect where offered */
	GODWIT_TRACK_PAGEMAP_SCAN, /* userfaultfd write-protect and PAGEMAP_SCAN (Linux 6.7);
				    * sees writes of every thread of this process */
	GODWIT_TRACK_KVM_RING,     /* a ring of written pages for each vCPU; see ring_bytes */
};

struct godwit_config {
	uint32_t api_version; /* GODWIT_API_VERSION */
	const char *name;     /* of the guest, for messages; up to 63 characters */
	const char *socket;   /* path to listen on; a stale socket there is replaced */
	int vm_fd;            /* KVM VM fd, or -1 */
	enum godwit_tracker tracker;
	/* GODWIT_TRACK_KVM_RING: what the VM was enabled with (KVM_CAP_DIRTY_LOG_RING_ACQ_REL,
	 * before its first vCPU), at least 4096 a vCPU; 65536 entries are good for a busy one. */
	uint32_t ring_bytes;
	int incoming; /* 1: the guest is to come here; memory must not be touched before load() */
	const struct godwit_ops *ops;
	void *opaque;
};

/* Makes a guest. On failure NULL, errno set, and a sentence in why (why_bytes long; may be NULL).
 * The strings are copied; ops must live as long as the guest. */
struct godwit *godwit_new(const struct godwit_config *config, char *why, size_t why_bytes);

/* Adds a RAM file, before godwit_start (later: -EBUSY). fd: a memfd (or other file) whose offset 0
 * is the region's first byte; it is duplicated, and sealed against shrinking where it is a memfd.
 * bytes: multiple of 4096. base: where this process maps it, whole. page_bytes: backing page (4096,
 * 2 MiB, 1 GiB). To have its pages on certain NUMA nodes, whoever fills them, bind them with
 * mbind(2) on base: that holds for all who map a file of 4 KiB pages. Huge pages allocate ahead: a
 * policy of theirs is this process's alone. So is what it is bound to itself (numactl,
 * set_mempolicy(2)), and pages that godwitd fills come from near its own cores then. Returns the
 * region's index or a negative errno value. */
int godwit_add_region(struct godwit *g, const char *name, int fd, uint64_t bytes, void *base,
	uint32_t page_bytes);

/* Adds a view, before godwit_start (later: -EBUSY): slot (KVM slot number, as_id its address space)
 * shows guest-physical [gpa, gpa + bytes) from the region's offset. flags: those of the slot's
 * kvm_userspace_memory_region other than KVM_MEM_LOG_DIRTY_PAGES, which the library sets and
 * clears. Without KVM the slot number is only a name. 0 or a negative errno value. */
int godwit_add_view(struct godwit *g, int region, uint32_t slot, uint32_t as_id, uint64_t gpa,
	uint64_t offset, uint64_t bytes, uint32_t flags);

/* GODWIT_TRACK_KVM_RING: adds a vCPU, whose fd stays open until godwit_free. Before it runs: before
 * godwit_start, from within load(), or by any one thread later. Returns its number for
 * godwit_ring_full(), or a negative errno value. */
int godwit_add_vcpu(struct godwit *g, int vcpu_fd);

/* GODWIT_TRACK_KVM_RING: KVM_RUN of this vCPU ended with KVM_EXIT_DIRTY_RING_FULL. Makes room; call
 * KVM_RUN again afterwards. Short; on the vCPU's own thread, not after godwit_free. */
int godwit_ring_full(struct godwit *g, int vcpu);

/* Tells, before godwit_start (later: -EBUSY), that this VMM never makes holes in its RAM files
 * while the guest lives: it has no balloon, and gives no free pages back. Then a network card may
 * read pages for a migration by itself, where they lie; otherwise they are copied for it first. A
 * VMM that says so and punches a hole all the same may lose what its guest writes there. 0 or
 * -EBUSY. */
int godwit_keeps_memory(struct godwit *g);

/* Starts to listen. 0, or a negative errno value and a sentence. */
int godwit_start(struct godwit *g, char *why, size_t why_bytes);

/* Tells that the VMM itself wrote guest memory, or discarded it (hole punched, balloon), in
 * [offset, offset + bytes) of a region. Call it after the last byte. Lock-free; any thread; cheap
 * while no migration runs. */
void godwit_wrote(struct godwit *g, int region, uint64_t offset, uint64_t bytes);

/* Who else writes guest memory: back ends and devices that the VMM gives it to. vCPUs are the
 * tracker's, and need not be told. */
enum godwit_writer {
	GODWIT_WRITER_TELLS,  /* the VMM tells each of its writes with godwit_wrote() */
	GODWIT_WRITER_LOGS,   /* vhost, vhost-user: it logs while track() says so */
	GODWIT_WRITER_UNSEEN, /* a device that is passed through, a back end without a log */
};

/* Tells of a writer; name (up to 63 characters) is for messages. A guest with one that nothing sees
 * is not migrated: the session is refused and says its name. Returns its number for
 * godwit_remove_writer(), or -EBUSY: a migration is under way and would not see it; -ENOSPC: there
 * are 64; -EINVAL. After godwit_new; any thread. */
int godwit_add_writer(struct godwit *g, const char *name, enum godwit_writer kind);
void godwit_remove_writer(struct godwit *g, int writer);

/* The log region for VHOST_SET_LOG_BASE (base) and VHOST_USER_SET_LOG_BASE (the memfd that is
 * returned, offset 0): one bit for each 4 KiB from guest address 0. It is there from godwit_start
 * to godwit_free, if the callbacks have track(). A memfd, not to be closed, or a negative errno. */
int godwit_vhost_log(struct godwit *g, uint64_t *bytes, void **base);

/* The balloon, page frames of 4 KiB as virtio-balloon names them. After godwit_start; any thread.
 *
 * godwit_balloon: must_tell 1 says that VIRTIO_BALLOON_F_MUST_TELL_HOST was negotiated, 0 that it
 * was not, or that the device was reset: then all pages leave the balloon. Only with 1 are pages
 * in the balloon left out of a migration. A guest that came brings its balloon with it: say 1 from
 * within load().
 * godwit_inflate: the guest gave frames [pfn, pfn + n) up. godwit_deflate: it wants them back; call
 * it before the guest is told that it has them. 0, or -EFAULT: not all of them are memory. */
void godwit_balloon(struct godwit *g, int must_tell);
int godwit_inflate(struct godwit *g, uint64_t pfn, uint64_t n);
int godwit_deflate(struct godwit *g, uint64_t pfn, uint64_t n);

/* Answers to free_request(): frames [pfn, pfn + n) were free at some time between the request with
 * that id and this call; the guest may use them again at once. In as many pieces as there are; end:
 * all were told. 0; -ESTALE: the id is not that of the request under way, nothing changes; -EPERM:
 * the guest poisons free pages; -EFAULT. Any thread. */
int godwit_free_pages(struct godwit *g, uint32_t id, uint64_t pfn, uint64_t n);
int godwit_free_end(struct godwit *g, uint32_t id);
/* The guest relies on its free pages holding this value (VIRTIO_BALLOON_F_PAGE_POISON). Other than
 * 0, no free page is left out. */
void godwit_poison(struct godwit *g, uint32_t value);

enum godwit_state {
	GODWIT_RUNNING,  /* the guest runs here, migrated or not */
	GODWIT_PAUSED,   /* paused by a lease of the daemon */
	GODWIT_FENCED,   /* committed to the target; only the daemon's word frees it */
	GODWIT_INCOMING, /* waits for a guest */
	GODWIT_LOADED,   /* device state installed; waits for the commit */
	GODWIT_ENDED,    /* end() was called */
};

enum godwit_state godwit_get_state(const struct godwit *g);

/* Stops tracking, closes the socket and frees all. A guest under a lease is resumed first. NULL is
 * allowed. Not from a callback. */
void godwit_free(struct godwit *g);

#ifdef __cplusplus
}
#endif

#endif
