// SPDX-License-Identifier: BSD-3-Clause
// The device that is none. Run by one thread that polls both ends.

#include "fake_verbs.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

static struct fake_end *of_cq(struct ibv_cq *cq)
{
	return (struct fake_end *)((char *)cq - offsetof(struct fake_end, cq));
}

void fake_pair(struct fake_end *a, struct fake_end *b)
{
	struct fake_end *both[] = {a, b};

	for (unsigned i = 0; i < 2; i++) {
		struct fake_end *e = both[i];

		memset(e, 0, sizeof(*e));
		e->peer = both[1 - i];
		e->send = calloc(FAKE_QUEUE, sizeof(*e->send));
		e->recv = calloc(FAKE_QUEUE, sizeof(*e->recv));
		e->recv_id = calloc(FAKE_QUEUE, sizeof(*e->recv_id));
		e->wc = calloc(2 * FAKE_QUEUE, sizeof(*e->wc));
		e->pd.handle = i;
		e->pd.context = (struct ibv_context *)e;
		e->qp.pd = &e->pd;
	}
}

void fake_free(struct fake_end *e)
{
	free(e->send);
	free(e->recv);
	free(e->recv_id);
	free(e->wc);
}

static void complete(struct fake_end *e, struct ibv_wc wc)
{
	e->wc[e->wc_tail++ % (2 * FAKE_QUEUE)] = wc;
}

void fake_receive(struct fake_end *e, const void *data, uint32_t bytes, enum ibv_wc_opcode opcode,
	uint32_t imm, enum ibv_wc_status status)
{
	uint32_t i = e->recv_head++ % FAKE_QUEUE;
	struct ibv_wc wc = {.wr_id = e->recv_id[i],
		.status = status,
		.opcode = opcode,
		.byte_len = bytes,
		.imm_data = htonl(imm)};

	if (data != NULL)
		memcpy((void *)(uintptr_t)e->recv[i].addr, data,
			bytes < e->recv[i].length ? bytes : e->recv[i].length);
	complete(e, wc);
}

// The memory of one end that a key and an address name, and that may be used so; NULL: none.
static void *reach(struct fake_end *e, uint32_t key, uint64_t addr, uint64_t bytes, int access)
{
	for (unsigned i = 0; i < e->mrs; i++) {
		const struct ibv_mr *m = &e->mr[i];

		if (m->rkey == key && (m->pd == e->qp.pd || access == IBV_ACCESS_ON_DEMAND) &&
			(e->access[i] & access) == access && m->addr != NULL &&
			addr >= (uintptr_t)m->addr && addr - (uintptr_t)m->addr <= m->length &&
			bytes <= m->length - (addr - (uintptr_t)m->addr))
			return (void *)(uintptr_t)addr;
	}
	return NULL;
}

static uint8_t gathered[RDMA_SLOT_BYTES];

// What went over the wire is there now.
static void spoil(struct fake_end *e, uint8_t *there, uint32_t bytes)
{
	if (e->keep != NULL)
		memcpy(e->keep + e->bytes, there, bytes);
	if (e->instead != NULL)
		memcpy(there, e->instead + e->bytes, bytes);
	if (e->spoil_at > e->bytes && e->spoil_at <= e->bytes + bytes)
		there[e->spoil_at - e->bytes - 1] ^= 0x10;
	e->bytes += bytes;
}

// Reads what is sent, now. False: it may not.
static bool gather(struct fake_end *e, const struct fake_send *s, uint32_t *bytes)
{
	*bytes = 0;
	for (int i = 0; i < s->wr.num_sge; i++) {
		const struct ibv_sge *g = &s->sge[i];
		const void *from = s->wr.send_flags & IBV_SEND_INLINE
					   ? s->inlined
					   : reach(e, g->lkey, g->addr, g->length, 0);

		if (from == NULL || g->length > sizeof(gathered) - *bytes)
			return false;
		memcpy(gathered + *bytes, from, g->length);
		*bytes += g->length;
	}
	return true;
}

static enum ibv_wc_status deliver(struct fake_end *e, const struct fake_send *s)
{
	uint32_t bytes;
	void *to;

