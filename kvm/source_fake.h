/* SPDX-License-Identifier: BSD-3-Clause */
/* Dirty source "fake", for tests: writes are told by the test, and a hook runs between any two
 * steps of look and arm, so that every interleaving can be played on one thread. */
#ifndef GODWIT_KVM_SOURCE_FAKE_H
#define GODWIT_KVM_SOURCE_FAKE_H

#include <stdint.h>

#include "source.h"

/* Page (chunk * 64 + bit) was written. Ignored while stopped. */
void source_fake_write(struct source *s, uint64_t page);

/* fn(arg) is called between the steps: before each word that look or arm handles. It may call
 * source_fake_write. NULL: none. */
void source_fake_step(struct source *s, void (*fn)(void *arg), void *arg);

#endif
