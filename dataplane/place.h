/* SPDX-License-Identifier: BSD-3-Clause */
/* Writes what a frame says into the target's guest memory. Which frames may be placed at all (pass,
 * twice, torn) is decided before, in recv.c. */
#ifndef GODWIT_DATAPLANE_PLACE_H
#define GODWIT_DATAPLANE_PLACE_H

#include <stdbool.h>
#include <stdint.h>

#include "flow.h"
#include "frame.h"

/* Places a CHUNK, ZERO or HOLE frame that passed frame_check() against job->map. pages: the decoded
 * pages of f->data, contiguous, lowest first; NULL when there are none, or they
 * are in their place already.
 *
 * True when all of it is placed and visible to other cores; holes are then queued, and made once
 * punch_done() says so. False when there is more to do (the punch queue is full, or the frame is so
 * large that other flows want a turn): call again later with the same arguments, nothing else of
 * this flow in between. *at is where it goes on, in chunks of the frame; 0 for a new frame. */
bool place_frame(struct recv_job *job, const struct frame *f, const uint8_t *pages, uint32_t *at);

#endif
