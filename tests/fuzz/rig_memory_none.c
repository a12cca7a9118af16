// SPDX-License-Identifier: BSD-3-Clause
// Stands for rig_memory.c where there is no rdma-core: nothing is registered.

#include "session_rig.h"

void rig_turns(struct session *s)
{
	(void)s;
}

void rig_register(struct session *s, bool refuse)
{
	(void)s;
	(void)refuse;
}

void rig_turns_end(struct session *s)
{
	(void)s;
}
