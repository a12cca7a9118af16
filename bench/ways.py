# SPDX-License-Identifier: BSD-3-Clause
"""Ways from one QEMU to another, by name, and the ground that they run on: one wire, one image, the
same two CPUs for all. A way is

  godwit/LINK/CODEC[/sealed]    LINK: tcp, nic (over net_memif), rdma (over this host's device);
                                CODEC as of godwit migrate
  qemu/HOW[/tls]                HOW: precopy, multifd, zlib:LEVEL, zstd:LEVEL (both in multifd)"""

import contextlib
import os
import pathlib
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import qemu_move
from qemu_move import Failed

ROOT = pathlib.Path(__file__).resolve().parents[1]
LICENCE = "SPDX-License-Identifier: BSD-3-Clause"  # of results, whose first line says so
LINKS = ("tcp", "nic", "rdma")
CODECS = r"raw|lz4|auto|deflate:[0-3]|zstd:[1-9]"
MEMIF = """[port data]
device = net_memif0,role={role},id=0,socket={folder}/memif,bsize=9216
ipv4 = 198.51.100.{number}/24
mtu = 9000
queues = 1
"""


def parse(name):
    """A function of ground and the two machines, which moves the guest and says what it took."""
    words = name.split("/")
    if words[0] == "qemu" and len(words) in (2, 3) and words[2:] in ([], ["tls"]):
        how, _, level = words[1].partition(":")
        if how in ("precopy", "multifd") and not level:
            ask = {"multifd": 0 if how == "precopy" else 2}
        elif how in ("zlib", "zstd") and level.isdigit():
            ask = {"multifd": 2, how: int(level)}
        else:
            raise Failed(f"{name}: QEMU has precopy, multifd, zlib:LEVEL, zstd:LEVEL")
        return lambda ground, *machines: qemu_move.by_qemu(*machines, tls=len(words) == 3, **ask)
    if words[0] == "godwit" and len(words) in (3, 4) and words[3:] in ([], ["sealed"]):
        seal = ["--seal", "aes-256-gcm" if words[3:] else "none"]
        if words[1] not in LINKS or not re.fullmatch(CODECS, words[2]):
            raise Failed(f"{name}: Godwit's links here are {', '.join(LINKS)}, its codecs raw, "
                         "lz4, deflate:0 to 3, zstd:1 to 9, auto")
        ask = ["--link", words[1], "--codec", words[2], *seal]
        return lambda ground, *machines: qemu_move.by_godwit(
            *machines, ground.daemons[words[1] == "rdma"], *ask, receive=seal)
    raise Failed(f"{name}: a way is godwit/LINK/CODEC[/sealed] or qemu/HOW[/tls]")


