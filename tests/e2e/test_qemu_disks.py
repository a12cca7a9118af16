# SPDX-License-Identifier: BSD-3-Clause
"""The disks of a QEMU's guest: the same images on both hosts, from the first look to the last;
those that bypass the page cache use it while they migrate, and are as they were where the guest
stays."""

import shutil
import subprocess

import pytest

import godwit
from machine import Between, Machine
from test_qemu_refusals import DISK, doctor, image

pytestmark = pytest.mark.usefixtures("pagemap_scan")


@pytest.fixture(scope="module")
def daemons(shared):
    return shared.source(), shared.target()


def test_other_image(shared, daemons):
    """The same name on both hosts, and not the same file: here by a link that changes."""
    first, other = image(shared, "first.img"), image(shared, "other.img")
    shutil.copy(first, other)
    disk = ["-device", "virtio-blk-pci,drive=d0,id=vd0", "-drive"]
    here = Machine(shared, *disk, DISK.replace("{}", str(first)))
    there = Machine(shared, *disk, DISK.replace("{}", str(other)), incoming=True)
    end = shared.migrate(*daemons, here, there, "images").failed()
    assert end["result"] == "refused" and "not the same image" in end["error"]
    daemons[1].run("cancel", "images")
    there.close()
    there = Machine(shared, *disk, DISK.replace("{}", str(first)), incoming=True)
    shared.migrate(*daemons, here, there, "images").done()
    there.close()


@pytest.fixture
def loop():
    """Makes loop devices of files."""
    made = []

    def make(path):
        done = subprocess.run(["losetup", "--find", "--show", str(path)], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=60)
        if done.returncode != 0:
            pytest.skip(f"no loop device can be had here: {done.stderr.strip()}")
        made.append(done.stdout.strip())
        return made[-1]

    yield make
    for device in made:
        subprocess.run(["losetup", "--detach", device], stdin=subprocess.DEVNULL, timeout=60)


def test_block_devices(shared, daemons, loop):
    """A device is the same by what stands behind it, not by its name; where that can't be told, a
    person has to say so."""
    first, other = image(shared, "behind1.img"), image(shared, "behind2.img")
    a, b, again = loop(first), loop(other), loop(first)
    disk = ["-device", "virtio-blk-pci,drive=d0,id=vd0", "-drive"]

    def machines(theirs, ours):
        return (Machine(shared, *disk, DISK.replace("{}", theirs)),
                Machine(shared, *disk, DISK.replace("{}", ours), incoming=True))

    here, there = machines(a, b)
    for said in ([], ["--shared-disks"]):
        end = shared.migrate(*daemons, here, there, "devices", *said).failed()
        assert end["result"] == "refused" and "not the same image" in end["error"]
        daemons[1].run("cancel", "devices")
    there.close()
    there = Machine(shared, *disk, DISK.replace("{}", again), incoming=True)
    shared.migrate(*daemons, here, there, "devices").done()
    there.close()

    other.unlink()
    here, there = machines(b, b)
    end = shared.migrate(*daemons, here, there, "devices").failed()
    assert end["result"] == "refused" and "--shared-disks" in end["error"]
    assert here.state() == "running"
    daemons[1].run("cancel", "devices")
    shared.migrate(*daemons, here, there, "devices", "--shared-disks").done()
    assert there.state() == "running"
    there.close()


def direct(machine):
    return [n["cache"]["direct"] for n in machine.monitor.run("query-named-block-nodes", flat=True)]


def test_disk_cache_writeback(shared, daemons):
    """The cure: through the page cache while it migrates, and back where the guest stays."""
    disk = ["-device", "virtio-blk-pci,drive=d0,id=vd0", "-drive",
            DISK.replace("{}", str(image(shared, "direct.img"))) + ",cache=none,aio=native"]
    here, there = Machine(shared, *disk), Machine(shared, *disk, incoming=True)
    assert all(direct(here))
    assert doctor(*here.way, "--disk-cache", "writeback")[0] == doctor()[0]
    held = shared.migrate(*daemons, here, there, "direct", "--disk-cache", "writeback", "--hold")
    daemons[0].wait_state("direct", "holding")
    assert not any(direct(here))
    daemons[0].ok("cancel", "direct")
    held.failed()
    godwit.wait_until("the disk is as it was", lambda: all(direct(here)))
    there.close()
    there = Machine(shared, *disk, incoming=True)
    shared.migrate(*daemons, here, there, "direct", "--disk-cache", "writeback").done()
    assert there.state() == "running" and all(direct(there))
    there.close()


def test_disk_that_comes_meanwhile(shared, daemons):
    """Looked at again before the guest is paused: it runs on."""
    here, there = Machine(shared), Machine(shared, incoming=True)
    held = shared.migrate(*daemons, here, there, "late", "--hold")
    daemons[0].wait_state("late", "holding")
    here.monitor.run("blockdev-add", driver="file", node_name="f0", cache={"direct": True},
                     filename=str(image(shared, "late.img")))
    daemons[0].ok("switch-now", "late")
    assert "bypasses the page cache" in held.failed()["error"]
    assert here.state() == "running"
    here.close()
    there.close()


