// SPDX-License-Identifier: BSD-3-Clause
// Free pages in pass 0 (law 3). Run by the control loop.
//
// A report speaks of the past: the page was free at some time between the request and the answer.
// So all that may be left out is armed before the request goes out; the answer is taken together
// with a look that comes after it, and a page that was written since it was armed is sent. One that
// is written later is found by the next pass' look. What a source was never armed for it reports in
// that look too, and so it is not left out: a mistake in the order costs pages, not memory.
// What may never happen is that a report is consumed and its page is not sent. Arming consumes
// reports, so a page of a window that was asked for is not left out any more.

#include "pass.h"

#include "bits.h"
#include "plant.h"

/* Law 3, all of it is armed: the guest is asked, and nobody waits for it. */
void pass_free_ask(struct pass *p)
{
	p->prearm = false;
	p->cursor = 0;
	p->free_id = 1;
	p->io->free_request(p->io_arg, p->free_id);
}

void pass_free_poll(struct pass *p)
{
	uint64_t now;

	if (p->free_id == 0 || p->free_asking || p->free_ended)
		return;
	now = clock_ns();
	if (now - p->free_asked_ns < p->free_rest_ns)
		return;
	p->free_asked_ns = now;
	p->free_asking = true;
	p->io->free_look(p->io_arg, p->free_id);
}

/* Law 3: what is sent is (all - reported) OR what the look after the report returned. Where the
 * target holds something, it becomes a hole there. */
static void leave_free(void *arg, uint64_t chunk, uint64_t bits)
{
	struct pass *p = arg;
	uint64_t out = p->dirty->set[chunk] & bits, held = p->dirty->held[chunk];

	out &= ~p->out[chunk]; /* for the sums: pass_take_out() would bring them back */
	p->dirty->set[chunk] &= ~out;
	if ((out & held) != 0)
		p->dirty->hole[chunk] |= out & held;
	exclude_leave(p->x, chunk, out);
	p->facts.free_pages += bits_count(out);
}

void pass_free_looked(struct pass *p, int status, uint64_t pages, bool ended, const struct err *why)
{
	p->free_asking = false;
	/* Late: the pass is published, or over. What the look reported is reported again. */
	if (p->state != PASS_RUNNING || p->free_id == 0)
		return;
	if (status < 0) {
		pass_fail(p, why);
		return;
	}
	p->free_ended = ended;
	if (pages == 0)
		return;
	/* Windows that were asked for are being armed: they go as they are. */
	exclude_take_free(p->x, plant(PLANT_LAW3_ARMED_TOO) ? 0 : p->cursor, leave_free, p);
	pass_take_out(p);
}

void pass_free_close(struct pass *p)
{
	if (p->free_id != 0)
		p->io->free_request(p->io_arg, 0);
	p->free_id = 0;
}
