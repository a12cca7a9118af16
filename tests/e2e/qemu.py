# SPDX-License-Identifier: BSD-3-Clause
"""Stock QEMU with the small Linux guest of tests/guest: a shape says what the machine is, and both
sides of a migration are started from it; the guest's console is the child's output."""

import dataclasses
import os
import pathlib
import re
import subprocess

from godwit import ROOT, Child, wait_until
from qmp import Qmp

QEMU = "qemu-system-x86_64"
KERNEL_LINE = ("console=ttyS0 panic=-1 loglevel=4 mitigations=off nokaslr tsc=reliable "
               "no_timer_check net.ifnames=0 nowatchdog rcupdate.rcu_cpu_stall_suppress=1")
BAD = re.compile(r"guest: ERROR|Oops|BUG:|Kernel panic|general protection|EXT4-fs error|"
                 r"I/O error|Call Trace")
MIB = 1 << 20
PAGE = 4096
made = {}


class NoGuest(Exception):
    """The guest can't be made here; says why."""


def guest_folder():
    """The folder with the guest's kernel and initrd, made at the first call."""
    if "folder" not in made:
        folder = pathlib.Path(os.environ.get("GODWIT_GUEST_FOLDER", ROOT / "build/guest"))
        done = subprocess.run([ROOT / "tests/guest/make", folder], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=900)
        made["folder"] = folder
        made["error"] = (done.stderr.strip() or done.stdout.strip()) if done.returncode else None
    if made["error"]:
        raise NoGuest(made["error"])
    return made["folder"]


@dataclasses.dataclass(frozen=True)
class Ram:
    """A memory backend: a file below a folder, of 4 KiB pages in a tmpfs, of 2 MiB in hugetlbfs."""
    mib: int
    name: str = "ram0"
    folder: str = "/dev/shm"
    more: str = ""  # properties of the object

    def object(self, path):
        return (f"memory-backend-file,id={self.name},size={self.mib}M,mem-path={path},share=on"
                + self.more)


@dataclasses.dataclass(frozen=True)
class Shape:
    """A machine. What is the same on both sides of a migration stands here."""
    ram: tuple = (Ram(256),)
    memory: str = None  # -m, where it is more than the sum of ram
    machine: str = "q35"
    cpus: int = 2
    disk: pathlib.Path = None
    disk_options: str = ""
    net: object = None  # a Net
    append: str = ""  # to the kernel's command line
    checker: str = "--memory 32 --rate 500"
    balloon: str = None  # properties of a balloon device, "" for none
    args: tuple = ()

    def ask(self, paths):
        """The arguments that describe the machine; paths: RAM files."""
        accel = os.environ.get("GODWIT_QEMU_ACCEL", "tcg")
        machine = f"{self.machine},accel={accel}"
        ask = ["-cpu", "max", "-smp", self.cpus, "-nodefaults", "-no-user-config", "-display",
               "none", "-no-reboot", "-m", self.memory or f"{sum(r.mib for r in self.ram)}M"]
        if len(self.ram) == 1:
            machine += ",memory-backend=" + self.ram[0].name
        for node, (ram, path) in enumerate(zip(self.ram, paths)):
            ask += ["-object", ram.object(path)]
            if len(self.ram) > 1:
                ask += ["-numa", f"node,nodeid={node},memdev={ram.name}"]
        if self.disk:
            ask += ["-drive", f"file={self.disk},if=none,id=disk0,format=raw{self.disk_options}",
                    "-device", "virtio-blk-pci,drive=disk0,id=vdisk0"]
        if self.balloon is not None:
            ask += ["-device", "virtio-balloon-pci,id=balloon0" + self.balloon]
        folder = guest_folder()
        return ["-machine", machine, *ask, "-kernel", folder / "vmlinuz", "-initrd",
                folder / "initrd", "-append", f"{KERNEL_LINE} {self.append} -- {self.checker}",
                *self.args]


