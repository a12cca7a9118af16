// SPDX-License-Identifier: BSD-3-Clause
// What went wrong on a queue pair, in words. Run by the flow's polling core, once: the link is
// broken then.

#include "link_rdma_impl.h"

#include <errno.h>
#include <string.h>

struct cure {
	int errnum;
	const char *text;
};

// By completion status (InfiniBand, volume 1, 11.6.2). A row for each that libibverbs knows. Where
// a new queue pair may do better the number is one of the network's, and the session connects anew.
static const struct cure cures[] = {
	[IBV_WC_LOC_LEN_ERR] = {EPROTO, "a request was longer than its buffer here or than what "
					"the device takes: both hosts need the same version"},
	[IBV_WC_LOC_QP_OP_ERR] = {ECONNRESET,
		"the device found its queue pair inconsistent: look in the "
		"kernel's log, and update the device's firmware"},
	[IBV_WC_LOC_EEC_OP_ERR] = {EIO, "the device reports a context that is not used here: "
					"look in the kernel's log"},
	[IBV_WC_LOC_PROT_ERR] = {EFAULT, "memory here is no longer registered with the device: "
					 "look for a VMM that ended"},
	[IBV_WC_WR_FLUSH_ERR] = {EPIPE, "the queue pair was closed before: the peer or its host "
					"ended it, see its log"},
	[IBV_WC_MW_BIND_ERR] = {EIO, "a memory window can't be bound: look in the kernel's log"},
	[IBV_WC_BAD_RESP_ERR] = {ECONNRESET,
		"the peer's device answered out of order: check cables, "
		"switches and firmware"},
	[IBV_WC_LOC_ACCESS_ERR] = {EPROTO, "the peer wrote to memory that it may not write to: "
					   "both hosts need the same version"},
	[IBV_WC_REM_INV_REQ_ERR] = {ECONNRESET,
		"the peer's device found a request wrong: check cables, switches, drivers and "
		"firmware, and that both hosts have the same version"},
	[IBV_WC_REM_ACCESS_ERR] = {EACCES, "the peer's memory is not registered for this key any "
					   "more: see the log of its godwitd"},
	[IBV_WC_REM_OP_ERR] = {ECONNRESET, "the peer's device could not complete it: look in the "
					   "kernel's log over there"},
	[IBV_WC_RETRY_EXC_ERR] = {ETIMEDOUT, "the peer's device did not answer: check cables, "
					     "switches, the RoCE network's loss, and that the "
					     "other host runs"},
	[IBV_WC_RNR_RETRY_EXC_ERR] = {EPROTO, "the peer had no receive buffer: both hosts need "
					      "the same version"},
	[IBV_WC_LOC_RDD_VIOL_ERR] = {EIO, "the device reports a domain that is not used here: look "
					  "in the kernel's log"},
	[IBV_WC_REM_INV_RD_REQ_ERR] = {EPROTO, "the peer's device refused a read, and none is "
					       "made: update firmware"},
	[IBV_WC_REM_ABORT_ERR] = {ECONNABORTED, "the peer's device gave the operation up: see the "
						"log of its godwitd"},
	[IBV_WC_INV_EECN_ERR] = {EIO, "the device reports a context that is not used here: look in "
				      "the kernel's log"},
	[IBV_WC_INV_EEC_STATE_ERR] = {EIO, "the device reports a context that is not used here: "
					   "look in the kernel's log"},
	[IBV_WC_FATAL_ERR] = {EIO, "the device has failed: look in the kernel's log, reset or "
				   "replace it"},
	[IBV_WC_RESP_TIMEOUT_ERR] = {ETIMEDOUT, "the peer's device was too slow: check the network "
						"and the other host"},
	[IBV_WC_GENERAL_ERR] = {EIO, "the device gives no reason: look in the kernel's log"},
	[IBV_WC_TM_ERR] = {EIO, "the device reports tag matching, which is not used: update "
				"firmware"},
	[IBV_WC_TM_RNDV_INCOMPLETE] = {EIO, "the device reports tag matching, which is not used: "
					    "update firmware"},
};

