// SPDX-License-Identifier: BSD-3-Clause
// Memory of the packing stage. Run by control threads.

#include "pack.h"

#include "mem.h"

#include <errno.h>
#include <string.h>

int pack_open(struct pack *p, struct send_job *job, const struct link *link, struct stats *stats,
	int node, struct err *e)
{
	int rc;

	memset(p, 0, sizeof(*p));
	p->map = job->map;
	p->stats = stats;
	p->sum_raw = !link->sums_parts;
	p->nslots = link->slots > 0 ? link->slots : PACK_SLOTS;
	if (p->nslots > PACK_SLOTS_MOST)
		p->nslots = PACK_SLOTS_MOST;
	p->link = link;
	p->pressure = -1;
	if (job->codec == NULL || (job->codec->encode == NULL && job->codec != &codec_auto))
		return 0;
	if (job->codec == &codec_auto && p->nslots < AUTO_SLOTS)
		p->nslots = AUTO_SLOTS;
	if (job->codec == &codec_auto)
		rc = auto_open(&p->automatic, link->buffer_bytes, node, e);
	else
		rc = job->codec->open(&p->codec, job->level, node, e);
	if (rc < 0)
		return rc;
	p->stage = mem_new(CHUNK_BYTES, node);
	p->slots = mem_new(p->nslots * CHUNK_BYTES, node);
	if (p->stage == NULL || p->slots == NULL) {
		pack_close(p);
		return err_set(e, ENOMEM, "no memory for the encode buffers of a flow");
	}
	return 0;
}

void pack_close(struct pack *p)
{
	if (p->codec != NULL)
		p->codec->ops->close(p->codec);
	auto_close(p->automatic);
	mem_free(p->stage, CHUNK_BYTES);
	mem_free(p->slots, p->nslots * CHUNK_BYTES);
	memset(p, 0, sizeof(*p));
}
