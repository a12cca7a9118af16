/* SPDX-License-Identifier: BSD-3-Clause */
/* The checker: what runs in the Linux guest of the end-to-end tests. Each part works in threads of
 * its own, notices what is not as it left it, and says so on the console. */
#ifndef GODWIT_GUEST_CHECKER_H
#define GODWIT_GUEST_CHECKER_H

#include <stdbool.h>
#include <stdint.h>

#define PAGE_BYTES 4096u

/* One line on the console, "guest: " before it; whole, whatever others say at the same time. */
void console_say(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The same with ERROR before it, and counted. After twenty it counts only. */
void console_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
uint64_t console_errors(void);

/* A thread for the guest's lifetime; ends the guest where it can't be had. */
void thread_start(void *(*run)(void *), void *arg);
void sleep_ms(unsigned ms);
/* Words that look like nothing before: x's successor. */
uint64_t mix(uint64_t x);

/* Memory that is written and checked: mib more of it, half in anonymous memory, half in a file of a
 * tmpfs. It is filled when this returns. */
void memory_grow(unsigned mib);
/* Pages written a second, over all. */
void memory_rate(unsigned pages);
/* Checks each page once from now on; returns their number. */
uint64_t memory_check(void);
uint64_t memory_written(void);
uint64_t memory_checked(void);

/* Memory that is taken from the kernel, must be zero, is filled and given back: mib at a time. */
void churn_start(unsigned mib);
uint64_t churn_rounds(void);

/* Files on /var/disk: written anew, synced, read back from the device. */
void disk_start(void);
/* Stops writing, reads every file back, unmounts. Returns their number. */
unsigned disk_end(void);
uint64_t disk_writes(void);

/* Sends back what TCP connections to port 7 bring. */
void echo_start(void);
uint64_t echo_bytes(void);

#endif
