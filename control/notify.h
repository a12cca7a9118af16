/* SPDX-License-Identifier: BSD-3-Clause */
/* Tells the service manager how the daemon stands, as sd_notify(3) specifies. */
#ifndef GODWIT_CONTROL_NOTIFY_H
#define GODWIT_CONTROL_NOTIFY_H

/* state: "READY=1", "STOPPING=1". Does nothing where no manager asked for it. */
void notify_manager(const char *state);

#endif
