# SPDX-License-Identifier: BSD-3-Clause
"""What the tests of QEMU guests stand on: the guest survives migrations that are known to be right,
and its checker notices what a wrong one would do. Godwit has no part in this file. The tests
share one guest, which moves on from each to the next."""

import os

import pytest

import qemu
from guest import Guest


@pytest.fixture(scope="module")
def guest(shared):
    made = Guest(shared, qemu.Shape(disk=qemu.disk(shared.folder / "disk"), net=shared.net()))
    yield made
    made.close()


@pytest.mark.parametrize("move", [qemu.move_by_qemu, qemu.move_by_hand, qemu.move_by_hand])
def test_guest_survives_a_right_migration(guest, move):
    there = guest.waiting()
    last = guest.at.wait_beats()
    move(guest.at, there, guest.stage.folder / f"{there.name}.state")
    there.monitor.run("announce-self", initial=50, max=550, rounds=5, step=100)
    guest.arrived(there, last)
    assert guest.at.check() > 0


def test_disk_is_clean(guest):
    guest.at.disk_clean()


def test_checker_notices_a_lost_write(guest):
    """A page of the checker's gets the content that it had before: whole, and old."""
    at = guest.at
    at.ask("rate 0", "rate 0")
    path, size = at.paths[0], os.stat(at.paths[0]).st_size
    with open(path, "r+b") as file:
        before = file.read(size)
        at.ask("rate 2000", "rate 2000")
        at.wait_beats(3)
        at.ask("rate 0", "rate 0")
        file.seek(0)
        after = file.read(size)
        planted = 0
        for page in range(0, size, qemu.PAGE):
            old, new = (image[page:page + qemu.PAGE] for image in (before, after))
            # The checker's: number, count, words; here a page whose count has grown by one.
            if old[:8] == new[:8] and old[16:24] != new[16:24] and \
                    int.from_bytes(old[8:16], "little") + 1 == int.from_bytes(new[8:16], "little"):
                os.pwrite(file.fileno(), old, page)
                planted += 1
                break
    assert planted
    at.ask("check", r"whole \d+ pages, [1-9]\d* errors")
    assert "its last write was" in at.complaints()[0]


