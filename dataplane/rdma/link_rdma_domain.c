// SPDX-License-Identifier: BSD-3-Clause
// The protection domain of one session: its queue pairs reach no other memory of this host than its
// own, whatever key a peer tries. Run by the control loop.
//
// Invariant: the domain is given back to the device after the last queue pair and the last memory
// in it, which may outlive the session.

#include "link_rdma_end.h"

#include <errno.h>
#include <stdlib.h>

int link_rdma_domain_new(struct link_rdma_domain **out, struct link_rdma_host *h, struct err *e)
{
	struct link_rdma_domain *d = calloc(1, sizeof(*d));

	if (d == NULL)
		return err_set(e, ENOMEM, "rdma: no memory");
	errno = 0;
	d->pd = h->v->alloc_pd(h->listener != NULL ? h->listener->verbs : NULL);
	if (d->pd == NULL) {
		free(d);
		return err_sys(e, errno != 0 ? errno : EIO,
			"rdma: cannot make a protection domain on device %s", h->info.device);
	}
	d->host = h;
	d->users = 1;
	LIST_INSERT_HEAD(&h->domains, d, next);
	*out = d;
	return 0;
}

static void give_back(struct link_rdma_domain *d)
{
	if (d->host == NULL)
		return;
	d->host->v->dealloc_pd(d->pd);
	LIST_REMOVE(d, next);
	d->host = NULL;
}

struct link_rdma_domain *rdma_domain_use(struct link_rdma_domain *d)
{
	d->users++;
	return d;
}

void link_rdma_domain_free(struct link_rdma_domain *d)
{
	if (d == NULL || --d->users > 0)
		return;
	give_back(d);
	free(d);
}

void rdma_domain_orphan(struct link_rdma_host *h)
{
	while (!LIST_EMPTY(&h->domains))
		give_back(LIST_FIRST(&h->domains));
}
