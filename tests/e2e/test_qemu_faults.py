# SPDX-License-Identifier: BSD-3-Clause
"""An unmodified QEMU's guest, and everybody who takes part in its migration dying at each stage,
the pause included. Before the commit the guest runs on at the source, its QEMU is as it was, and
the next migration succeeds. All tests share one guest, which moves on from each to the next."""

import pytest

import guest
import qemu
from godwit import wait_until

pytestmark = [pytest.mark.insecure,  # these tests stand between the daemons, and read
              pytest.mark.usefixtures("pagemap_scan")]

REQUESTS = ["preflight", "prepare", "flows", "save", "load"]
PLANTED = ["vmm", "hello", "track", "pause", "late", "verify"]  # no message to hold there
STAGES = ["copying", "holding", "last", *REQUESTS, "load answered"]
VICTIMS = ["source daemon", "target daemon", "target QEMU"]
QUICK = {("last", "source daemon"), ("save", "source daemon"), ("load", "target daemon"),
         ("load answered", "target QEMU")}


def settings(of):
    """What a migration changes for its time."""
    found = {c["capability"]: c["state"] for c in of.monitor.run("query-migrate-capabilities")}
    found["max-bandwidth"] = of.monitor.run("query-migrate-parameters")["max-bandwidth"]
    return found


class Rig:
    def __init__(self, stage):
        self.stage = stage
        self.guest = guest.Guest(stage, qemu.Shape(ram=(qemu.Ram(160),),
                                                   checker="--memory 16 --rate 300"))
        self.source, self.target = stage.source(), stage.target()
        self.count = 0
        self.hold = stage.folder / "hold"

    def begin(self, at, *how):
        """A migration that stands at a stage."""
        self.count += 1
        self.name = f"guest{self.count}"
        self.before = settings(self.guest.at)
        self.there = self.guest.waiting()
        self.wire = self.stage.wire(self.target)
        self.last = self.guest.at.wait_beats(1)
        op, *answered = at.split()
        if op in PLANTED:
            self.plant(op)
        elif op in REQUESTS or op == "commit":
            self.wire.hold(op, bool(answered))
        elif at == "copying":
            how += ("--bandwidth", "1M")
        else:
            how += ("--hold",)
        # However slow the host is: what is under test is not whether it converges.
        how += ("--downtime", "60s", *(() if "--reconnect" in how else ("--reconnect", 0)))
        self.migration = self.stage.migrate(self.source, self.target, self.guest.at, self.there,
                                            self.name, *how, to=self.wire.address)
        if op in PLANTED:
            wait_until(f"the source is at stage {op}", lambda: (
                self.source.status(self.name) or {}).get("stage") == op)
        elif op in REQUESTS or op == "commit":
            self.wire.wait()
        elif at == "last":
            self.source.wait_state(self.name, "holding")
            wait_until("a live look shows what the guest wrote", lambda: any(
                e["event"] == "pass" and e["pass"] > 0 and e["dirty_pages"] > 0
                for e in self.migration.events()))
            self.wire.hold_barriers()
            self.source.ok("switch-now", self.name)
            self.wire.wait_barrier()
            while self.source.status(self.name)["stage"] != "last":
                self.wire.let_barrier_go()
                self.wire.wait_barrier()
        else:
            self.source.wait_state(self.name, at)

    def plant(self, at):
        """The next migrations stand at this stage as long as the file is there."""
        self.hold.touch()
        self.source.close()
        self.source = self.stage.source(port=self.source.port, plant=f"stage:{at}:{self.hold}")

    def kill(self, who):
        {"source daemon": self.source, "target daemon": self.target, "target QEMU": self.there,
         "source QEMU": self.guest.at}[who].kill()
        if who == "target daemon":
            self.wire.cut()  # what is held must not arrive at the next one
        self.wire.let_go()

    def again(self):
        """Daemons that died are started anew, and the guest moves."""
        self.there.close()
        if not self.source.alive():
            self.source = self.stage.source(port=self.source.port)
        if not self.target.alive():
            self.target = self.stage.target(port=self.target.port)
        self.guest.hop((self.source, self.target))

    def stayed(self):
        """The guest runs on where it was, and its QEMU is as it was."""
        at = self.guest.at
        wait_until("the guest runs on at the source", lambda: at.state() == "running")
        at.wait_beats()
        at.no_complaint()
        assert not self.there.beats(), "the guest ran on both sides"
        wait_until(f"{at.name} is as it was: {self.before}", lambda: settings(at) == self.before)


@pytest.fixture(scope="module")
def rig(shared):
    return Rig(shared)


