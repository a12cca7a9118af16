# SPDX-License-Identifier: BSD-3-Clause
"""Godwit beside QEMU's own migration of the same guest memory, in alternating rounds."""

import os
import pathlib
import shutil
import statistics
import subprocess
import tempfile

import qemu_move

MIB = 4096
# What is timed: (through Godwit?, cold target?, how); unprepared: the source's daemon maps the
# memory while the clock runs, as it does without --prepare.
KINDS = {
    "qemu-raw": (False, False, {"multifd": 2}),
    "godwit-raw": (True, False, ["--codec", "raw"]),
    "godwit-unprepared": (True, False, ["--codec", "raw"]),
    "qemu-zstd-1": (False, False, {"multifd": 2, "zstd": 1}),
    "qemu-tls": (False, False, {"multifd": 2, "tls": True}),
    "godwit-deflate-1": (True, False, ["--codec", "deflate:1"]),
    "qemu-fresh": (False, True, {"multifd": 2}),
    "godwit-fresh": (True, True, ["--codec", "raw"]),
}


class Ground:
    """RAM files, a wire, and Godwit's daemons; made once, for all rounds."""

    def __init__(self, build, mib=None, seed=1, content="mix"):
        if (os.cpu_count() or 1) < 2:
            raise qemu_move.Failed("these need CPUs 0 and 1")
        self.mib = mib or MIB
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="gwbars"))
        self.ram = [pathlib.Path("/dev/shm") / f"{self.folder.name}.{side}"
                    for side in ("source", "target")]
        self.daemons = []
        self.wire = qemu_move.Wire()
        try:
            with open(self.ram[0], "wb") as file:
                file.truncate(self.mib << 20)
            done = subprocess.run([build / "bench" / "godwit-bench", "image", self.ram[0],
                                   "--seed", str(seed), "--content", content],
                                  capture_output=True, text=True)
            if done.returncode:
                raise qemu_move.Failed(done.stderr.strip())
            for cpu, side in enumerate(("here", "there")):
                self.daemons.append(qemu_move.Daemon(self.wire, self.folder, side, build, cpu))
        except BaseException:
            self.close()
            raise

    def once(self, kind):
        godwit, cold, how = KINDS[kind] if isinstance(kind, str) else kind
        machines = []
        try:
            machines.append(qemu_move.Machine(self.wire, self.folder, "source", self.ram[0],
                                              self.mib, 0))
            machines.append(qemu_move.Machine(self.wire, self.folder, "target", self.ram[1],
                                              self.mib, 1, incoming=True, cold=cold))
            if godwit:
                return qemu_move.by_godwit(*machines, self.daemons, *how, prepare=False if
                                           kind == "godwit-unprepared" else None)
            return qemu_move.by_qemu(*machines, **how)
        finally:
            for machine in machines:
                machine.close()

    def close(self):
        for daemon in self.daemons:
            daemon.close()
        self.wire.close()
        for ram in self.ram:
            ram.unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)


def races(build, rounds, mib, *kinds, content="mix"):
    """Each kind once a round, by turns: a list of rounds, each a dictionary of kinds."""
    ground = Ground(build, mib, content=content)
    try:
        for kind in kinds:
            ground.once(kind)  # warm: the target's file, the page cache of the programs
        return [{kind: ground.once(kind) for kind in kinds} for _ in range(rounds)]
    finally:
        ground.close()


def beside(rounds, mib):
    """Medians of what was measured, by kind."""
    def median(kind, value):
        return round(statistics.median(value(r[kind]) for r in rounds), 3)
    gib = (mib or MIB) / 1024
    return {kind: {
        "gib_per_s": median(kind, lambda r: gib / r["s"]),
        "cpu_s_source": median(kind, lambda r: r["cpu_s"][0]),
        "cpu_s_target": median(kind, lambda r: r["cpu_s"][1]),
        "idle_s": median(kind, lambda r: sum(r["idle_s"])),
        "ratio": median(kind, lambda r: gib * 2**30 / r["wire"]),
        "pause_ms": median(kind, lambda r: r["pause_ms"]),
        **({"copy_gib_per_s": median(kind, lambda r: gib / r["copy_s"])}
           if "copy_s" in rounds[0][kind] else {})} for kind in rounds[0]}


def faster(rounds, ours, theirs):
    return [r[theirs]["s"] / r[ours]["s"] for r in rounds]


def cheaper(rounds, ours, theirs):
    return [sum(r[theirs]["cpu_s"]) / sum(r[ours]["cpu_s"]) for r in rounds]


def smaller(rounds, ours, theirs):
    return [r[theirs]["wire"] / r[ours]["wire"] for r in rounds]
