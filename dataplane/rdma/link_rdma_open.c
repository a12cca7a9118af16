// SPDX-License-Identifier: BSD-3-Clause
// Makes and ends the rdma link around a queue pair. Run by control threads.
//
// Invariant: all memory that the device may touch is one registration, freed when the queue pair is
// gone.

#include "link_rdma_impl.h"

#include "clock.h"
#include "mem.h"

#include <errno.h>
#include <sys/resource.h>

#define MESSAGES_BYTES ((size_t)RDMA_SENDS * RDMA_MESSAGE_BYTES)
#define SGES_BYTES     ((size_t)RDMA_SENDS * RDMA_SGES * sizeof(struct ibv_sge))
#define SLOTS_BYTES    ((size_t)RDMA_SLOTS * RDMA_SLOT_BYTES)

static size_t recvs_bytes(uint32_t nrecv)
{
	return ((size_t)nrecv * RDMA_MESSAGE_BYTES + PAGE_BYTES - 1) & ~(size_t)(PAGE_BYTES - 1);
}

uint64_t link_rdma_locked_bytes(void)
{
	return MESSAGES_BYTES + recvs_bytes(RDMA_ANSWERS) + SLOTS_BYTES;
}

static bool memory_new(struct link_rdma *r, int node)
{
	struct rdma_queue *q = &r->queue;

	r->memory_bytes = MESSAGES_BYTES + recvs_bytes(r->nrecv) + SLOTS_BYTES;
	r->memory = mem_new(r->memory_bytes, node);
	q->wr = mem_new(RDMA_SENDS * sizeof(*q->wr), node);
	q->sge = mem_new(SGES_BYTES, node);
	r->recv_wr = mem_new(r->nrecv * sizeof(*r->recv_wr), node);
	r->recv_sge = mem_new(r->nrecv * sizeof(*r->recv_sge), node);
	r->in = mem_new(RDMA_IN * sizeof(*r->in), node);
	return r->memory != NULL && q->wr != NULL && q->sge != NULL && r->recv_wr != NULL &&
	       r->recv_sge != NULL && r->in != NULL;
}

static int cannot_register(const struct link_rdma *r, int errnum, struct err *e)
{
	struct rlimit limit = {0};

	(void)getrlimit(RLIMIT_MEMLOCK, &limit);
	if (errnum == ENOMEM && limit.rlim_cur != RLIM_INFINITY &&
		limit.rlim_cur < 64 * (rlim_t)r->memory_bytes)
		return err_set(e, ENOMEM,
			"rdma: a flow needs %zu KiB of locked memory, and this process may lock "
			"%llu KiB in all (RLIMIT_MEMLOCK): raise LimitMEMLOCK= of the service, or "
			"ulimit -l",
			r->memory_bytes >> 10, (unsigned long long)limit.rlim_cur >> 10);
	return err_sys(e, errnum,
		"rdma: the device can't register %zu KiB of memory for a flow; look in the "
		"kernel's log",
		r->memory_bytes >> 10);
}

static int register_memory(struct link_rdma *r, struct ibv_pd *pd, struct err *e)
{
	int access = IBV_ACCESS_LOCAL_WRITE | (r->source ? 0 : IBV_ACCESS_REMOTE_WRITE);

	errno = 0;
	r->mr = r->v->reg_mr(pd, r->memory, r->memory_bytes, access);
	if (r->mr == NULL)
		return cannot_register(r, errno != 0 ? errno : ENOMEM, e);
	r->queue.message = r->memory;
	r->queue.lkey = r->mr->lkey;
	r->recv = r->memory + MESSAGES_BYTES;
	r->slot = r->recv + recvs_bytes(r->nrecv);
	return 0;
}

static int post_receives(struct link_rdma *r, struct err *e)
{
	r->again_end = &r->again;
	for (uint32_t i = 0; i < r->nrecv; i++) {
		r->recv_sge[i] =
			(struct ibv_sge){(uintptr_t)r->recv + (uintptr_t)i * RDMA_MESSAGE_BYTES,
				RDMA_MESSAGE_BYTES, r->mr->lkey};
		r->recv_wr[i].wr_id = RDMA_RECV_ID | i;
		r->recv_wr[i].sg_list = &r->recv_sge[i];
		r->recv_wr[i].num_sge = 1;
		rdma_recv_again(r, i);
	}
	if (rdma_recv_post(r) >= 0)
		return 0;
	*e = r->link.why;
	return -r->link.error;
}

