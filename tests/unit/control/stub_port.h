/* SPDX-License-Identifier: BSD-3-Clause */
/* A port that a test makes up. */
#ifndef STUB_PORT_H
#define STUB_PORT_H

#include <arpa/inet.h>

#include "port.h"

struct port {
	struct port_info info;
};

#endif
