# SPDX-License-Identifier: BSD-3-Clause
"""A running, unmodified QEMU guest moves by Godwit, back and forth: memory, disk and network."""

import pytest

import qemu
from guest import Guest

pytestmark = pytest.mark.usefixtures("pagemap_scan")


@pytest.fixture(scope="module")
def guest(shared):
    made = Guest(shared, qemu.Shape(disk=qemu.disk(shared.folder / "disk"), net=shared.net()))
    yield made
    made.close()


@pytest.fixture(scope="module")
def hosts(shared):
    return shared.source(), shared.target()


@pytest.mark.parametrize("hops", [pytest.param(3, marks=pytest.mark.smoke),
                                  pytest.param(20, marks=pytest.mark.long)])
def test_hops(guest, hosts, hops):
    here, there = hosts
    for _ in range(hops):
        guest.hop((here, there), "--codec", "deflate:1" if guest.hops % 3 == 1 else "raw")
        here, there = there, here
    assert guest.at.check() > 0


def test_disk_and_connection_at_the_end(guest):
    guest.end()


@pytest.mark.long
def test_disk_past_the_page_cache(shared, hosts):
    """Refused as it is, for its reads land unseen; with the cure it hops, whole, and has its disk
    past the cache again."""
    shape = qemu.Shape(disk=qemu.disk(shared.folder / "direct"), disk_options=",cache=none")
    guest = Guest(shared, shape)
    here, there = hosts
    guest.at.wait_beats()
    said = here.run("migrate", "direct", *guest.at.way, "--to", there.address)
    assert said.returncode != 0 and "--disk-cache writeback" in said.stderr, said.stderr
    for _ in range(4):
        guest.hop((here, there), "--disk-cache", "writeback")
        nodes = guest.at.monitor.run("query-named-block-nodes", flat=True)
        assert all(node["cache"]["direct"] for node in nodes)
        here, there = there, here
    guest.end()
    guest.close()
