# SPDX-License-Identifier: BSD-3-Clause
"""One guest, many migrations back and forth, with faults at random moments: it is never lost, never
torn, never in two places; it arrives where nothing stands against that; and those who took part
hold no more at the end than at the beginning."""

import contextlib
import random
import re
import time

import pytest

from cord import Cord
from godwit import wait_until
from matrix import STAGES
from test_matrix_faults import holds

# What happens on the way, and how often among so many.
FAULTS = {"nothing": 8, "cut": 3, "cut here": 2, "cut there": 2, "silence": 2, "cancel": 2,
          "kill target VMM": 2, "kill target daemon": 1, "kill source daemon": 1,
          "stop source VMM": 1, "stop target VMM": 1, "stop source daemon": 1,
          "stop target daemon": 1}
# Of a daemon, after its first sessions: they are remembered; threads and heaps come and go.
GROWTH_KIB, GROWTH_MAPS = 16384, 24
# Between these stages the network may be lost, and is waited for.
PATIENT = STAGES[STAGES.index("track"):STAGES.index("load")]


def status_of(process, *fields):
    text = open(f"/proc/{process.popen.pid}/status", encoding="utf-8").read()
    return sum(int(re.search(rf"^{field}:\s+(\d+) kB", text, re.M)[1]) for field in fields)


def maps_of(process):
    with open(f"/proc/{process.popen.pid}/maps", encoding="utf-8") as file:
        return sum(1 for _ in file)


def held_by(process):
    """What must be given back: files, maps of guests' memory, threads, huge pages."""
    return (*holds(process), status_of(process, "HugetlbPages"))


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

    def look(self):
        """Compares with what it held after its first few sessions."""
        self.sessions += 1
        if self.sessions < 3:
            return
        if self.first is None:
            self.first = (held_by(self.daemon), status_of(self.daemon, "VmRSS"),
                          maps_of(self.daemon))
        held, resident, maps = self.first
        wait_until(f"{self.name} gives back what it took: {held}", lambda: all(
            now <= then for now, then in zip(held_by(self.daemon), held)))
        assert status_of(self.daemon, "VmRSS") - resident < GROWTH_KIB, f"{self.name} grows"
        assert maps_of(self.daemon) - maps < GROWTH_MAPS, f"{self.name} maps more and more"


class Many:
    def __init__(self, stage, seed, backing="4K"):
        self.stage = stage
        self.backing = ["--hugepages"] if backing == "2M" else []
        self.dice = random.Random(seed)
        self.here, self.there = Host(stage, "source"), Host(stage, "target")
        self.vm = stage.vm(memory="16M", args=["--pattern", "random", "--rate", 1000,
                                               *self.backing])
        self.vm.wait_ticks(1)
        self.held = (held_by(self.vm)[:3], maps_of(self.vm))
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

    def lost_at(self):
        """The stage where the source was when the network was lost, by its log, or where the
        session ended."""
        stage = None
        for line in self.here.daemon.lines[self.since:]:
            begun = re.search(r"stage (\w+)$", line)
            if begun:
                stage = begun[1]
            elif "the network was lost" in line:
                return stage
        return (self.here.daemon.status(f"hop{self.number}") or {}).get("stage")

    def must_arrive(self, fault):
        """The fault is none that ends a migration."""
        what = fault.split()[0]
        return what in ("nothing", "stop", "silence") or what == "cut" and self.lost_at() in PATIENT

    def migrate(self, number):
        fault = self.dice.choices(list(FAULTS), list(FAULTS.values()))[0]
        self.fault, self.number = fault, number
        name = f"hop{number}"
        waiting = self.stage.waiting(memory="16M", args=self.backing)
        self.since = len(self.here.daemon.lines)
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
            assert not self.must_arrive(fault), \
                f"{name}, {fault}, lost at {self.lost_at()}: the guest stayed: " \
                f"{migration.end()['error']}"
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
        self.held = (held_by(self.vm)[:3], maps_of(self.vm))
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
        held, maps = self.held
        wait_until(f"the VMM gives back what it took: {held}", lambda: all(
            now <= then for now, then in zip(held_by(self.vm), held)))
        assert maps_of(self.vm) - maps < GROWTH_MAPS, "the VMM maps more and more"
        self.here.look()

    def play(self, times):
        for number in range(times):
            self.migrate(number)
            for host in (self.here, self.there):
                if not host.daemon.alive():
                    host.start()
        for outcome, count in sorted(self.happened.items()):
            print(*outcome, count)


LONG = pytest.mark.long


@pytest.mark.parametrize("times,seed", [(20, 1), pytest.param(300, 2, marks=LONG)])
def test_many(stage, times, seed):
    Many(stage, seed).play(times)


@LONG
def test_many_on_huge_pages(stage, hugepages):
    Many(stage, 3, "2M").play(40)


REMEMBERED = 64  # sessions, by a daemon
SAME = 50
SESSION_KIB = 8


@LONG
@pytest.mark.parametrize("how", ["moves", "stays"])
def test_the_same_again(stage, pair, how):
    """The same session so many times, once a daemon remembers as many as it ever will: none costs
    memory, of the daemons or of the VMM that stays."""
    here, there = pair
    vm = stage.vm(memory="8M", args=["--rate", 100])
    vm.wait_ticks(1)
    waiting = stage.waiting(memory="8M")
    for number in range(REMEMBERED + SAME + 4):
        if number == REMEMBERED + 4:
            before = {p: (status_of(p, "RssAnon"), held_by(p)) for p in (*pair, vm)}
        name = f"hop{number}"
        if how == "moves":
            moving = stage.migrate(here, there, vm, waiting, name)
            assert moving.end()["result"] == "done", moving.end()["error"]
            waiting.wait_ticks(1)
            vm.wait()
            stage.children.remove(vm)
            vm.close()
            vm, waiting = waiting, stage.waiting(memory="8M")
            here, there = there, here
        else:
            moving = stage.migrate(here, there, vm, waiting, name, "--hold")
            here.wait_state(name, "holding")
            here.ok("cancel", name)
            assert moving.end()["result"] == "cancelled"
            there.wait_state(name, "ended")
        stage.children.remove(moving)
        moving.close()
    vm.whole()
    for process, (anonymous, held) in before.items():
        if process.alive():
            grown = status_of(process, "RssAnon") - anonymous
            print(f"{process.name}: {grown / SAME:.1f} KiB a session")
            assert grown < SAME * SESSION_KIB, f"{process.name} grew by {grown} KiB"
            assert all(now <= then for now, then in zip(held_by(process), held))
