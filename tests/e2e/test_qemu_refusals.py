# SPDX-License-Identifier: BSD-3-Clause
"""Which QEMU guests can't be moved: godwit doctor says so with the cure, and migrate refuses for
the same reason before anything is touched. And two machines that are not the same."""

import json
import pathlib
import subprocess
import sys

import pytest

import godwit
from godwit import GODWIT, files_of
from machine import Machine

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
    """Nothing outside of a QEMU slows its vCPUs down: it is not what helps a guest that does not
    converge, as none does to a pause of a millisecond."""
    machine, there = Machine(shared), Machine(shared, incoming=True)
    end = godwit.Migration(daemons[0], "throttled", machine, daemons[1].address, "--throttle",
                           50).failed()
    assert end["result"] == "refused" and "without --throttle" in end["error"]
    end = shared.migrate(*daemons, machine, there, "throttled", "--downtime", 1, "--max-passes",
                         2).failed()
    assert "or say --on-timeout pause" in end["error"] and "--throttle" not in end["error"]
    assert machine.state() == "running"
    machine.close()
    there.close()


@pytest.mark.parametrize("sandbox", ["off", "on"])
def test_good_one(shared, sandbox):
    """The tracker is tried, and the QEMU left as it was: as often as one likes. One whose system
    calls are filtered, too."""
    machine = Machine(shared, "-sandbox", sandbox)
    for _ in range(2):
        code, rows = doctor(*machine.way)
        assert {"tracker", "guest"} <= {r["subject"] for r in rows if r["verdict"] == "good"}, rows
    assert not [name for _, name in files_of(machine.popen.pid) if "userfaultfd" in name]
    assert machine.state() == "running"
    machine.close()


# A filter of system calls that refuses userfaultfd (323) and nothing else; then the program.
FILTERED = """
import ctypes, os, struct, sys
rules = struct.pack("HBBI" * 4, 0x20, 0, 0, 0, 0x15, 0, 1, 323,
                    6, 0, 0, 0x50001, 6, 0, 0, 0x7fff0000)
kept = ctypes.create_string_buffer(rules)
prog = ctypes.create_string_buffer(struct.pack("H6xQ", 4, ctypes.addressof(kept)))
prctl = ctypes.CDLL(None).prctl
sys.exit("no filter") if prctl(38, 1, 0, 0, 0) or prctl(22, 2, prog, 0, 0) else 0
os.execvp(sys.argv[1], sys.argv[1:])
"""


def test_only_trying_tells(shared, daemons):
    """Nothing that is looked at stands against it, and its userfaultfd is refused: doctor does not
    say that the guest can be moved, and migrate leaves it alone."""
    here = Machine(shared, before=(sys.executable, "-c", FILTERED))
    there = Machine(shared, incoming=True)
    code, rows = doctor(*here.way)
    rows = {r["subject"]: r for r in rows}
    assert code != 0 and "guest" not in rows, rows
    assert rows["tracker"]["verdict"] == "problem" and "seccomp" in rows["tracker"]["text"]
    before = here.settings()
    end = shared.migrate(*daemons, here, there, "filtered").failed()
    assert "seccomp" in end["error"]
    assert here.state() == "running" and here.settings() == before
    here.close()
    there.close()


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
    godwit.wait_until("the guest runs on", lambda: here.state() == "running")
    assert there.state() != "running"
    here.close()
    there.close()


def test_qmp_and_agent_exclude_each_other(daemons):
    assert "exactly one" in daemons[0].fails("migrate", "x", "--to", "h:1")
    assert "exactly one" in daemons[0].fails("migrate", "x", "--to", "h:1", "--agent", "a",
                                             "--qmp", "b")
    assert "--pid goes with --qmp" in daemons[0].fails("receive", "x", "--agent", "a", "--pid", "1")
    assert "--disk-cache goes with --qmp" in daemons[0].fails(
        "migrate", "x", "--to", "h:1", "--agent", "a", "--disk-cache", "writeback")
    assert "--shared-disks goes with --qmp" in daemons[0].fails(
        "migrate", "x", "--to", "h:1", "--agent", "a", "--shared-disks")
