# SPDX-License-Identifier: BSD-3-Clause
"""Deaths that test_qemu_faults.py has no place for: the small processes beside a daemon
(godwit-keeper gives a guest back when its daemon dies, godwit-attach looks into its QEMU), and what
dies around the commit. The guest is a bare machine's: what is looked at is on which side it runs,
that it never runs on both, and that its QEMU is as it was."""

import os
import signal
import time

import pytest

import matrix
from godwit import wait_until
from machine import Between, Machine

pytestmark = [pytest.mark.insecure, pytest.mark.usefixtures("pagemap_scan")]
LONG = pytest.mark.long

SOURCE, TARGET, OPERATOR, LOST = matrix.SOURCE, matrix.TARGET, matrix.OPERATOR, matrix.LOST
STAGES = ["preflight", "prepare", "flows", "track", "copy", "pause", "last", "save", "late", "load"]


class Death:
    """A migration that stands at a stage of the source, or at a message ("commit", "commit
    answered")."""

    def __init__(self, stage, at, message=False):
        self.stage = stage
        self.hold = stage.folder / "hold"
        self.hold.touch()
        plant = None if message else f"stage:{at}:{self.hold}"
        self.source, self.target = stage.source(plant=plant), stage.target()
        self.here, self.there = Machine(stage), Machine(stage, incoming=True)
        self.before = self.here.settings()
        self.wire = stage.wire(self.target)
        if message:
            self.wire.hold(at.split()[0], "answered" in at)
        self.migration = stage.migrate(self.source, self.target, self.here, self.there, "guest",
                                       "--downtime", "60s", "--reconnect", 0, to=self.wire.address)
        if message:
            self.wire.wait()
        else:
            wait_until(f"the source is at stage {at}", lambda: (
                self.source.status("guest") or {}).get("stage") == at)

    def kill(self, who, number=signal.SIGKILL):
        """False where there is no such process."""
        if who in ("keeper", "source attach", "target attach"):
            side = self.target if who == "target attach" else self.source
            try:
                pid = side.child_of("godwit-" + who.split()[-1])
            except AssertionError:
                return False
            os.kill(pid, number)
        else:
            {"source daemon": self.source, "target daemon": self.target,
             "source QEMU": self.here, "target QEMU": self.there}[who].kill()
            if who == "target daemon":
                self.wire.cut()  # what is held must not arrive at the next one
        return True

    def go_on(self):
        self.hold.unlink(missing_ok=True)
        self.wire.let_go()

    def runs_at_the_source(self):
        wait_until("the guest runs on at the source", lambda: self.here.state() == "running")
        wait_until("its QEMU is as it was", lambda: self.here.settings() == self.before)
        assert not self.there.alive() or self.there.state() != "running", "it runs on both sides"

    def runs_at_the_target(self):
        wait_until("it runs at the target", lambda: self.there.state() == "running")
        self.here.wait()

    def ended(self, expected):
        """As expected; error: what the source's daemon said."""
        if expected == TARGET:
            self.migration.done()
            self.runs_at_the_target()
            return None
        error = self.migration.failed()["error"]
        if expected == SOURCE:
            self.runs_at_the_source()
        return error

    def undecided(self):
        """Nobody runs it; then the operator has it go on at the source."""
        assert self.source.status("guest")["state"] == "undecided"
        time.sleep(0.5)
        assert self.here.state() == "postmigrate"
        assert not self.there.alive() or self.there.state() != "running"
        self.there.kill()
        self.source.ok("resolve", "guest", "--keep", "source")
        self.runs_at_the_source()


def after_helper(who, at):
    """Who is needed no more may go; without the others the guest stays. The keeper learns of each
    pause what it is to do, and is asked for nothing after that; attach looks up to the last page,
    and at the target only before the guest comes."""
    if who == "target attach":
        return TARGET
    last = "pause" if who == "keeper" else "late"
    return SOURCE if STAGES.index(at) <= STAGES.index(last) else TARGET


@pytest.mark.parametrize("who,at", [
    pytest.param(who, at, marks=pytest.mark.smoke if (who, at) == ("keeper", "last") else LONG)
    for who in ("source attach", "target attach", "keeper") for at in STAGES])
def test_helper_dies(stage, who, at):
    death = Death(stage, at)
    if not death.kill(who):
        assert who == "keeper" and STAGES.index(at) < STAGES.index("pause")
        return  # it is not there yet
    death.go_on()
    error = death.ended(after_helper(who, at))
    assert error is None or "godwit-" + who.split()[-1] in error


@LONG
@pytest.mark.parametrize("at", ["pause", "last", "save", "load"])
def test_keeper_hangs(stage, at):
    """One that takes no list any more is as good as dead: it is made certain that it is."""
    death = Death(stage, at)
    if not death.kill("keeper", signal.SIGSTOP):
        pytest.skip("there is no keeper yet")
    death.go_on()
    end = death.migration.end()
    if end["result"] == "done":
        death.runs_at_the_target()
    else:
        assert "godwit-keeper" in end["error"]
        death.runs_at_the_source()


@LONG
def test_keeper_waits_for_its_qemu(stage):
    """Nobody else gives the guest back, whenever a QEMU that hangs on its disk goes on."""
    death = Death(stage, "late")
    death.here.freeze()
    death.kill("source daemon")
    time.sleep(15)
    death.here.thaw()
    death.runs_at_the_source()


def test_network_is_lost_while_qemu_saves(stage):
    """QEMU is told to let it be, the guest runs on, and all of it is saved at the next pause."""
    source, target = stage.source(), stage.target()
    here, there = Machine(stage), Machine(stage, incoming=True)
    between, wire = Between(here, stage.folder / "between.qmp"), stage.wire(target)
    stage.wires.append(between)

    def lose():
        wire.cut()
        source.wait_state("guest", "reconnecting")
    between.plan("migrate", "behind", meanwhile=lose)
    migration = stage.migrate(source, target, between, there, "guest", "--reconnect", 60,
                              "--downtime", "60s", to=wire.address)
    assert migration.done()["reconnects"] == 1
    assert between.seen.count("migrate") == 2
    assert there.state() == "running"
    here.wait()


@LONG
@pytest.mark.parametrize("at", [*STAGES, "verify", "commit"])
def test_source_qemu_dies(stage, at):
    """The guest is lost with it; nothing comes to life at the target."""
    death = Death(stage, at)
    death.kill("source QEMU")
    death.go_on()
    error = death.ended(LOST)
    assert error
    time.sleep(0.5)
    assert not death.there.alive() or death.there.state() != "running"


@pytest.mark.parametrize("at,who,expected", [
    pytest.param("commit", "target QEMU", SOURCE),
    pytest.param("commit", "target daemon", OPERATOR, marks=LONG),
    pytest.param("commit", "source QEMU", TARGET, marks=LONG),
    pytest.param("commit", "target attach", TARGET, marks=LONG),
    pytest.param("commit", "source attach", TARGET, marks=LONG),
    pytest.param("commit answered", "source QEMU", TARGET, marks=LONG),
    pytest.param("commit answered", "source attach", TARGET, marks=LONG)])
def test_around_the_commit(stage, at, who, expected):
    death = Death(stage, at, message=True)
    death.kill(who)
    death.go_on()
    death.ended(expected)
    if expected == OPERATOR:
        death.undecided()