	if (!gather(e, s, &bytes))
		return IBV_WC_LOC_PROT_ERR;
	e->gathered += s->wr.num_sge > 1;
	if (s->wr.opcode == IBV_WR_SEND) {
		to = (void *)(uintptr_t)e->peer->recv[e->peer->recv_head % FAKE_QUEUE].addr;
		fake_receive(e->peer, gathered, bytes, IBV_WC_RECV, 0, IBV_WC_SUCCESS);
		spoil(e, to, bytes);
		return IBV_WC_SUCCESS;
	}
	e->longest = bytes > e->longest ? bytes : e->longest;
	to = reach(e->peer, s->wr.wr.rdma.rkey, s->wr.wr.rdma.remote_addr, bytes,
		IBV_ACCESS_REMOTE_WRITE);
	if (to == NULL)
		return IBV_WC_REM_ACCESS_ERR;
	memcpy(to, gathered, bytes);
	spoil(e, to, bytes);
	if (s->wr.opcode == IBV_WR_RDMA_WRITE_WITH_IMM)
		fake_receive(e->peer, NULL, bytes, IBV_WC_RECV_RDMA_WITH_IMM, ntohl(s->wr.imm_data),
			IBV_WC_SUCCESS);
	return IBV_WC_SUCCESS;
}

static void move(struct fake_end *e)
{
	if (e->stuck)
		return;
	for (uint32_t n = 0; e->send_head != e->send_tail && (e->moves == 0 || n < e->moves); n++) {
		const struct fake_send *s = &e->send[e->send_head % FAKE_QUEUE];
		struct ibv_wc wc = {.wr_id = s->wr.wr_id, .status = IBV_WC_WR_FLUSH_ERR};

		if (!e->broken && s->wr.opcode != IBV_WR_RDMA_WRITE &&
			e->peer->recv_head == e->peer->recv_tail) {
			e->rnr++;
			return;
		}
		if (!e->broken)
			wc.status = e->bad != IBV_WC_SUCCESS ? e->bad : deliver(e, s);
		e->broken |= wc.status != IBV_WC_SUCCESS;
		e->send_held++;
		if (wc.status != IBV_WC_SUCCESS || s->wr.send_flags & IBV_SEND_SIGNALED) {
			complete(e, wc);
			e->send_held = 0;
		}
		e->send_head++;
	}
}

static int post_send(struct ibv_qp *qp, struct ibv_send_wr *wr, struct ibv_send_wr **bad)
{
	struct fake_end *e = (struct fake_end *)qp;
	unsigned taken = 0;

	e->doorbells++;
	for (; wr != NULL; wr = wr->next, taken++) {
		struct fake_send *s = &e->send[e->send_tail % FAKE_QUEUE];

		*bad = wr;
		if (e->post_errno != 0)
			return e->post_errno;
		if ((e->post_most != 0 && taken == e->post_most) ||
			e->send_tail - e->send_head + e->send_held >= RDMA_SENDS)
			return ENOMEM;
		s->wr = *wr;
		memcpy(s->sge, wr->sg_list, (unsigned)wr->num_sge * sizeof(s->sge[0]));
		if (wr->send_flags & IBV_SEND_INLINE)
			memcpy(s->inlined, (void *)(uintptr_t)s->sge->addr, s->sge->length);
		e->sends++;
		e->signalled += (wr->send_flags & IBV_SEND_SIGNALED) != 0;
		e->send_tail++;
	}
	return 0;
}

static int post_recv(struct ibv_qp *qp, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad)
{
	struct fake_end *e = (struct fake_end *)qp;

	for (; wr != NULL; wr = wr->next) {
		*bad = wr;
		if (e->recv_tail - e->recv_head == RDMA_RECVS_MOST)
			return ENOMEM;
		e->recv[e->recv_tail % FAKE_QUEUE] = *wr->sg_list;
		e->recv_id[e->recv_tail++ % FAKE_QUEUE] = wr->wr_id;
	}
	return 0;
}