class Qemu(Child):
    """A running QEMU; incoming: one that waits for a guest, stopped."""

    def __init__(self, name, folder, shape, incoming=False, dimms=(), args=()):
        self.dimms = list(dimms)
        self.shape = shape
        self.incoming = incoming
        self.qmp = folder / f"{name}.qmp"  # for Godwit
        own = folder / f"{name}.own"  # for the test: a monitor takes one client
        self.folder = folder
        self.name = name
        self.paths = [self.ram_path(ram) for ram in (*shape.ram, *self.dimms)]
        plugged = []
        for ram, path in zip(self.dimms, self.paths[len(shape.ram):]):
            plugged += ["-object", ram.object(path), "-device",
                        f"pc-dimm,id={ram.name}dimm,memdev={ram.name}"]
        wire, fds = [], ()
        if shape.net:
            tap = shape.net.tap()
            fds = (tap,)
            wire = ["-netdev", f"tap,id=net0,fd={tap}", "-device",
                    "virtio-net-pci,netdev=net0,id=vnet0,mac=52:54:00:77:00:02"]
        try:
            super().__init__(name, [
                QEMU, *shape.ask(self.paths), *plugged, *wire, "-serial", "stdio",
                *[arg for path in (self.qmp, own) for arg in
                  ("-qmp", f"unix:{path},server=on,wait=off")],
                *(["-incoming", "defer", "-S"] if incoming else []), *args],
                stdin=subprocess.PIPE, pass_fds=fds)
        finally:
            for fd in fds:
                os.close(fd)
        self.monitor = None
        wait_until(f"{name} opens its monitors", lambda: self._listens(own))
        self.monitor = Qmp(own)

    @property
    def way(self):
        """How Godwit reaches it."""
        return ["--qmp", self.qmp]

    def _listens(self, path):
        if not self.alive():
            self.reader.join(5)
            raise AssertionError(f"{self.name} ended at its start: {self.lines[-1]}")
        return path.exists()

    def ram_path(self, ram):
        return pathlib.Path(ram.folder) / f"{self.folder.name}.{self.name}.{ram.name}"

    def memory_mib(self):
        return int(self.ask("memory", r"memory (\d+) MiB")[1])

    def plug(self, ram):
        """Plugs a DIMM into the running guest, which takes it into use."""
        before = self.memory_mib()
        path = self.ram_path(ram)
        self.paths.append(path)
        self.monitor.run("object-add", qom_type="memory-backend-file", id=ram.name,
                         size=ram.mib * MIB, mem_path=str(path), share=True)
        self.monitor.run("device_add", driver="pc-dimm", id=f"{ram.name}dimm", memdev=ram.name)
        self.dimms.append(ram)
        wait_until("the guest has the DIMM",
                   lambda: self.memory_mib() >= before + ram.mib * 9 // 10)

    def state(self):
        return self.monitor.run("query-status")["status"]

    def runs(self):
        """Whether its vCPUs do; one that has ended, or ends, runs no more."""
        try:
            return self.alive() and self.state() == "running"
        except OSError:
            return False

    # The guest.

    def beats(self):
        return [int(m[1]) for m in (re.match(r"guest: beat (\d+)", line) for line in
                                    list(self.lines)) if m]

    def wait_beats(self, more=2):
        """Waits until the guest's heart has beaten some more; returns the last beat."""
        before = len(self.beats())
        wait_until(f"the guest in {self.name} beats",
                   lambda: len(self.beats()) >= before + more or not self.alive())
        assert self.alive(), f"{self.name} ended: {self.lines[-1]}"
        return self.beats()[-1]

    def ask(self, line, answer):
        """Types a line at the guest's console; returns the match of its answer."""
        since = len(self.lines)
        self.popen.stdin.write(line.encode() + b"\n")
        self.popen.stdin.flush()
        return self.wait_line("guest: " + answer, since)

    def check(self):
        """The guest checks all its memory; returns how many pages."""
        found = self.ask("check", r"whole (\d+) pages, (\d+) errors")
        self.no_complaint()
        assert found[2] == "0", f"{self.name}: {found[0]}"
        return int(found[1])

    def complaints(self):
        return [line for line in list(self.lines) if BAD.search(line) and line[0] != "$"]

    def no_complaint(self):
        """Neither the checker nor the guest's kernel found anything wrong, and beats went on."""
        assert not self.complaints(), f"{self.name}: {self.complaints()[0]}"
        beats = self.beats()
        assert beats == sorted(beats), f"{self.name}: the heartbeat went back"

    def disk_clean(self):
        """The guest ends its work on the disk and reads all of it back; then the host looks."""
        found = self.ask("disk", r"disk clean, (\d+) files")
        self.no_complaint()
        assert int(found[1]) > 0
        done = subprocess.run(["e2fsck", "-fn", self.shape.disk], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    def close(self):
        if self.monitor:
            self.monitor.close()
        super().close()
        self.popen.stdin.close()
        for path in self.paths:
            path.unlink(missing_ok=True)


def disk(path, mib=64):
    """An empty file system for a guest."""
    with open(path, "wb") as file:
        file.truncate(mib * MIB)
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", path], check=True, capture_output=True)
    return path


# A migration without Godwit, which shows that the rest is sound.

def capability(qemu, name, on=True):
    qemu.monitor.run("migrate-set-capabilities",
                     capabilities=[{"capability": name, "state": on}])


def wait_completed(qemu):
    def ended():
        info = qemu.monitor.run("query-migrate")
        assert info.get("status") not in ("failed", "cancelled"), info
        return info if info.get("status") == "completed" else None
    return wait_until(f"{qemu.name} completes", ended)


def move_by_qemu(source, target, path):
    """QEMU's own migration, all RAM in its stream, over a unix socket; of a stopped guest, for
    under TCG with several CPUs on a busy host QEMU's own tracker misses writes of a running one."""
    source.monitor.run("stop")
    target.monitor.run("migrate-incoming", uri=f"unix:{path}")
    source.monitor.run("migrate-set-parameters", max_bandwidth=1 << 40)
    source.monitor.run("migrate", uri=f"unix:{path}")
    wait_completed(source)
    wait_completed(target)  # a cont before that is lost: the state of the source, paused, wins
    target.monitor.run("cont")


def copy_ram(source, target):
    """Copies what is populated, holes stay holes."""
    for here, there in zip(source.paths, target.paths):
        with open(here, "rb") as a, open(there, "r+b") as b:
            at, size = 0, os.fstat(a.fileno()).st_size
            while at < size:
                try:
                    at = os.lseek(a.fileno(), at, os.SEEK_DATA)
                except OSError:  # ENXIO: holes up to its end
                    break
                end = os.lseek(a.fileno(), at, os.SEEK_HOLE)
                while at < end:
                    data = os.pread(a.fileno(), min(end - at, 16 * MIB), at)
                    os.pwrite(b.fileno(), data, at)
                    at += len(data)


def move_by_hand(source, target, path):
    """What Godwit does, step by step and without it: device state by QEMU, RAM by a copy."""
    for qemu in (source, target):
        capability(qemu, "x-ignore-shared")
    source.monitor.run("stop")
    source.monitor.run("migrate", uri=f"exec:cat >{path}")
    wait_completed(source)
    copy_ram(source, target)
    target.monitor.run("migrate-incoming", uri=f"exec:cat {path}")
    wait_completed(target)
    target.monitor.run("cont")
