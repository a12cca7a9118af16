# SPDX-License-Identifier: BSD-3-Clause
"""Guest memory that is mapped for a device that reads by DMA, and such that is not, with the
reason. The device is a tap, which needs no map; DPDK's calls are made for it all the same."""

import pytest

from fabric import Taps


def over_taps(stage, *args, **how):
    """The guest has memory that is there from the start, more than a window of it."""
    source, target, net = stage.joined(Taps, **how)
    net.up()
    vm = stage.vm(memory="128M", args=["--vcpus", 2, "--pattern", "random", "--rate", 1000, *args])
    waiting = stage.waiting(memory="128M")
    last = vm.wait_ticks()
    migration = stage.migrate(source, target, vm, waiting, "guest", "--link", "nic", "--verify",
                              "memory", "--downtime", 2000, "--max-passes", 4)
    return migration, waiting, last


@pytest.mark.insecure  # sealed pages are copied
def test_memory_mapped_for_a_device(stage):
    """Windows of guest memory are registered and mapped by DPDK's calls; pages go as they lie."""
    migration, waiting, last = over_taps(stage, more="zero-copy = yes\n")
    port = migration.done()["port"]
    said = " ".join(e["text"] for e in migration.events() if e["event"] == "log")
    assert "device checksums" in said  # else who reads them would have dropped all
    assert port["zero_copy"] and port["mapped_bytes"] >= 64 << 20
    assert port["copies"].endswith("windows that are not populated whole")  # those at the start
    assert waiting.wait_ticks() > last
    waiting.whole()


@pytest.mark.insecure
@pytest.mark.long
def test_memory_that_may_go_is_not_mapped(stage):
    """A guest that gives pages back is copied, and told why; who wants nothing else is refused."""
    migration, waiting, last = over_taps(stage, "--free", 20, "--balloon", 10)
    port = migration.done()["port"]
    assert not port["zero_copy"] and port["mapped_bytes"] == 0
    assert "may give pages back" in port["copies"]
    assert waiting.wait_ticks() > last
    waiting.whole()


@pytest.mark.insecure
@pytest.mark.long
def test_memory_that_may_go_and_no_copy_exclude_each_other(stage):
    migration, _, _ = over_taps(stage, "--free", 20, "--balloon", 10, more="zero-copy = yes\n")
    assert "may give pages back" in migration.failed()["error"]
