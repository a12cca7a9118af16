/* SPDX-License-Identifier: BSD-3-Clause */
/* Planted bugs: each breaks one law on purpose, so that a test can prove it would be caught.
 * Only the test build (-DGODWIT_PLANT) holds them; elsewhere plant(x) is the constant false. */
#ifndef GODWIT_BASE_PLANT_H
#define GODWIT_BASE_PLANT_H

#include <stdbool.h>

enum plant {
	PLANT_NONE,
	PLANT_LAW1_READ_BEFORE_ARM, /* a page is read before its dirty bit is cleared */
	PLANT_LAW1_FORGET_TAKEN,    /* pages that were not acknowledged are not put back */
	PLANT_LAW1_CLEAR_ALL_ONES,  /* arm clears bits that the bitmap in hand does not hold */
	PLANT_LAW1_BLIND_KERNEL,    /* a write that the tracker's self-test does is not seen */
	PLANT_LAW2_FORGET_VMM,      /* what the VMM itself wrote is not counted */
	PLANT_LAW3_ARMED_TOO,       /* pages of windows that are being armed are left out as free */
	PLANT_LAW4_NEED_NOT_TELL,   /* a balloon counts whose guest need not tell */
	PLANT_LAW5_PLACE_STALE,     /* frames of a closed pass are placed */
	PLANT_LAW5_PLACE_TWICE,     /* a frame that was placed is placed again */
	PLANT_LAW6_NO_FENCE,        /* the commit goes out while the lease still holds */
	PLANT_LAW6_GIVE_BACK,       /* after silence the source takes its guest back by itself */
	PLANT_LAW7_TRUST_CHUNK,     /* a frame's chunk is not held against the region's size */
	PLANT_LAW8_NOT_HUGE,        /* huge pages that were asked for are done without */
	PLANT_LAW9_NO_LATE,         /* what was written while state was saved is not sent */
	PLANT_LAW10_PLACE_TORN,     /* a frame whose checksum does not match is placed */
	PLANT_LAW10_FORGET_TORN,    /* a torn frame's pages do not return to the dirty set */
	PLANT_LAW11_NO_NEW_HOLES,   /* holes that appear later are not sent */
	PLANT_LAW11_STALE_FILE,     /* the target's old content is not punched first */
	PLANT_LAW12_ARM_ALL,        /* a window is armed whole, whatever is dirty in it */
	PLANT_NIC_REUSE_NUMBER,     /* a part that is sent again takes an old packet number */
	PLANT_NIC_TAKE_CORRUPT,     /* a packet is taken whatever its tag says */
	PLANT_NIC_FORGET_LOST,      /* what a lost packet carried is not sent again */
	PLANT_NIC_NO_CREDIT,        /* parts are sent beyond what the target granted */
	PLANT_NIC_BARRIER_EARLY,    /* a barrier is handed out before the frames before it */
	PLANT_RDMA_BAD_KEY,         /* the source takes other keys than it was told */
	PLANT_RDMA_DROP_EARLY,      /* a window is dropped while writes to it are on their way */
};

#ifdef GODWIT_PLANT
extern enum plant plant_active; /* set by one test before its threads start */
#define plant(p) (plant_active == (p))
/* The process stands still between two steps, for good: a test kills it there. */
void plant_step(const char *name);
#else
#define plant(p)         false
#define plant_step(name) ((void)0)
#endif

#endif
