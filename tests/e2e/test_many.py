# SPDX-License-Identifier: BSD-3-Clause
"""One guest, many migrations back and forth, with faults at random moments: it is never lost, never
torn, never in two places; and those who took part hold no more at the end than at the beginning."""

import contextlib
import random
import time

import pytest

from cord import Cord
from godwit import wait_until
from test_matrix_faults import holds

# What happens on the way, and how often among so many.
FAULTS = {"nothing": 8, "cut": 3, "cut here": 2, "cut there": 2, "silence": 2, "cancel": 2,
          "kill target VMM": 2, "kill target daemon": 1, "kill source daemon": 1,
          "stop source VMM": 1, "stop target VMM": 1, "stop source daemon": 1,
          "stop target daemon": 1}
GROWTH_KIB = 16384  # of a daemon's memory, after its first sessions: sessions are remembered


class Host:
    """A daemon, and the cord that leads to it."""

    def __init__(self, stage, name):
        self.stage, self.name = stage, name
        self.daemon = self.cord = None
        self.start()
        self.cord = Cord(self.daemon.port)
        stage.wires.append(self.cord)

    def start(self):
        port = self.daemon.port if self.daemon else None
        self.daemon = self.stage.daemon(self.name, port=port, cores="0,0")
        self.first = None
        self.sessions = 0

    def resident(self):
        text = open(f"/proc/{self.daemon.popen.pid}/status", encoding="utf-8").read()
        return int(text.split("VmRSS:")[1].split()[0])

    def look(self):
        """Compares with what it held after its first few sessions."""
        self.sessions += 1
        if self.sessions < 3:
            return
        if self.first is None:
            self.first = (holds(self.daemon), self.resident())
        files, grown = self.first
        wait_until(f"{self.name} gives back what it took: {files}", lambda: all(
            now <= then for now, then in zip(holds(self.daemon), files)))
        assert self.resident() - grown < GROWTH_KIB, f"{self.name} grows"


class Many:
    def __init__(self, stage, seed):
        self.stage = stage
        self.dice = random.Random(seed)
        self.here, self.there = Host(stage, "source"), Host(stage, "target")
        self.vm = stage.vm(memory="16M", args=["--pattern", "random", "--rate", 1000])
        self.vm.wait_ticks(1)
        self.held = holds(self.vm)
        self.happened = {}

    def strike(self, fault, migration, name, waiting):
        what, _, who = fault.partition(" ")
        party = {"source VMM": self.vm, "target VMM": waiting, "source daemon": self.here.daemon,
                 "target daemon": self.there.daemon}.get(who)
        time.sleep(self.dice.random() * 0.6)
        if what == "cut":
            self.there.cord.cut(near=who != "there", far=who != "here")
        elif what == "silence":
            self.there.cord.silence()
        elif what == "cancel":
            self.here.daemon.run("cancel", name)
        elif what == "stop" and party.alive():
            with contextlib.suppress(FileNotFoundError):  # it may end just now
                party.freeze()
        elif what == "kill" and party.alive():
            party.kill()
        time.sleep(self.dice.random() * 0.4)
        self.there.cord.join()
        if what == "stop":
            party.thaw()

    def arrived(self, name, waiting, migration):
        """True: the guest is at the target."""
        if self.here.daemon.alive():
            result = migration.end()["result"]
            if result != "done":
                print(f"{name}, {self.fault}: {migration.end()['error']}")
        else:
            self.here.start()
            status = self.here.daemon.status(name)
            result = status["state"] if status else "done" if not self.vm.alive() else "failed"
        if result != "undecided":
            return result == "done"
        runs = waiting.alive() and any("running" in line for line in waiting.lines)
        if not runs and waiting.alive():
            waiting.kill()
        self.here.daemon.ok("resolve", name, "--keep", "target" if runs else "source")
        return runs

    def migrate(self, number):
        fault = self.dice.choices(list(FAULTS), list(FAULTS.values()))[0]
        self.fault = fault
        name = f"hop{number}"
        waiting = self.stage.waiting(memory="16M")
        last = self.vm.wait_ticks(1)
        migration = self.stage.migrate(
            self.here.daemon, self.there.daemon, self.vm, waiting, name, "--flows", 2,
            "--verify", "memory", "--downtime", "60s", "--bandwidth",
            # Its VMM is killed while the guest is not its own yet.
            "8M" if fault == "kill target VMM" else self.dice.choice(["0", "8M", "30M"]),
            "--reconnect", "30", "--peer-timeout", "5s",
            to=self.there.cord.address)
        self.strike(fault, migration, name, waiting)
        arrived = self.arrived(name, waiting, migration)
        outcome = (fault, "arrived" if arrived else "stayed")
        self.happened[outcome] = self.happened.get(outcome, 0) + 1
        if arrived:
            self.vm.wait()
            self.moved_to(waiting)
        else:
            assert not waiting.ticks(), f"{name}, {fault}: the guest ran on both sides"
            self.stayed(name, waiting)
        assert self.vm.wait_ticks() > last, f"{name}, {fault}: the guest went back"
        self.vm.whole()

    def moved_to(self, waiting):
        before = self.vm
        self.vm = waiting
        waiting.wait_ticks(1)
        assert before.ticks()[-1] <= waiting.ticks()[0], "the guest ran on both sides"
        self.stage.children.remove(before)
        before.close()
        self.here.look()
        if self.there.daemon.alive():
            self.there.look()
        self.held = holds(self.vm)
        self.here, self.there = self.there, self.here

    def stayed(self, name, waiting):
        if not self.there.daemon.alive():
            self.there.start()
        else:
            self.there.daemon.run("cancel", name)  # it may wait for a source that is no more
            wait_until("the target has ended it", lambda: (
                self.there.daemon.status(name) or {"state": "ended"})["state"] == "ended")
        self.stage.children.remove(waiting)
        waiting.close()
        wait_until(f"the VMM gives back what it took: {self.held}", lambda: all(
            now <= then for now, then in zip(holds(self.vm), self.held)))
        self.here.look()

    def play(self, times):
        for number in range(times):
            self.migrate(number)
            for host in (self.here, self.there):
                if not host.daemon.alive():
                    host.start()
        for outcome, count in sorted(self.happened.items()):
            print(*outcome, count)


@pytest.mark.parametrize("times,seed", [(20, 1), pytest.param(300, 2, marks=pytest.mark.long)])
def test_many(stage, times, seed):
    Many(stage, seed).play(times)
