/* SPDX-License-Identifier: BSD-3-Clause */
/* 2 MiB pages for a test, reserved for as long as it needs them. */
#ifndef GODWIT_TESTS_KVM_HUGE_H
#define GODWIT_TESTS_KVM_HUGE_H

#include <stdint.h>

#define HUGE_BYTES (UINT64_C(2) << 20)

/* Reserves n huge pages more, or gives back as many (n < 0). How many it was. Others do the same at
 * the same time: a lock keeps them apart. */
long huge_add(long n);

#endif
