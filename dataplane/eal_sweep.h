/* SPDX-License-Identifier: BSD-3-Clause */
/* The folders NAME-PID in which DPDK keeps the telemetry socket of a process. */
#ifndef GODWIT_DATAPLANE_EAL_SWEEP_H
#define GODWIT_DATAPLANE_EAL_SWEEP_H

/* Removes the folders NAME-PID in `base` whose process was killed before it could. Only what is
 * surely such a one goes: a folder of this user, of a process that is not there, whose socket
 * nobody listens on (the process may be of another PID namespace). Returns how many went. */
unsigned eal_sweep(const char *base, const char *name);

/* Removes the folder and the files in it. 0 or -errno: not of this user, not empty. */
int eal_sweep_one(int base, const char *name);

#endif