static int poll_cq(struct ibv_cq *cq, int n, struct ibv_wc *wc)
{
	struct fake_end *e = of_cq(cq);
	int i = 0;

	move(e->peer);
	move(e);
	while (i < n && e->wc_head != e->wc_tail)
		wc[i++] = e->wc[e->wc_head++ % (2 * FAKE_QUEUE)];
	return i;
}

static struct ibv_pd *alloc_pd(struct ibv_context *ctx)
{
	struct ibv_pd *pd = calloc(1, sizeof(*pd));

	if (pd == NULL)
		abort();
	pd->context = ctx;
	pd->handle = 2 + ((struct fake_end *)ctx)->pds++;
	return pd;
}

static int dealloc_pd(struct ibv_pd *pd)
{
	((struct fake_end *)pd->context)->pds--;
	free(pd);
	return 0;
}

static struct ibv_mr *reg_mr(struct ibv_pd *pd, void *addr, size_t bytes, int access)
{
	struct fake_end *e = (struct fake_end *)pd->context;
	unsigned i = 0;
	struct ibv_mr *m;

	atomic_fetch_add(&e->reg_calls, 1);
	if (e->reg_wait != NULL)
		sem_wait(e->reg_wait);
	while (e->mrs == FAKE_MRS && i < FAKE_MRS && e->mr[i].addr != NULL)
		i++;
	if ((e->reg_errno != 0 && e->keys >= e->reg_good) || i == FAKE_MRS) {
		errno = e->reg_errno != 0 ? e->reg_errno : ENOMEM;
		return NULL;
	}
	if (e->mrs < FAKE_MRS)
		i = e->mrs++;
	e->access[i] = access;
	m = &e->mr[i];
	*m = (struct ibv_mr){.pd = pd, .addr = addr, .length = bytes};
	m->lkey = m->rkey = 0x1000 * (pd->handle + 1) + ++e->keys;
	return m;
}

static int dereg_mr(struct ibv_mr *mr)
{
	mr->addr = NULL;
	return 0;
}

static int advise_mr(struct ibv_pd *pd, enum ibv_advise_mr_advice advice, struct ibv_sge *sge)
{
	struct fake_end *e = (struct fake_end *)pd->context;

	(void)advice;
	if (reach(e, sge->lkey, sge->addr, sge->length, IBV_ACCESS_ON_DEMAND) == NULL)
		e->advised_wrong++;
	e->advised_bytes += sge->length;
	return e->advise_errno;
}

const struct verbs verbs_fake = {
	.post_send = post_send,
	.post_recv = post_recv,
	.poll_cq = poll_cq,
	.alloc_pd = alloc_pd,
	.dealloc_pd = dealloc_pd,
	.reg_mr = reg_mr,
	.dereg_mr = dereg_mr,
	.advise_mr = advise_mr,
};

int fake_link(
	struct link **l, struct fake_end *e, bool source, uint32_t most_inline, struct err *err)
{
	const struct link_rdma_config c = {.v = &verbs_fake,
		.pd = &e->pd,
		.qp = &e->qp,
		.cq = &e->cq,
		.source = source,
		.gathers = true,
		.most_inline = most_inline,
		.node = -1};

	return link_rdma_open(l, &c, err);
}

void fake_links(struct fake_end e[2], struct link *l[2], uint32_t most_inline)
{
	struct rdma_hello_accept a;

	fake_pair(&e[0], &e[1]);
	if (fake_link(&l[0], &e[0], true, most_inline, NULL) != 0 ||
		fake_link(&l[1], &e[1], false, most_inline, NULL) != 0)
		abort();
	link_rdma_offer(l[1], &a);
	if (link_rdma_meet(l[0], &a, NULL) != 0)
		abort();
}

void fake_seal(struct link *l[2], uint8_t handshake)
{
	const struct seal_secret there = {.key = {1, 2, 3, handshake}, .iv = {4}};
	const struct seal_secret back = {.key = {5, 6, 7, handshake}, .iv = {8}};

	if (link_rdma_seal(l[0], &seal_openssl, &there, &back, -1, NULL) != 0 ||
		link_rdma_seal(l[1], &seal_openssl, &back, &there, -1, NULL) != 0)
		abort();
}