int link_rdma_open(struct link **l, const struct link_rdma_config *c, struct err *e)
{
	struct link_rdma *r = mem_new(sizeof(*r), c->node);
	struct err unused;
	int rc;

	e = e != NULL ? e : &unused;
	if (r == NULL)
		return err_set(e, ENOMEM, "rdma: no memory for a flow");
	r->link.ops = &link_rdma;
	r->link.sums_parts = true; // each packet has its own CRC (InfiniBand, volume 1, 7.8.1)
	r->v = c->v;
	r->qp = c->qp;
	r->cq = c->cq;
	r->why_cycles = 3 * LINK_RDMA_LOOK_MS * (clock_cycles_hz() / 1000);
	r->source = c->source;
	r->nrecv = c->source ? RDMA_ANSWERS : RDMA_FRAMES;
	r->barrier = RDMA_NO_SEQ;
	r->gathers = c->gathers;
	r->write_bytes = (uint32_t)CHUNK_BYTES;
	r->link.buffer_bytes = c->source ? RDMA_SLOTS * CHUNK_BYTES / 2 : 0;
	r->queue.inlines = c->most_inline >= FRAME_HDR_BYTES + SEAL_TAG_BYTES;
	if (!memory_new(r, c->node))
		rc = err_set(e, ENOMEM, "rdma: no memory for the buffers of a flow");
	else
		rc = register_memory(r, c->pd, e);
	if (rc == 0)
		rc = post_receives(r, e);
	if (rc < 0) {
		link_rdma_free(&r->link);
		return rc;
	}
	r->release = c->release;
	r->release_arg = c->release_arg;
	*l = &r->link;
	return 0;
}

void link_rdma_offer(const struct link *l, struct rdma_hello_accept *a)
{
	const struct link_rdma *r = (const struct link_rdma *)l;

	*a = (struct rdma_hello_accept){
		.slots = RDMA_SLOTS,
		.slot_bytes = RDMA_SLOT_BYTES,
		.frames = RDMA_FRAMES,
		.rkey = r->mr->rkey,
		.addr = (uintptr_t)r->slot,
	};
}

int link_rdma_meet(struct link *l, const struct rdma_hello_accept *a, struct err *e)
{
	struct link_rdma *r = rdma_of(l);

	if (a->slots != RDMA_SLOTS || a->slot_bytes != RDMA_SLOT_BYTES ||
		a->frames != RDMA_FRAMES || a->addr > UINT64_MAX - SLOTS_BYTES)
		return err_set(e, EPROTO,
			"rdma: the target has %u slots of %u bytes for %u frames, the source %u of "
			"%u for %u; install the same version on both hosts",
			a->slots, a->slot_bytes, a->frames, RDMA_SLOTS, RDMA_SLOT_BYTES,
			RDMA_FRAMES);
	r->remote_addr = a->addr;
	r->remote_key = a->rkey;
	return 0;
}

int link_rdma_seal(struct link *l, const struct seal_ops *ops, const struct seal_secret *out,
	const struct seal_secret *in, int node, struct err *e)
{
	struct link_rdma *r = rdma_of(l);
	int rc = seal_new(&r->seal_out, ops, out, node, e);

	if (rc == 0)
		rc = seal_new(&r->seal_in, ops, in, node, e);
	if (rc == 0 && !r->source) {
		r->own = mem_new(RDMA_SLOT_BYTES, node);
		if (r->own == NULL)
			rc = err_set(e, ENOMEM, "rdma: no memory for the seal of a flow");
	}
	if (rc < 0)
		return rc;
	r->link.sealed = true;
	r->tag_bytes = SEAL_TAG_BYTES;
	return 0;
}

void link_rdma_direct(struct link *l, const struct link_rdma_key *keys)
{
	struct link_rdma *r = rdma_of(l);

	if (r->source)
		r->keys = keys;
	else
		r->direct = true;
}

unsigned link_rdma_mtu(const struct link *l)
{
	return ((const struct link_rdma *)l)->mtu;
}

void link_rdma_windows(struct link *l, const struct link_rdma_windows *windows)
{
	rdma_of(l)->windows = windows;
}

void link_rdma_by_turns(struct link *l, struct link_rdma_pool *pool, unsigned lane)
{
	rdma_of(l)->pool = pool;
	rdma_of(l)->lane = lane;
}

void link_rdma_read(struct link *l, const struct link_rdma_memory *from)
{
	rdma_of(l)->from = from;
}

void link_rdma_careful(struct link *l)
{
	rdma_of(l)->write_bytes = RDMA_PIECE_BYTES;
}

void link_rdma_free(struct link *l)
{
	struct link_rdma *r = (struct link_rdma *)l;

	if (r == NULL)
		return;
	if (r->mr != NULL)
		r->v->dereg_mr(r->mr);
	seal_free(r->seal_out);
	seal_free(r->seal_in);
	mem_free(r->own, RDMA_SLOT_BYTES);
	mem_free(r->memory, r->memory_bytes);
	mem_free(r->queue.wr, RDMA_SENDS * sizeof(*r->queue.wr));
	mem_free(r->queue.sge, SGES_BYTES);
	mem_free(r->recv_wr, r->nrecv * sizeof(*r->recv_wr));
	mem_free(r->recv_sge, r->nrecv * sizeof(*r->recv_sge));
	mem_free(r->in, RDMA_IN * sizeof(*r->in));
	mem_free(r, sizeof(*r));
}

void link_rdma_close(struct link *l)
{
	struct link_rdma *r = (struct link_rdma *)l;

	if (r == NULL)
		return;
	if (r->release != NULL)
		r->release(r->release_arg, l);
	else
		link_rdma_free(l);
}
