# SPDX-License-Identifier: BSD-3-Clause
"""The target's memory was there when the migration began, and is gone in the middle of a pass: an
error, and no SIGBUS that ends the daemon or its QEMU. The guest runs on, and moves when there is
room."""

import mmap
import os
import subprocess

import pytest

from conftest import reserve_hugepages
from godwit import wait_until
from machine import Between, Machine

pytestmark = pytest.mark.usefixtures("pagemap_scan")

MIB = 1 << 20
GUEST_MIB, USED_MIB, ROOM_MIB = 64, 48, 72
KINDS = {"tmpfs": ("tmpfs", f"size={ROOM_MIB}m", "share=on"),
         "2M": ("hugetlbfs", f"pagesize=2M,size={ROOM_MIB}M", "share=on,reserve=off")}


@pytest.fixture
def small(request, tmp_path):
    """A folder with room for one guest and little more, and how QEMU takes memory from it."""
    kind, size, ram = KINDS[request.param]
    pages = reserve_hugepages(ROOM_MIB) if request.param == "2M" else iter([None])
    next(pages)
    try:
        if subprocess.run(["mount", "-t", kind, "-o", size, "none", tmp_path],
                          capture_output=True).returncode != 0:
            pytest.skip(f"{kind} can't be mounted here: not root")
        yield tmp_path, ram
        subprocess.run(["umount", "-l", tmp_path], check=True)
    finally:
        next(pages, None)


def populate(path):
    """As if the guest had used it."""
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), GUEST_MIB * MIB) as memory:
        for at in range(USED_MIB * MIB // 4, USED_MIB * MIB, mmap.PAGESIZE):
            memory[at:at + 8] = b"content!"


def fill(folder):
    """Takes all that is left."""
    with open(folder / "filler", "wb") as file:
        at = 0
        try:
            while True:
                os.posix_fallocate(file.fileno(), at, 2 * MIB)
                at += 2 * MIB
        except OSError:
            pass
    assert at > 0
    return folder / "filler"


def goes(stage, pair, here, folder, ram):
    again = Machine(stage, mib=GUEST_MIB, incoming=True, folder=folder, ram=ram)
    stage.migrate(*pair, here, again, "again", "--verify", "memory").done()
    assert again.state() == "running"


@pytest.mark.parametrize("small", ["tmpfs"], indirect=True)
def test_grown_since_it_was_ready(stage, pair, small):
    """What a guest took while its beginning was waited for is looked for before anything goes."""
    source, target = pair
    folder, ram = small
    here = Machine(stage, mib=GUEST_MIB)
    there = Machine(stage, mib=GUEST_MIB, incoming=True, folder=folder, ram=ram)
    migration = stage.migrate(source, target, here, there, "guest", "--prepare")
    source.wait_state("guest", "ready")
    populate(here.path)
    filler = fill(folder)
    source.ok("begin", "guest")
    end = migration.failed()
    assert "free" in end["error"], end["error"]
    assert here.state() == "running"
    there.close()
    filler.unlink()
    goes(stage, pair, here, folder, ram)


@pytest.mark.parametrize("small", ["tmpfs", pytest.param("2M", marks=pytest.mark.long)],
                         indirect=True)
def test_memory_goes_away_meanwhile(stage, pair, small):
    source, target = pair
    folder, ram = small
    here = Machine(stage, mib=GUEST_MIB)
    there = Machine(stage, mib=GUEST_MIB, incoming=True, folder=folder, ram=ram)
    populate(here.path)
    migration = stage.migrate(source, target, here, there, "guest", "--bandwidth", "4M",
                              "--codec", "raw", "--reconnect", 0)
    wait_until("pages go", lambda: (source.status("guest") or {"report": {}})["report"].get(
        "pages_data", 0) > 500)
    filler = fill(folder)
    source.ok("set", "guest", "--bandwidth", 0)
    end = migration.failed()
    assert end["result"] == "failed"
    assert "its tmpfs or pool of huge pages is used up" in end["error"]
    assert here.state() == "running"
    assert target.alive() and there.alive()
    there.close()
    filler.unlink()
    goes(stage, pair, here, folder, ram)


SAYS = {"late": "its tmpfs or pool of huge pages is used up",
        "load": "the file system of its RAM file has"}


@pytest.mark.parametrize("small", ["tmpfs"], indirect=True)
@pytest.mark.parametrize("at", SAYS)
def test_memory_goes_away_in_the_pause(stage, pair, small, at):
    """The guest has not changed hands: it comes back. While its state is saved nothing is left at
    the target: neither for what saving wrote, nor for what loading and running would take."""
    folder, ram = small
    here = Machine(stage, mib=GUEST_MIB)
    there = Machine(stage, mib=GUEST_MIB, incoming=True, folder=folder, ram=ram)
    populate(here.path)
    said = here.monitor.run("human-monitor-command", command_line=f"gpa2hva {50 * MIB:#x}")
    address = int(said.split(" is ")[1], 16)
    between = Between(here, stage.folder / "between.qmp")
    stage.wires.append(between)
    original, fillers = between._command, []

    def save(client, line):
        if b'"migrate"' in line:
            fillers.append(fill(folder))
            if at == "late":
                with open(f"/proc/{here.popen.pid}/mem", "r+b", buffering=0) as memory:
                    memory.seek(address)
                    memory.write(b"late" * MIB)
        return original(client, line)
    between._command = save
    end = stage.migrate(*pair, between, there, "guest", "--codec", "raw").failed()
    assert end["result"] == "failed" and SAYS[at] in end["error"], end["error"]
    wait_until("the guest runs on", lambda: here.state() == "running")
    assert pair[1].alive() and there.alive()
    there.close()
    fillers[0].unlink()
    goes(stage, pair, here, folder, ram)
