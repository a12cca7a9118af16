/* SPDX-License-Identifier: BSD-3-Clause */
/* The cores that move pages: chosen, checked and started. Control thread. */
#ifndef GODWIT_CONTROL_WORKERS_H
#define GODWIT_CONTROL_WORKERS_H

#include <jansson.h>

#include "lcore.h"
#include "option.h"
#include "ports.h"

/* Starts EAL as the options cores, idle, memory and huge say, with what the ports need, and logs
 * what was chosen, and warnings. 0 or -errno with e set. */
int workers_start(
	const struct option_set *o, struct ports *ports, struct eal_info *info, struct err *e);

/* An object for each: lcore, cpu, node, busy_s, idle_s. New reference. */
json_t *workers_status(void);

/* Families of metrics about them, see expo.h. */
void workers_metrics(void *arg, FILE *out);

#endif
