# SPDX-License-Identifier: BSD-3-Clause
"""The cases of cases.py in which the device of one machine, on which both hosts are, goes away."""

import godwit
from cases import TURNS, begin, held, needs, stays, told


def port_down(source, target):
    """The device's port goes down while pages move. On one machine: nothing else is lost, and one
    of the daemons sees it first."""
    migration = held(source, target, "--reconnect", "0")
    since = source.lines(), target.lines()
    source.run("ip", "link", "set", "eth0", "down")
    stays(source, migration, "rdma: ")
    assert target.ended("guest") == "failed"
    told(source, target, since, "port went down; check its cable")
    source.run("ip", "link", "set", "eth0", "up")
    source.close()
    target.close()
    source.run("rdma", "link", "delete", "rxe0")  # it connects to nobody after that
    source.run("rdma", "link", "add", "rxe0", "type", "rxe", "netdev", "eth0")


def device_back(source, target, removal):
    """Soft-RoCE lets a device go when no process has it open, and librdmacm keeps the last one
    so."""
    source.close()
    target.close()
    assert removal.wait() == 0
    source.run("rdma", "link", "add", "rxe0", "type", "rxe", "netdev", "eth0")


def removed_ready(source, target):
    """The device is removed while both hosts wait for the operator to begin: nothing moves, so no
    flow tells them, and nobody else does."""
    migration = begin(source, target, "--prepare")
    source.daemon.wait_state("guest", "ready")
    removal = godwit.Child("removal", ["rdma", "link", "delete", "rxe0"])
    stays(source, migration, "was removed")
    assert target.ended("guest") == "failed"
    device_back(source, target, removal)


# As ipv6(), which comes before it.
@needs(both={"rdma": 6}, source={"mtu": 1024}, target={"locked": TURNS})
def removed(source, target):
    """The device is removed while pages move. On one machine: it is that of both daemons."""
    since = source.lines(), target.lines()
    migration = held(source, target, reserve="populate", vm=("--churn", "50"), memory="40M")
    removal = godwit.Child("removal", ["rdma", "link", "delete", "rxe0"])
    stays(source, migration, "was removed")
    source.log("device rxe0 was removed or has failed", since[0])
    target.log("device rxe0 was removed or has failed", since[1])
    stays(source, begin(source, target), "no RDMA device")
    device_back(source, target, removal)