def end_whole():
    """Who is told to end gives back what it took: programs, memory, network namespaces."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))


def build(folder, programs):
    """A release build with these programs, made if it is not there, and up to date."""
    setup = ["meson", "setup", "-Dbuildtype=release", "-Dtests=false", folder, ROOT]
    made = (folder / "build.ninja").exists()
    for command in ([] if made else [setup], [["ninja", "-C", folder, *programs]]):
        for words in command:
            done = subprocess.run(words, capture_output=True, text=True)
            if done.returncode:
                raise Failed(f"{folder} can't be built: {(done.stdout + done.stderr)[-2000:]}")


def rdma_address():
    """The first IPv4 address that a port of an RDMA device has here; None: there is none."""
    for gid in sorted(pathlib.Path("/sys/class/infiniband").glob("*/ports/*/gids/*")):
        try:
            words = gid.read_text().strip().split(":")
        except OSError:  # a place without an entry
            continue
        if words[:6] == ["0000"] * 5 + ["ffff"]:
            return socket.inet_ntoa(bytes.fromhex("".join(words[6:])))
    return None


def check(names, limits):
    """That these are ways, and can be gone on this host."""
    for name in names:
        parse(name)
        if name.startswith("godwit/rdma/") and rdma_address() is None:
            raise Failed(f"{name}: no RDMA device with an IPv4 address is here (godwit doctor "
                         "lists devices); tests/rdma/vm starts a machine that has one")
        if any(limits) and name.startswith(("godwit/nic/", "godwit/rdma/")):
            raise Failed(f"{name}: --limit holds for what goes over tcp: leave one of them out")


class Ground:
    """RAM files, a wire, Godwit's daemons with keys and, if asked for, a port each, and others that
    share the host's RDMA device. image: what godwit-bench image is told to fill the source's RAM
    with; None: it is all holes, at the source too."""

    def __init__(self, build, mib, image=(), nic=False, qemu="qemu-system-x86_64", rdma=False):
        if (os.cpu_count() or 1) < 2:
            raise Failed("CPUs 0 and 1 are needed")
        self.build, self.mib, self.qemu = build, mib, qemu
        self.empty = image is None
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="gwways"))
        self.ram = [pathlib.Path("/dev/shm") / f"{self.folder.name}.{side}"
                    for side in ("source", "target")]
        self.daemons = [], []  # source and target: in the wire's namespace; with the device
        self.wire = qemu_move.Wire()
        try:
            self.fill(image)
            self.start(nic, rdma)
        except BaseException:
            self.close()
            raise

    def fill(self, image):
        with open(self.ram[0], "wb") as file:
            file.truncate(self.mib << 20)
        if image is not None:
            self.call(self.build / "bench/godwit-bench", "image", self.ram[0],
                      *image)

    def start(self, nic, rdma):
        self.call(self.build / "control/godwit", "keys", "--dir", self.folder / "keys",
                  "source.bench,127.0.0.1", "target.bench,127.0.0.1")
        for number, name in ((1, "there"), (0, "here")):  # memif's server first
            side = ("source", "target")[number]
            more = ["--config", self.folder / f"{name}.conf"]
            pathlib.Path(more[1]).write_text(
                MEMIF.format(role=("client", "server")[number], folder=self.folder,
                             number=number + 1) if nic else "")
            keys = self.folder / "keys" / f"{side}.bench"
            self.daemons[0].insert(0, qemu_move.Daemon(
                self.wire, self.folder, name, self.build, number, keys=keys, more=more))
            if rdma:
                self.daemons[1].insert(0, qemu_move.Daemon(
                    qemu_move.Host, self.folder, f"{name}-rdma", self.build, number, keys=keys,
                    more=["--rdma", rdma_address(), "--rdma-fabric", "trusted"]))
        if nic:
            time.sleep(3)  # memif's two sides find each other

    @staticmethod
    def call(*command):
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
        if done.returncode:
            raise Failed(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
        return done.stdout

    def once(self, way, cold=False):
        """One move, between two new machines."""
        with contextlib.ExitStack() as stack:
            machines = []
            for cpu, side in enumerate(("source", "target")):
                machines.append(stack.enter_context(contextlib.closing(qemu_move.Machine(
                    self.wire, self.folder, side, self.ram[cpu], self.mib, cpu,
                    incoming=cpu == 1, cold=cold and (cpu == 1 or self.empty), binary=self.qemu))))
            try:
                return parse(way)(self, *machines)
            except Failed as why:
                raise Failed(f"{way}: {why}{self.last_words()}") from why

    def last_words(self):
        return "".join(f"; {daemon.name}'s godwitd ended: "
                       + pathlib.Path(daemon.log.name).read_text().strip()[-300:]
                       for daemon in sum(self.daemons, []) if daemon.process.poll() is not None)

    def pingpong_ns(self):
        return float(self.call(self.build / "bench/godwit-bench", "pingpong"))

    def close(self):
        for daemon in sum(self.daemons, []):
            daemon.close()
        self.wire.close()
        for ram in self.ram:
            ram.unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)


def busy(seconds=1.0):
    """The share of all CPUs that others use while nothing of ours runs."""
    def read():
        line = pathlib.Path("/proc/stat").read_text().split("\n")[0]
        fields = [int(n) for n in line.split()[1:9]]
        return sum(fields), fields[3] + fields[4]
    all_before, idle_before = read()
    time.sleep(seconds)
    all_after, idle_after = read()
    return 1 - (idle_after - idle_before) / max(1, all_after - all_before)


def about(build, qemu="qemu-system-x86_64"):
    """The machine and the versions that a result is of."""
    def field(path, name):
        found = re.search(rf"^{name}\s*:\s*(.*)$", pathlib.Path(path).read_text(), re.M)
        return found[1] if found else ""
    def version(*command):
        try:
            said = subprocess.run(command, capture_output=True, text=True).stdout
        except OSError:
            return ""  # it is not there, so nothing of it is measured
        return said.split("\n")[0]
    def package(name):
        return version("pkg-config", "--modversion", name)
    return {"cpu": field("/proc/cpuinfo", "model name"), "cpus": os.cpu_count(),
            "memory_gib": round(int(field("/proc/meminfo", "MemTotal").split()[0]) / 2**20),
            "kernel": platform.release(),
            "godwit": version(str(build / "control/godwitd"), "--version").split(" ")[-1],
            "qemu": version(qemu, "--version"),
            "libraries": {name: package(name) for name in
                          ("libdpdk", "libisal", "libzstd", "liblz4", "libcrypto")}}
