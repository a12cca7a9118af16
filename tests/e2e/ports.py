# SPDX-License-Identifier: BSD-3-Clause
"""Ports for the daemons of tests, which are named before they listen."""

import contextlib
import itertools
import random
import socket


def ports():
    """Below those that the kernel gives to who asks for any, where there is room: between a look at
    one and its use nobody else takes it. Each process of tests begins at another."""
    first = 12000
    with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as file:
        count = int(file.read().split()[0]) - first
    count = count if count > 1000 else 40000
    begin = random.SystemRandom().randrange(count)
    return (first + (begin + n) % count for n in itertools.count())


PORTS = ports()


def free_port():
    for port in itertools.islice(PORTS, 1000):
        with contextlib.suppress(OSError), socket.socket() as s:
            s.bind(("127.0.0.1", port))
            return port
    raise AssertionError("a thousand ports are taken")
