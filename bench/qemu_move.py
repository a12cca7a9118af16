# SPDX-License-Identifier: BSD-3-Clause
"""One guest's RAM from one QEMU to another, timed: by QEMU itself. The guest's vCPUs never
start; its RAM is a file filled with the standard image. Each QEMU has a CPU to itself, because a
loopback pair that shares one shares its cache, which no network does."""

import os
import pathlib
import socket
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/e2e"))
import qmp  # noqa: E402

TICKS = os.sysconf("SC_CLK_TCK")
WAIT_S = 120


class Failed(Exception):
    pass


def wait_for(what, condition):
    end = time.monotonic() + WAIT_S
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Failed(f"waited in vain: {what}")
        time.sleep(0.005)


def cpu_s(pid):
    """Seconds of CPU that a process has used, its threads too."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


class Machine:
    """A QEMU with its RAM in a file. cold: the file is empty at its start, not populated."""

    def __init__(self, folder, name, ram, mib, cpu, incoming=False, cold=False):
        self.qmp, own = folder / f"{name}.qmp", folder / f"{name}.own"
        for path in (self.qmp, own):
            path.unlink(missing_ok=True)
        if cold:
            ram.unlink(missing_ok=True)
        self.log = open(folder / f"{name}.log", "w")
        self.process = subprocess.Popen(
            ["taskset", "-c", str(cpu), "qemu-system-x86_64", "-machine",
             "q35,accel=tcg,memory-backend=ram0", "-nodefaults", "-no-user-config", "-display",
             "none", "-S", "-m", f"{mib}M", "-object",
             f"memory-backend-file,id=ram0,size={mib}M,mem-path={ram},share=on,"
             f"prealloc={'off' if cold else 'on'}",
             *[arg for path in (self.qmp, own) for arg in
               ("-qmp", f"unix:{path},server=on,wait=off")],
             *(["-incoming", "defer"] if incoming else [])],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        try:
            wait_for(f"{name} opens its monitors", lambda: own.exists() or self.ended())
            if self.ended():
                raise Failed(f"{name}: {pathlib.Path(self.log.name).read_text().strip()}")
            self.monitor = qmp.Qmp(own)
        except BaseException:
            self.close()
            raise

    @property
    def pid(self):
        return self.process.pid

    def ended(self):
        return self.process.poll() is not None

    def capability(self, name, on):
        self.monitor.run("migrate-set-capabilities",
                         capabilities=[{"capability": name, "state": on}])

    def info(self):
        info = self.monitor.run("query-migrate")
        if info.get("status") in ("failed", "cancelled"):
            raise Failed(f"QEMU's migration {info}")
        return info

    def close(self):
        self.process.kill()
        self.process.wait()
        self.log.close()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def by_qemu(source, target, multifd=2, zstd=None):
    """QEMU's own migration; a dictionary of what it took."""
    for side in (source, target):
        side.capability("multifd", multifd > 0)
        parameters = {"max_bandwidth": 1 << 40}
        if multifd:
            parameters["multifd_channels"] = multifd
            parameters["multifd_compression"] = "none" if zstd is None else "zstd"
            if zstd is not None:
                parameters["multifd_zstd_level"] = zstd
        side.monitor.run("migrate-set-parameters", **parameters)
    uri = f"tcp:127.0.0.1:{free_port()}"
    target.monitor.run("migrate-incoming", uri=uri)
    before = [cpu_s(side.pid) for side in (source, target)]
    began = time.monotonic()
    source.monitor.run("migrate", uri=uri)
    for side in (source, target):
        wait_for("QEMU's migration", lambda: side.info().get("status") == "completed")
    took = time.monotonic() - began
    info = source.info()
    after = [cpu_s(side.pid) for side in (source, target)]
    return {"s": took, "own_s": info["total-time"] / 1000, "pause_ms": info["downtime"],
            "cpu_s": [b - a for a, b in zip(before, after)], "wire": info["ram"]["transferred"]}
