/* SPDX-License-Identifier: BSD-3-Clause */
/* Small files of /sys and /proc: one line, a number, a link. Blocks for microseconds; control
 * threads only. Paths are formats, so that callers say where they look in one line. */
#ifndef GODWIT_CONTROL_SYSFS_H
#define GODWIT_CONTROL_SYSFS_H

#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SYSFS_TEXT 256u

/* The first line, without its end. 0, or -errno with buf "" (ENOENT, or EINVAL: the kernel has no
 * value now). */
int sysfs_text(char buf[SYSFS_TEXT], const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A number, decimal or 0x; or fallback where there is none. */
int64_t sysfs_number(int64_t fallback, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Last part of what a link points to: "virtio_net" of a device's driver. -errno with buf "". */
int sysfs_link(char buf[SYSFS_TEXT], const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A list of CPUs; empty where there is none. */
void sysfs_cpus(cpu_set_t *set, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Names in a folder, sorted, without those that begin with a dot. Returns how many, 0 if there is
 * no such folder; free each and the array with sysfs_names_free(). */
unsigned sysfs_names(char ***names, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void sysfs_names_free(char **names, unsigned n);

#endif
