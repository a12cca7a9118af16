# SPDX-License-Identifier: BSD-3-Clause
"""Every fault at every stage: afterwards exactly one side runs the guest, or none with the source
saying how to go on; the memory is right; nothing is left behind. See matrix.py."""

import os
import pathlib
import time

import pytest

import godwit
import matrix
from godwit import wait_until

pytestmark = pytest.mark.insecure  # a wire stands between the daemons, and reads

MOMENT_S = 1.5 if os.environ.get("GODWIT_LONG") else 0.5


def holds(process):
    """What a daemon or VMM would leak; one that has ended, nothing."""
    proc = pathlib.Path(f"/proc/{process.popen.pid}")
    try:
        files, tasks = os.listdir(proc / "fd"), os.listdir(proc / "task")
    except FileNotFoundError:
        return 0, 0, 0
    maps = [line for line in godwit.read_there(proc / "maps").splitlines() if "memfd:" in line]
    return len(files), len(maps), len(tasks)


class Cell:
    """A migration with one fault."""

    def __init__(self, stage, at, fault):
        self.stage, self.at = stage, at
        self.expected = matrix.expected(at, fault)
        self.what, _, self.who = fault.partition(" ")
        self.hold = stage.folder / "hold"
        message = self.what in ("request", "answer")
        standing = not message and at != "copy"
        if standing:
            self.hold.touch()
        self.source = stage.source(plant=f"stage:{at}:{self.hold}" if standing else None)
        self.target = stage.target()
        self.wire = stage.wire(self.target)
        # No more dirty than the last pass takes, however slow the host is.
        self.vm, self.waiting = stage.vm(memory="16M"), stage.waiting(memory="16M")
        self.vm.wait_ticks(1)
        self.before = {p: holds(p) for p in (self.source, self.target, self.vm)}
        if message and self.who == "twice":
            self.wire.double(at, self.what == "answer")
        elif message:
            self.wire.hold(at, self.what == "answer")
        self.migration = stage.migrate(
            self.source, self.target, self.vm, self.waiting, "guest", "--verify", "memory",
            "--downtime", "60s", *(["--bandwidth", "1M"] if at == "copy" else []),
            # Nobody comes back: how long that is waited for is not what is looked at.
            *(["--reconnect", "1s"] if fault == "kill target daemon" else []),
            to=self.wire.address)
        if message and self.who != "twice":
            self.wire.wait()
        elif not message:
            wait_until(f"the source is at stage {at}", lambda: (
                self.source.status("guest") or {}).get("stage") == at)

    def party(self):
        return {"source daemon": self.source, "target daemon": self.target,
                "source VMM": self.vm, "target VMM": self.waiting}[self.who]

    def strike(self):
        self.ticks = len(self.vm.ticks())
        if self.what == "kill":
            self.party().kill()
        elif self.what == "stop":
            self.party().freeze()
            time.sleep(MOMENT_S)
            self.party().thaw()
        elif self.who == "cut":
            self.wire.cut(self.wire.flows if self.what == "flow" else
                          [s for s in self.wire.socks if s not in self.wire.flows])
            # Who goes on before he hears of it may not need the connection any more.
            if self.expected == matrix.SOURCE:
                self.source.wait_state("guest", "ended")
        elif self.who == "lost":
            self.wire.stop_at = None
            self.wire.cut()
        elif self.who == "late":
            time.sleep(MOMENT_S)
        self.wire.let_go()
        self.hold.unlink(missing_ok=True)
        if self.at == "copy" and self.source.alive():
            wait_until("the bandwidth is set", lambda: not self.migration.alive() or
                       self.source.run("set", "guest", "--bandwidth", 0).returncode == 0)

    def end(self):
        return self.migration.end() if self.source.alive() else {}

    def check_source(self):
        if self.source.alive():
            assert self.end()["result"] in ("failed", "refused")
        self.vm.wait_ticks(2)
        self.vm.whole()
        assert not self.waiting.ticks(), "the guest ran on both sides"

    def check_target(self):
        if self.source.alive():
            assert self.end()["result"] == "done", self.end()["error"]
        self.check_arrived()

    def check_arrived(self):
        self.waiting.wait_ticks(2)
        self.waiting.whole()
        self.vm.wait()
        self.vm.whole()
        if self.vm.ticks():
            assert self.vm.ticks()[-1] <= self.waiting.ticks()[0], "the guest ran on both sides"

    def check_either(self):
        if self.end()["result"] == "failed":
            self.check_source()
            return
        # It may have been undecided for a moment, until the answer to the commit came too.
        wait_until("the source knows", lambda: self.source.status("guest")["result"] == "done")
        self.check_arrived()

    def check_lost(self):
        """Nothing came to life, nor does when both sides have ended the session."""
        end = self.end()
        assert not self.party().alive()
        if self.who == "source VMM":
            assert end["error"]
        self.clean()
        if self.who == "source VMM":
            assert not self.waiting.ticks(), "a guest whose VMM was killed runs at the target"
        else:
            assert len(self.vm.ticks()) == self.ticks, "a guest that was handed over runs again"

    def check_operator(self):
        """Neither side does anything by itself; the source says what to look at."""
        if self.source.alive():
            assert self.end()["result"] == "undecided" and "resolve" in self.end()["error"]
        else:
            self.source = self.stage.source(port=self.source.port)
        assert self.source.status("guest")["state"] == "undecided"
        assert "keep" in self.source.ok("resolve", "guest")
        ticks = len(self.vm.ticks())
        runs_there = self.what != "request"
        if runs_there:
            self.waiting.wait_ticks(2)
            self.source.ok("resolve", "guest", "--keep", "target")
            self.waiting.whole()
            self.vm.wait()
            assert len(self.vm.ticks()) == ticks, "the guest ran on both sides"
            return
        self.waiting.kill()
        assert len(self.vm.ticks()) == ticks and not self.waiting.ticks()
        self.source.ok("resolve", "guest", "--keep", "source")
        self.vm.wait_ticks(2)
        self.vm.whole()

    def again(self):
        """Daemons that died are started anew, and the guest moves."""
        if not self.source.alive():
            self.source = self.stage.source(port=self.source.port)
        if not self.target.alive():
            self.target = self.stage.target(port=self.target.port)
        self.stage.moved(self.source, self.target, self.vm, memory="16M")

    def clean(self):
        """What lives on has no more than it had before."""
        for process, before in self.before.items():
            if not process.alive():
                continue
            if process is self.target and self.target.status("guest")["state"] != "ended":
                self.target.run("cancel", "guest")  # it waits for a source that is no more
                self.target.wait_state("guest", "ended")
            wait_until(f"{process.name} gives back what it took: {before}",
                       lambda p=process, b=before: all(
                           now <= then for now, then in zip(holds(p), b)))


CHECKS = {matrix.SOURCE: Cell.check_source, matrix.TARGET: Cell.check_target,
          matrix.EITHER: Cell.check_either, matrix.LOST: Cell.check_lost,
          matrix.OPERATOR: Cell.check_operator}


@pytest.mark.parametrize("at,fault", [
    pytest.param(at, fault, marks=() if (at, fault) in matrix.SHORT else pytest.mark.long,
                 id=f"{at}-{fault.replace(' ', '-')}") for at, fault in matrix.CELLS])
def test_fault(stage, at, fault):
    cell = Cell(stage, at, fault)
    cell.strike()
    CHECKS[cell.expected](cell)
    cell.clean()
    if cell.expected == matrix.SOURCE:
        cell.again()
        cell.clean()


def test_every_stage_has_its_row():
    assert len(matrix.STAGES) >= 15 and matrix.STAGES[0] == "vmm" and matrix.STAGES[-1] == "finish"
    assert {"hello", "save", "load", "commit"} <= matrix.ASKED