@pytest.mark.parametrize("at,victim", [
    pytest.param(at, victim, marks=[] if (at, victim) in QUICK else pytest.mark.long)
    for at in [*STAGES, *PLANTED] for victim in VICTIMS])
def test_guest_survives(rig, at, victim):
    rig.begin(at)
    rig.kill(victim)
    rig.hold.unlink(missing_ok=True)
    rig.stayed()
    if victim != "source daemon":
        end = rig.migration.failed()
        assert end["error"] and end["result"] in ("failed", "refused")
    rig.again()


@pytest.mark.parametrize("at", ["save", *(pytest.param(at, marks=pytest.mark.long)
                                          for at in ("copying", "holding", "last", *PLANTED,
                                                     "preflight", "prepare", "flows", "load"))])
def test_cancel(rig, at):
    """At every stage that comes before the commit."""
    rig.begin(at)
    rig.source.ok("cancel", rig.name)
    rig.wire.let_go()
    rig.hold.unlink(missing_ok=True)
    assert rig.migration.failed()["result"] == "cancelled"
    rig.stayed()
    rig.again()


@pytest.mark.long
@pytest.mark.parametrize("at", ["copying", "last", "load"])
def test_source_daemon_is_told_to_end(rig, at):
    """As a service manager does it, in the pause too."""
    rig.begin(at)
    rig.source.close()
    rig.wire.cut()
    rig.stayed()
    rig.again()


@pytest.mark.parametrize("at", ["save", *(pytest.param(at, marks=pytest.mark.long)
                                          for at in ("copying", "last"))])
def test_network_is_back(rig, at):
    """The guest runs meanwhile, and goes in the same session."""
    rig.begin(at, "--reconnect", 60)
    rig.wire.stop_at = None
    rig.wire.cut()
    wait_until("the network is back", lambda: (rig.source.status(rig.name) or {})
               .get("report", {}).get("reconnects"))
    for command in (("switch-now",) if at in ("last", "holding") else
                    ("set", "--bandwidth", 0) if at == "copying" else ()), :
        if command:
            rig.source.ok(command[0], rig.name, *command[1:])
    assert rig.migration.done()["reconnects"] == 1
    rig.guest.arrived(rig.there, rig.last)


def test_commit_lost_then_source_keeps(rig):
    rig.begin("commit")
    rig.wire.cut()
    end = rig.migration.failed()
    assert end["result"] == "undecided" and "resolve" in end["error"]
    assert rig.guest.at.state() == "postmigrate" and not rig.there.beats()
    rig.there.kill()
    rig.source.ok("resolve", rig.name, "--keep", "source")
    rig.stayed()
    rig.again()


def test_source_daemon_dies_after_commit(rig):
    """Fenced: nobody resumes the guest by himself, however long it takes. The next daemon knows."""
    rig.begin("commit")
    rig.source.kill()
    rig.wire.cut()
    assert rig.guest.at.state() == "postmigrate"
    rig.source = rig.stage.source(port=rig.source.port)
    assert rig.source.status(rig.name)["state"] == "undecided"
    assert rig.guest.at.state() == "postmigrate" and not rig.there.beats()
    rig.there.kill()
    rig.source.ok("resolve", rig.name, "--keep", "source")
    rig.stayed()
    rig.again()


def test_answer_lost_then_target_keeps(rig):
    rig.begin("commit answered")
    rig.wire.cut()
    assert rig.migration.failed()["result"] == "undecided"
    rig.source.ok("resolve", rig.name, "--keep", "target")
    rig.guest.at.wait()
    rig.guest.arrived(rig.there, rig.last)


@pytest.mark.parametrize("running", [True, False])
def test_run_state_goes_along(rig, running):
    """A guest that was paused stays so, at the target and, where it comes back, at the source."""
    at = rig.guest.at
    if not running:
        at.monitor.run("stop")
    rig.there = rig.guest.waiting()
    rig.stage.migrate(rig.source, rig.target, at, rig.there, f"state{running}").done()
    assert rig.there.state() == ("running" if running else "paused")
    if not running:
        rig.there.monitor.run("cont")
    rig.guest.arrived(rig.there, max(at.beats(), default=0))


def test_guest_is_whole(rig):
    rig.guest.end()


def test_source_qemu_dies(rig):
    """The last test: the guest is lost with its QEMU, and nothing comes to life at the target."""
    rig.begin("last")
    rig.kill("source QEMU")
    error = rig.migration.failed()["error"]
    assert "QEMU" in error and "ended" in error, error
    assert not rig.there.beats()
