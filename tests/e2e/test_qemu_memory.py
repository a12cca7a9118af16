# SPDX-License-Identifier: BSD-3-Clause
"""What a QEMU guest's memory may be like: above 4 GiB, of several backends, plugged in later, on 2
MiB pages; given back by a balloon while it moves; free pages that the guest knows to be zero."""

import itertools
import pathlib
import subprocess
import threading
import time

import pytest

import qemu
from conftest import add_hugepages
from guest import Guest
from machine import Machine

pytestmark = pytest.mark.usefixtures("pagemap_scan")

DIMM = qemu.Ram(256, "dimm0")
HIGH = (qemu.Ram(3072, "ram0"), qemu.Ram(1536, "ram1"))  # the second one above the hole


@pytest.fixture(scope="module")
def hosts(shared):
    return shared.source(), shared.target()


@pytest.fixture
def start(shared):
    made = []

    def begin(shape):
        made.append(Guest(shared, shape))
        return made[-1]

    yield begin
    for guest in made:
        guest.close()
        guest.at.close()


def hops(guest, hosts, number=2, *how):
    here, there = hosts
    for _ in range(number):
        report = guest.hop((here, there), *how)
        here, there = there, here
    guest.end()
    return report


def grown(guest, mib):
    """The guest works on so much more memory."""
    guest.at.ask(f"grow {mib}", rf"grown {mib}")
    guest.at.no_complaint()


@pytest.mark.parametrize("machine", ["q35", pytest.param("pc", marks=pytest.mark.long)])
def test_two_nodes_above_4_gib_and_a_dimm(start, hosts, machine):
    """Three RAM files, one of them split by the hole below 4 GiB, one that came later."""
    guest = start(qemu.Shape(ram=HIGH, memory="4608M,slots=2,maxmem=8G", machine=machine,
                             append="memhp_default_state=online"))
    guest.at.plug(DIMM)
    hops(guest, hosts)


@pytest.mark.long
@pytest.mark.parametrize("machine", ["q35", "pc"])
def test_one_file_above_4_gib(start, hosts, machine):
    guest = start(qemu.Shape(ram=(qemu.Ram(4608),), machine=machine))
    grown(guest, 128)  # Linux takes what is above the hole first
    hops(guest, hosts)


def test_dimm_is_used(start, hosts):
    """A guest that needs its DIMM: it works on more than it began with."""
    guest = start(qemu.Shape(ram=(qemu.Ram(192),), memory="192M,slots=2,maxmem=1G",
                             append="memhp_default_state=online"))
    guest.at.plug(DIMM)
    grown(guest, 192)
    hops(guest, hosts)


@pytest.fixture(scope="module")
def hugetlbfs(shared):
    """A mount of 2 MiB pages, enough of them for three guests of 256 MiB (one that has left may not
    be gone yet) and what daemons take."""
    wanted = 3 * 128 + 64
    try:
        got = add_hugepages(wanted)
    except OSError as e:
        pytest.skip(f"2 MiB pages can't be reserved: {e.strerror}")
    mount = shared.folder / "huge"
    mount.mkdir()
    try:
        if got < wanted:
            pytest.skip(f"only {got} of {wanted} 2 MiB pages could be reserved")
        done = subprocess.run(["mount", "-t", "hugetlbfs", "-o", "pagesize=2M", "none", mount],
                              capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"hugetlbfs can't be mounted: {done.stderr.strip()}")
        try:
            yield str(mount)
        finally:
            subprocess.run(["umount", "-l", mount], capture_output=True)
    finally:
        add_hugepages(-got)


def test_2_mib_pages(start, hosts, hugetlbfs):
    guest = start(qemu.Shape(ram=(qemu.Ram(256, folder=hugetlbfs),)))
    assert hops(guest, hosts)["granule_bytes"] == 2 << 20


class Balloon:
    """Takes memory from the guest and gives it back, all the time."""

    def __init__(self, at, sizes_mib):
        self.at = at
        self.sizes = itertools.cycle(sizes_mib)
        self.stop = threading.Event()
        self.turns = 0
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while not self.stop.wait(0.15):
            try:
                self.at.monitor.run("balloon", value=next(self.sizes) * qemu.MIB)
            except (OSError, ValueError, qemu.Qmp.Refused):
                return  # that QEMU is gone
            self.turns += 1

    def end(self):
        self.stop.set()
        self.thread.join()


def test_balloon_and_free_pages_that_are_zero(start, hosts):
    """init_on_free=1: the guest clears what it frees and trusts that it stays so. Its balloon is
    blown up and let off during the passes, and it reports free pages: both make holes."""
    guest = start(qemu.Shape(balloon=",free-page-reporting=on",
                             append="init_on_free=1 init_on_alloc=0",
                             checker="--memory 32 --rate 2000 --churn 32"))
    here, there = hosts
    for _ in range(2):
        balloon = Balloon(guest.at, (168, 250))
        try:
            # Slowly, so that the balloon moves during passes.
            guest.hop((here, there), "--bandwidth", "40M", "--downtime", "1000")
        finally:
            balloon.end()
        assert balloon.turns > 1
        here, there = there, here
    guest.at.monitor.run("balloon", value=256 * qemu.MIB)
    time.sleep(1)  # the guest takes it all back, and checks that what it takes is zero
    guest.end()


@pytest.mark.long
def test_target_on_any_file(shared, hosts):
    """Its memory need not be tracked: a file on a disk does, with old content in it."""
    here = Machine(shared)
    there = pathlib.Path(f"/var/tmp/{shared.folder.name}.ram")
    there.write_bytes(b"old!" * (8 << 20))
    ram = ["-object", f"memory-backend-file,id=ram0,size=32M,mem-path={there},share=on",
           "-machine", "memory-backend=ram0"]
    try:
        with open(here.path, "r+b") as file:
            file.seek(20 << 20)
            file.write(b"new!" * (1 << 18))
        machine = Machine(shared, *ram, ram=None, incoming=True)
        report = shared.migrate(*hosts, here, machine, "file", "--verify", "memory").done()
        assert report["verified_pages"] > 0 and machine.state() == "running"
        assert there.read_bytes()[20 << 20:22 << 20] == b"new!" * (1 << 18) + bytes(1 << 20)
    finally:
        there.unlink()


@pytest.mark.long  # so much that to punch it out takes longer than to begin
def test_old_content_beside_memory_that_is_all_there(shared, hosts):
    """One file of the target is mapped ahead, the other one's old content is punched out: both are
    done with before a page comes, or pages that came would go with the old ones."""
    def machine(**how):
        files = [pathlib.Path(f"/dev/shm/{shared.folder.name}.{shared.count}.{i}") for i in (0, 1)]
        with open(files[1], "wb") as file:
            file.truncate(4 << 30)
            for at in range(0 if how else 4070, 4080):
                file.seek(at << 20)
                file.write((b"old!" if how else b"new!") * (1 << 18))
        made = Machine(shared, *[arg for i, path in enumerate(files) for arg in (
            "-object", f"memory-backend-file,id=ram{i},size={(32, 4096)[i]}M,mem-path={path},"
            "share=on" + (",prealloc=on" if i == 0 else ""),
            "-numa", f"node,nodeid={i},memdev=ram{i}")],
            ram=None, mib=4128, **how)
        return made, files
    (here, ours), (there, theirs) = machine(), machine(incoming=True)
    shared.migrate(*hosts, here, there, "beside").done()
    with open(theirs[1], "rb") as file:
        file.seek(4070 << 20)
        assert file.read(10 << 20) == b"new!" * (10 << 18)
    for path in ours + theirs:
        path.unlink()
