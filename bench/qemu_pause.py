# SPDX-License-Identifier: BSD-3-Clause
"""How long a running Linux guest stands still when it moves, by QEMU alone and through Godwit: the
silence between its last heartbeat here and its first one there. By turns, each
time with a new guest."""

import pathlib
import shutil
import statistics
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/e2e"))
import godwit  # noqa: E402
import qemu  # noqa: E402
from qemu_move import Failed  # noqa: E402

BEAT_MS = 10
DOWNTIME_MS = 300
# 500 pages a second are 2 MiB/s, far below a tenth of any link.
SHAPE = qemu.Shape(checker=f"--memory 64 --rate 500 --beat {BEAT_MS}")


class Stamped(list):
    """Lines, and when each came."""

    def __init__(self, lines):
        super().__init__(lines)
        self.stamps = [time.monotonic()] * len(self)

    def append(self, line):
        self.stamps.append(time.monotonic())
        super().append(line)

    def beats(self):
        return [stamp for line, stamp in zip(self, self.stamps) if line.startswith("guest: beat")]


class Hops:
    def __init__(self, build):
        godwit.BUILD = build
        godwit.GODWIT, godwit.GODWITD = (build / "control" / name for name in
                                         ("godwit", "godwitd"))
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="gwpause"))
        self.children = []
        self.count = 0
        self.unread = 0
        self.wrecks = 0  # guests that QEMU did not move whole

    def keep(self, child):
        self.children.append(child)
        return child

    def start(self, incoming):
        self.count += 1
        made = self.keep(qemu.Qemu(f"q{self.count}", self.folder, SHAPE, incoming=incoming))
        with made.more:
            made.lines = Stamped(made.lines)
        return made

    def run(self, rounds):
        """A list of rounds: the silence in ms after a move by QEMU, and by Godwit."""
        daemons = [self.keep(godwit.Daemon(name, self.folder, cores=core))
                   for name, core in (("here", "0"), ("there", "1"))]
        found = []
        for number in range(rounds):
            ways = {"qemu": self.by_qemu,
                    "godwit": lambda *ends: self.by_godwit(*ends, daemons, f"hop{number}")}
            found.append({name: self.hop(name, move) for name, move in ways.items()})
        return found

    def hop(self, name, move):
        """One guest from its start, moved once. QEMU under TCG with several CPUs may miss writes of
        a running guest, so that its guest is a wreck: counted, and done again."""
        for _ in range(10):
            source = self.start(False)
            source.wait_line("guest: ready")
            source.wait_beats(100)
            target = self.start(True)
            move(source, target)
            try:
                target.wait_beats(20)
                target.check()
                silence = target.lines.beats()[0] - source.lines.beats()[-1]
                if silence > 0:
                    return 1000 * silence
                self.unread += 1  # this program was late to read: the machine is too busy
            except AssertionError:
                if name != "qemu":
                    raise
                self.wrecks += 1
            finally:
                source.close()
                target.close()
        raise Failed(f"ten guests in a row gave no figure, {self.wrecks} of them wrecked by QEMU")

    def by_qemu(self, source, target):
        uri = f"unix:{self.folder / target.name}.stream"
        for side in (source, target):
            qemu.capability(side, "multifd")
            side.monitor.run("migrate-set-parameters", multifd_channels=2,
                             max_bandwidth=1 << 40, downtime_limit=DOWNTIME_MS)
        target.monitor.run("migrate-incoming", uri=uri)
        target.monitor.run("cont")  # at once when all is there
        source.monitor.run("migrate", uri=uri)
        qemu.wait_completed(source)

    def by_godwit(self, source, target, daemons, name):
        here, there = daemons
        there.ok("receive", name, *target.way, "--detach")
        godwit.Migration(here, name, source, there.address, "--downtime", str(DOWNTIME_MS)).done()

    def close(self):
        for child in reversed(self.children):
            child.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def measure(build, rounds):
    hops = Hops(pathlib.Path(build).resolve())
    try:
        found = hops.run(rounds)
    except (AssertionError, qemu.NoGuest) as why:
        raise Failed(str(why)) from why
    finally:
        hops.close()
    return [r["qemu"] / r["godwit"] for r in found], {
        f"{way}_silence_ms": round(statistics.median(r[way] for r in found), 1)
        for way in ("qemu", "godwit")} | {"beat_ms": BEAT_MS,
                                                    "guests_wrecked_by_qemu": hops.wrecks,
                                                    "read_too_late": hops.unread}
