# SPDX-License-Identifier: BSD-3-Clause
"""A running, unmodified QEMU guest moves between two daemons."""

import pytest

import qemu

pytestmark = [pytest.mark.smoke, pytest.mark.usefixtures("pagemap_scan")]


def test_guest_moves(stage, pair):
    shape = qemu.Shape()
    here, there = stage.qemu(shape), stage.qemu(shape, incoming=True)
    last = here.wait_beats()
    vcpus = len(here.monitor.run("query-cpus-fast"))
    report = stage.migrate(*pair, here, there, "guest", "--verify", "memory",
                           "--downtime", "5s").done()
    assert report["verified_pages"] > 0
    assert report["stall"]["vcpus"] == vcpus
    assert report["stall"]["over_ms"] > 0
    assert there.wait_beats() > last
    assert there.check() > 0
    assert here.wait() == 0