@pytest.mark.parametrize("side", ["source", "target"])
def test_another_medium_meanwhile(shared, daemons, side):
    """The disks of both were compared; now one of them is another."""
    disk = ["-device", "ide-cd,drive=d0,id=cd0", "-drive",
            DISK.replace("{}", str(image(shared, "cd1.img"))) + ",readonly=on"]
    here, there = Machine(shared, *disk), Machine(shared, *disk, incoming=True)
    held = shared.migrate(*daemons, here, there, "medium", "--hold")
    daemons[0].wait_state("medium", "holding")
    {"source": here, "target": there}[side].monitor.run(
        "blockdev-change-medium", id="cd0", force=True, filename=str(image(shared, "cd2.img")))
    daemons[0].ok("switch-now", "medium")
    assert "cd0 came, went or has another image" in held.failed()["error"]
    godwit.wait_until("the guest runs on", lambda: here.state() == "running")
    assert there.state() != "running"
    here.close()
    there.close()


def test_daemon_dies_with_cached_disks(shared, daemons):
    """The keeper puts the disk back too."""
    disk = ["-device", "virtio-blk-pci,drive=d0,id=vd0", "-drive",
            DISK.replace("{}", str(image(shared, "kept.img"))) + ",cache=none"]
    here, there = Machine(shared, *disk), Machine(shared, *disk, incoming=True)
    source = shared.daemon("other", keys=godwit.keys_for("source"))
    shared.migrate(source, daemons[1], here, there, "kept", "--disk-cache", "writeback", "--hold")
    source.wait_state("kept", "holding")
    assert not any(direct(here))
    source.kill()
    godwit.wait_until("the disk is as it was", lambda: all(direct(here)))
    assert here.state() == "running"
    here.close()
    there.close()


def with_monitors_between(shared, name):
    """Two QEMUs with a disk that bypasses the page cache, and what stands before their monitors."""
    disk = ["-device", "virtio-blk-pci,drive=d0,id=vd0", "-drive",
            DISK.replace("{}", str(image(shared, f"{name}.img"))) + ",cache=none"]
    machines = Machine(shared, *disk), Machine(shared, *disk, incoming=True)
    between = [Between(m, shared.folder / f"{m.name}.between") for m in machines]
    shared.wires += between
    return *machines, *between


def test_refused_with_cached_disks(shared, daemons):
    """The guest comes back after the commit: its disk is as it was, and that nobody could be told
    where it is, is said."""
    here, there, at_source, at_target = with_monitors_between(shared, "refused")
    at_source.plan("announce-self", "error")
    at_target.plan("cont", "garbage")
    since = len(daemons[0].lines)
    shared.migrate(*daemons, at_source, at_target, "refused", "--disk-cache", "writeback").failed()
    there.wait()
    godwit.wait_until("the guest runs on", lambda: here.state() == "running")
    godwit.wait_until("the disk is as it was", lambda: all(direct(here)))
    daemons[0].wait_line("<warning> refused: .*announce-self.*planted", since)
    here.close()


def test_undecided_with_cached_disks(shared, daemons):
    """The same, by a daemon that knows the session from its journal only."""
    here, there, at_source, at_target = with_monitors_between(shared, "undecided")
    at_target.plan("cont", "silence")
    source = shared.daemon("other", keys=godwit.keys_for("source"))
    shared.migrate(source, daemons[1], at_source, at_target, "undecided", "--disk-cache",
                   "writeback")
    godwit.wait_until("the guest was committed", lambda: "cont" in at_target.seen)
    source.kill()
    source = shared.daemon("other", keys=godwit.keys_for("source"))
    there.kill()
    assert here.state() == "postmigrate"
    at_source.plan("announce-self", "error")
    source.ok("resolve", "undecided", "--keep", "source")
    assert here.state() == "running" and all(direct(here))
    source.wait_line("<warning> undecided: .*announce-self.*planted")
    source.close()
    here.close()


@pytest.mark.parametrize("how", ["paused", "resumed", "can't be put back",
                                 pytest.param("resumed before", marks=pytest.mark.long)])
def test_kept_as_it_is(shared, daemons, how):
    """Undecided, and the guest is already as it is to be: resumed by hand, or paused by others
    before it was to go. Its disk is not, and that is seen to."""
    here, there, at_source, _ = with_monitors_between(shared, how.replace(" ", "-"))
    name, broken = how.replace(" ", "-").replace("'", ""), how == "can't be put back"
    if how == "paused":
        here.monitor.run("stop")
    source = shared.daemon("other", keys=godwit.keys_for("source"), plant="step:fenced")
    migration = shared.migrate(source, daemons[1], at_source, there, name, "--disk-cache",
                               "writeback")
    source.wait_line("stands at step fenced")
    source.kill()
    migration.wait()
    there.close()
    assert here.state() == "postmigrate" and not any(direct(here))
    if how == "resumed before":
        here.monitor.run("cont")
    source = shared.daemon("other", keys=godwit.keys_for("source"))
    if how == "resumed":
        here.monitor.run("cont")
    if broken:
        at_source.plan("announce-self", "error", ("human-monitor-command", "error"))
    if how != "resumed before":
        source.ok("resolve", name, "--keep", "source")
    assert here.state() == ("postmigrate" if how == "paused" else "running")
    assert all(direct(here)) != broken
    if broken:
        source.wait_line(f"<warning> {name}: .*announce-self.*Moreover.*human-monitor-command")
    source.close()
    here.close()