static const char *operation(const struct link_rdma *r, uint64_t wr_id)
{
	const struct ibv_send_wr *wr;

	if (wr_id & RDMA_RECV_ID)
		return r->source ? "receiving an answer" : "receiving a frame";
	wr = &r->queue.wr[wr_id % RDMA_SENDS];
	switch (wr->opcode) {
	case IBV_WR_RDMA_WRITE_WITH_IMM:
	case IBV_WR_RDMA_WRITE:
		return wr->wr.rdma.rkey == r->remote_key
			       ? "writing a frame to a slot of the target"
			       : "writing pages to their place at the target";
	default:
		return r->source ? "sending a frame" : "sending an answer";
	}
}

static int64_t broken(struct link_rdma *r, int errnum)
{
	r->link.error = errnum;
	return -errnum;
}

int64_t link_rdma_failed(struct link_rdma *r, const struct ibv_wc *wc)
{
	static const struct cure unknown = {EIO, "look in the kernel's log"};
	const struct cure *c = &unknown;

	if (wc->status < sizeof(cures) / sizeof(cures[0]) && cures[wc->status].text != NULL)
		c = &cures[wc->status];
	err_set(&r->link.why, c->errnum, "rdma: %s failed (status %d): %s", operation(r, wc->wr_id),
		(int)wc->status, c->text);
	return broken(r, c->errnum);
}

int64_t link_rdma_post_failed(struct link_rdma *r, const char *what, int errnum)
{
	err_set(&r->link.why, errnum,
		"rdma: the device takes no more work (%s: %s); look in the kernel's log", what,
		errnum > 0 && errnum < 4096 ? strerrordesc_np(errnum) : "unknown reason");
	return broken(r, errnum > 0 ? errnum : EIO);
}

int64_t link_rdma_gone(struct link_rdma *r, int errnum)
{
	if (errnum == ENODEV)
		err_set(&r->link.why, ENODEV,
			"rdma: the device was removed; look in the kernel's log");
	else if (errnum == ENETDOWN)
		err_set(&r->link.why, ENETDOWN,
			"rdma: the device's port went down; check its cable and network interface");
	else if (errnum == EACCES)
		err_set(&r->link.why, EACCES,
			"rdma: the peer wrote to memory that it may not write to, or that is not "
			"registered any more: see its log");
	else if (errnum == ECONNRESET)
		err_set(&r->link.why, ECONNRESET,
			"rdma: the device gave the queue pair up; look in the kernel's log");
	else
		err_set(&r->link.why, errnum, "rdma: the peer closed the connection; see its log");
	return broken(r, errnum);
}

void link_rdma_over(struct link_rdma *r, int errnum)
{
	int none = 0;

	/* release: what came is in the completion queue before this is seen */
	atomic_compare_exchange_strong_explicit(
		&r->gone, &none, errnum, memory_order_release, memory_order_relaxed);
}

int64_t link_rdma_wrong(struct link_rdma *r, uint64_t seq, int bad)
{
	err_set(&r->link.why, EPROTO, "frame %llu of flow: %s; the peer or the wire is faulty",
		(unsigned long long)seq, frame_bad_text(bad));
	return broken(r, EPROTO);
}

int64_t link_rdma_seal_wrong(struct link_rdma *r)
{
	err_set(&r->link.why, EBADMSG,
		"packet %llu of flow: its seal does not match; it was changed, repeated, left out "
		"or made up on the way",
		(unsigned long long)(r->number_in - 1));
	return broken(r, EBADMSG);
}

int64_t link_rdma_seal_failed(struct link_rdma *r)
{
	err_set(&r->link.why, EIO,
		"packet %llu of flow can't be sealed: the cryptographic library failed",
		(unsigned long long)(r->number_out - 1));
	return broken(r, EIO);
}
