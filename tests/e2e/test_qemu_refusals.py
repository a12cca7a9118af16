# SPDX-License-Identifier: BSD-3-Clause
"""Which QEMU guests can't be moved: godwit doctor says so with the cure, and migrate refuses for
the same reason before anything is touched. And two machines that are not the same."""

import json
import os
import pathlib
import shutil
import subprocess

import pytest

import godwit
from godwit import GODWIT
from machine import Between, Machine

pytestmark = pytest.mark.usefixtures("pagemap_scan")


@pytest.fixture(scope="module")
def daemons(shared):
    return shared.source(), shared.target()


def doctor(*way):
    """Its exit code, and its rows about the guest."""
    done = subprocess.run([str(a) for a in (GODWIT, "doctor", *way, "--json")],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    rows = json.loads(done.stdout)["rows"]
    return done.returncode, [r for r in rows if r["group"] == "guest"]


def problems(*way):
    return {r["subject"]: r for r in doctor(*way)[1] if r["verdict"] == "problem"}


def image(stage, name):
    path = pathlib.Path(stage.folder) / name
    with open(path, "wb") as file:
        file.truncate(1 << 20)
    return path


DISK = "file={},format=raw,if=none,id=d0"
REFUSED = {
    "ram-private": (dict(ram="share=off"), [], "share=on"),
    "disk-direct": ({}, ["-drive", DISK + ",cache=none", "-device", "virtio-blk-pci,drive=d0"],
                    "--disk-cache writeback"),
    "device": ({}, ["-object", "memory-backend-file,id=s0,size=1M,mem-path={},share=on", "-device",
                    "ivshmem-plain,memdev=s0"], "unplug"),
    "blocked": ({}, ["-device", "ivshmem-plain,memdev=s0", "-object",
                     "memory-backend-file,id=s0,size=1M,mem-path={},share=on"], "QEMU"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(shared, daemons, name):
    how, args, cure = REFUSED[name]
    args = [a.replace("{}", str(image(shared, f"{name}.img"))) for a in args]
    machine = Machine(shared, *args, **how)
    found = problems(*machine.way)
    assert name in found, found
    assert cure in found[name]["cure"] or cure in found[name]["text"]
    before = machine.settings()
    end = godwit.Migration(daemons[0], f"refused-{name}", machine, daemons[1].address).failed()
    assert end["result"] == "refused" and end["error"]
    assert machine.state() == "running" and machine.settings() == before
    machine.close()


def test_throttle_is_refused(shared, daemons):
    """Nothing outside of a QEMU slows its vCPUs down."""
    machine = Machine(shared)
    end = godwit.Migration(daemons[0], "throttled", machine, daemons[1].address, "--throttle",
                           50).failed()
    assert end["result"] == "refused" and "without --throttle" in end["error"]
    assert machine.state() == "running"
    machine.close()


@pytest.mark.parametrize("sandbox", ["off", "on"])
def test_good_one(shared, sandbox):
    """The tracker is tried, and the QEMU left as it was: as often as one likes. One whose system
    calls are filtered, too."""
    machine = Machine(shared, "-sandbox", sandbox)
    for _ in range(2):
        code, rows = doctor(*machine.way)
        assert {"tracker", "guest"} <= {r["subject"] for r in rows if r["verdict"] == "good"}, rows
    fds = pathlib.Path(f"/proc/{machine.popen.pid}/fd")
    assert not [fd for fd in fds.iterdir() if "userfaultfd" in os.readlink(fd)]
    assert machine.state() == "running"
    machine.close()


@pytest.mark.parametrize("backend", ["memory-backend-memfd,share=on",
                                     "memory-backend-ram,share=on"])
def test_shared_without_a_name(shared, backend):
    """Before QEMU 8.1 any shared backend is left out of the device state; later only files are."""
    machine = Machine(shared, "-object", f"{backend},id=ram0,size=32M", "-machine",
                      "memory-backend=ram0", ram=None)
    found = problems(*machine.way)
    version = machine.monitor.run("query-version")["qemu"]
    named_only = (version["major"], version["minor"]) >= (8, 1)
    assert ("ram-unnamed" in found) == named_only
    if not named_only:
        assert not found, found
    machine.close()


DIFFERENT = {
    "the machine type": (["-machine", "pc"], []),
    "the CPU model": (["-cpu", "qemu64"], ["-cpu", "Nehalem"]),
    "the features of the CPU": (["-cpu", "qemu64"], ["-cpu", "qemu64,-sse3"]),
    "the number of CPUs": (["-smp", "2"], ["-smp", "1,maxcpus=2"]),
    "a device": (["-device", "virtio-rng-pci,addr=5"], ["-device", "virtio-rng-pci,addr=6"]),
    "the size of the memory": ([], ["-m", "32M,slots=4,maxmem=2G"]),
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_different_machines(shared, daemons, what):
    here, there = (Machine(shared, *args, incoming=side == 1)
                   for side, args in enumerate(DIFFERENT[what]))
    end = shared.migrate(*daemons, here, there, "different").failed()
    assert end["result"] == "refused" and what in end["error"], end["error"]
    assert here.state() == "running"
    daemons[1].run("cancel", "different")
    here.close()
    there.close()


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


def plug(machine, path):
    """16 MiB more, shared, as a DIMM: what QEMU leaves out of its device state."""
    machine.monitor.run("object-add", qom_type="memory-backend-file", id="more0", share=True,
                        size=16 << 20, mem_path=str(path))
    machine.monitor.run("device_add", driver="pc-dimm", id="dimm0", memdev="more0")


@pytest.mark.parametrize("sides", ["source", "target", "both"])
def test_memory_that_comes_meanwhile(shared, daemons, sides):
    """It is in no region, and in no QEMU's state: plugged into both, nobody else would miss it."""
    here, there = Machine(shared), Machine(shared, incoming=True)
    name = f"plugged-{sides}"
    held = shared.migrate(*daemons, here, there, name, "--hold")
    daemons[0].wait_state(name, "holding")
    for machine in [m for m, side in ((here, "source"), (there, "target"))
                    if sides in (side, "both")]:
        plug(machine, shared.folder / f"{machine.name}.more")
    daemons[0].ok("switch-now", name)
    assert "memory dimm0 came meanwhile" in held.failed()["error"]
    assert here.state() == "running" and there.state() != "running"
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
    assert here.state() == "running"
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


@pytest.mark.parametrize("how", ["paused", "resumed", "resumed before", "can't be put back"])
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


def test_qmp_and_agent_exclude_each_other(daemons):
    assert "exactly one" in daemons[0].fails("migrate", "x", "--to", "h:1")
    assert "exactly one" in daemons[0].fails("migrate", "x", "--to", "h:1", "--agent", "a",
                                             "--qmp", "b")
    assert "--pid goes with --qmp" in daemons[0].fails("receive", "x", "--agent", "a", "--pid", "1")
    assert "--disk-cache goes with --qmp" in daemons[0].fails(
        "migrate", "x", "--to", "h:1", "--agent", "a", "--disk-cache", "writeback")
    assert "--shared-disks goes with --qmp" in daemons[0].fails(
        "migrate", "x", "--to", "h:1", "--agent", "a", "--shared-disks")
