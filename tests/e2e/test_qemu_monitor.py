# SPDX-License-Identifier: BSD-3-Clause
"""A QEMU whose monitor refuses, talks nonsense, is late or silent, at each command: a clear error,
the guest runs on, and QEMU is as it was."""

import os
import signal
import socket

import pytest

from godwit import wait_until
from machine import Between, Machine

pytestmark = pytest.mark.usefixtures("pagemap_scan")

# The commands of a migration, in their order on each side.
LOOKING = ["query-name", "query-kvm", "query-status", "human-monitor-command", "query-memdev",
           "query-memory-devices", "query-migrate-capabilities", "query-migrate",
           "query-named-block-nodes", "qom-list", "query-cpus-fast", "query-block"]
SOURCE = LOOKING + ["query-migrate-parameters", "migrate-set-capabilities",
                    "migrate-set-parameters", "stop", "getfd", "migrate"]
TARGET = ["stop", "query-memdev", "migrate-set-capabilities", "getfd", "migrate-incoming"]
SAID = {"error": "planted", "garbage": "no QMP", "silence": "not answer"}
LATE = ["query-status", "stop", "migrate"]


class Rig:
    def __init__(self, stage):
        self.stage = stage
        self.here = Machine(stage)
        self.source, self.target = stage.source(), stage.target()
        self.between = Between(self.here, stage.folder / "between.qmp")
        stage.wires.append(self.between)
        self.there = self.as_made = None
        self.count = 0

    def waiting(self):
        if self.there is None or not self.there.alive() or self.there.state() != "inmigrate":
            self.there = Machine(self.stage, incoming=True)
            self.as_made = self.there.settings()
        return self.there

    def migrate(self, here, there, *how):
        self.count += 1
        return self.stage.migrate(self.source, self.target, here, there, f"guest{self.count}", *how)

    def moved(self, there):
        self.here.wait()
        wait_until("its QEMU is as it waited", lambda: there.settings() == self.as_made)
        self.here = self.between.machine = there
        self.there = None

    def stayed(self, before):
        wait_until("the guest runs on", lambda: self.here.state() == "running")
        wait_until("its QEMU is as it was", lambda: self.here.settings() == before)


@pytest.fixture(scope="module")
def rig(shared):
    return Rig(shared)


@pytest.mark.parametrize("command,what", [
    pytest.param(c, w, marks=[] if w == "error" or c in LATE else pytest.mark.long)
    for c in SOURCE for w in ("error", "garbage")])
def test_source(rig, command, what):
    before = rig.here.settings()
    there = rig.waiting()
    rig.between.plan(command, what)
    end = rig.migrate(rig.between, there).failed()
    assert rig.between.at is None, f"{command} was never asked: {rig.between.seen}"
    assert ("planted" if what == "error" else "no QMP") in end["error"], end["error"]
    if (command, what) == ("migrate", "error"):
        assert "closefd" in rig.between.seen, "it keeps the socket that it did not use"
    rig.target.run("cancel", f"guest{rig.count}")
    rig.stayed(before)


@pytest.mark.parametrize("command", LATE)
def test_late(rig, command):
    """Waiting is all that it takes; the guest comes back for the next test."""
    there = rig.waiting()
    rig.between.plan(command, "late")
    rig.migrate(rig.between, there).done()
    assert there.state() == "running"
    rig.moved(there)


def test_settings_are_put_back_later(rig):
    """What a target's QEMU does not take as soon as it has the guest it takes once that runs."""
    there = rig.waiting()
    between = Between(there, rig.stage.folder / "later.qmp")
    rig.stage.wires.append(between)
    again = "migrate-set-capabilities"
    between.plan(again, "late", (again, "error"))
    rig.migrate(rig.here, between).done()
    assert between.at is None and between.seen.count(again) == 3, between.seen
    rig.moved(there)


def test_state_before_the_answer(rig):
    """QEMU may save before it answers that it will, and holds its big lock while it writes: what it
    writes is taken meanwhile, or it would never answer."""
    there = rig.waiting()
    rig.between.plan("migrate", "behind", meanwhile=lambda: wait_until(
        "QEMU has saved", lambda: rig.here.state() == "postmigrate"))
    report = rig.migrate(rig.between, there).done()
    assert report["state_bytes"] > 212992  # what a socket holds by default
    rig.moved(there)


@pytest.mark.parametrize("command,what", [
    pytest.param(c, w, marks=[] if w == "error" or c == "migrate-incoming" and w == "garbage"
                 else pytest.mark.long) for c in TARGET for w in SAID
    if w != "silence" or c in ("stop", "migrate-incoming")])
def test_target(rig, command, what):
    """Silence is given up after a minute, and after half of one where the guest stands still."""
    before, waiting = rig.here.settings(), rig.waiting().settings()
    between = Between(rig.there, rig.stage.folder / f"{command}{what}.qmp")
    rig.stage.wires.append(between)
    between.plan(command, what)
    if command in LOOKING or command == "stop":
        said = rig.target.fails("receive", f"early{command}{what}", *between.way, timeout=180)
    else:
        said = rig.migrate(rig.here, between).failed()["error"]
    assert between.at is None and SAID[what] in said, said
    rig.stayed(before)
    if what == "error":
        assert rig.there.settings() == waiting
    else:
        rig.there.kill()  # it would be asked by nobody any more


@pytest.mark.long  # cont is tried for five seconds, and silence given up after a minute
@pytest.mark.parametrize("what", ["always", "garbage", "silence"])
def test_target_does_not_run_it(rig, what):
    """Refused after its QEMU was ended, so that the guest can go on at the source. Silence lasts
    longer than the source waits, which hears the word later."""
    before = rig.here.settings()
    there = rig.waiting()
    between = Between(there, rig.stage.folder / f"cont{what}.qmp")
    rig.stage.wires.append(between)
    between.plan("cont", what)
    end = rig.migrate(rig.here, between).failed()
    if what == "silence":
        assert end["result"] == "undecided", end
    else:
        assert SAID["error" if what == "always" else what] in end["error"], end["error"]
    there.wait()
    rig.source.wait_state(f"guest{rig.count}", "ended")
    assert rig.source.status(f"guest{rig.count}")["result"] == "failed"
    rig.stayed(before)


@pytest.mark.long  # silence is given up after half a minute, and after 10 s from getfd on
@pytest.mark.parametrize("command", ["query-memdev", "stop", "getfd", "fence"])
def test_silence(rig, command):
    """At the fence too it is certain that the guest is the source's: the keeper gives it back."""
    before = rig.here.settings()
    if command == "fence":
        rig.between.plan("migrate", "late", ("query-status", "silence"))
    else:
        rig.between.plan(command, "silence")
    end = rig.migrate(rig.between, rig.waiting()).failed()
    assert "not" in end["error"] and end["result"] != "undecided"
    assert ("The guest goes on here" in end["error"]) == (command == "fence"), end["error"]
    rig.target.run("cancel", f"guest{rig.count}")
    rig.stayed(before)


def test_late_write(rig):
    """Law 9: what is written while the device state is saved reaches the target's memory before
    its QEMU loads that state. Planted through QEMU's own page table, as a device model writes."""
    here, there, at = rig.here, rig.waiting(), 17 << 20
    said = here.monitor.run("human-monitor-command", command_line=f"gpa2hva {at:#x}")
    address = int(said.split(" is ")[1], 16)
    original, loading = rig.between._command, Between(there, rig.stage.folder / "loading.qmp")
    rig.stage.wires.append(loading)
    seen = []

    def save(client, line):
        if b'"migrate"' in line:
            with open(f"/proc/{here.popen.pid}/mem", "r+b", buffering=0) as memory:
                memory.seek(address)
                memory.write(b"late write")
        return original(client, line)

    def load(client, line):
        if b'"migrate-incoming"' in line:
            with open(there.path, "rb") as memory:
                memory.seek(at)
                seen.append(memory.read(10))
        return True
    rig.between._command, loading._command = save, load
    report = rig.migrate(rig.between, loading).done()
    rig.between._command = original
    assert seen == [b"late write"]
    late = [p for p in report["passes_detail"] if p["kind"] == "late"]
    assert late[0]["dirty_pages"] > 0
    rig.moved(there)


def announced(between):
    """Switches are told where the guest is, once it runs."""
    seen = between.seen
    wait_until("the guest is announced", lambda: "announce-self" in seen)
    return seen.index("announce-self") > len(seen) - 1 - seen[::-1].index("cont")


def test_guest_is_announced(rig):
    """Where it goes on, and where it comes back to: by the daemon, and by the keeper."""
    before = rig.here.settings()
    for who in ("daemon", "keeper"):
        there = rig.waiting()
        rig.between.plan("migrate", "silence")  # paused, until somebody gives up
        migration = rig.migrate(rig.between, there)
        wait_until("the guest is paused", lambda: "migrate" in rig.between.seen)
        assert rig.here.state() == "paused" and "announce-self" not in rig.between.seen
        if who == "daemon":
            rig.source.ok("cancel", f"guest{rig.count}")
            assert migration.failed()["result"] == "cancelled"
        else:
            rig.source.kill()
            rig.source = rig.stage.source(port=rig.source.port)
        rig.stayed(before)
        assert announced(rig.between)
        if who == "keeper":
            rig.target.run("cancel", f"guest{rig.count}")
    there = rig.waiting()
    between = Between(there, rig.stage.folder / "announced.qmp")
    rig.stage.wires.append(between)
    rig.migrate(rig.here, between).done()
    assert announced(between)
    rig.moved(there)


def test_somebody_else_resumes_the_guest(rig):
    """The pause is Godwit's, and somebody with another monitor does not keep to it."""
    before = rig.here.settings()
    there = rig.waiting()
    original = rig.between._command

    def resume(client, line):
        if b'"getfd"' in line:
            rig.here.monitor.run("cont")
        return original(client, line)
    rig.between._command = resume
    end = rig.migrate(rig.between, there).failed()
    rig.between._command = original
    assert "somebody resumed the guest" in end["error"]
    rig.target.run("cancel", f"guest{rig.count}")
    rig.stayed(before)


def test_attach_dies(rig):
    """Without it nothing can be told of the guest's memory any more: it stays, and runs."""
    before = rig.here.settings()
    lasting, rig.source = rig.source, rig.stage.daemon("third", cores="0")
    migration = rig.migrate(rig.here, rig.waiting(), "--hold")
    rig.source.wait_state(f"guest{rig.count}", "holding")
    capabilities = [line for line in open(f"/proc/{rig.source.popen.pid}/status")
                    if line.startswith("CapEff:")][0]
    assert int(capabilities.split()[1], 16) >> 19 & 1 == 0, "godwitd may trace"
    os.kill(rig.source.child_of("godwit-attach"), signal.SIGKILL)
    rig.source.ok("switch-now", f"guest{rig.count}")
    assert "godwit-attach" in migration.failed()["error"]
    rig.target.run("cancel", f"guest{rig.count}")
    rig.stayed(before)
    assert "restart godwitd" in rig.source.fails(
        "migrate", "again", *rig.here.way, "--to", rig.target.address)
    rig.source = lasting


def test_keeper_dies(rig):
    """Without it the guest is not paused: nobody would give it back if the daemon died too."""
    before = rig.here.settings()
    migration = rig.migrate(rig.here, rig.waiting(), "--hold")
    rig.source.wait_state(f"guest{rig.count}", "holding")
    keeper = rig.source.child_of("godwit-keeper")
    os.kill(keeper, signal.SIGTERM)  # as a service manager does: it stays
    os.kill(keeper, 0)
    os.kill(keeper, signal.SIGKILL)
    rig.source.ok("switch-now", f"guest{rig.count}")
    assert "godwit-keeper" in migration.failed()["error"]
    rig.target.run("cancel", f"guest{rig.count}")
    rig.stayed(before)


@pytest.mark.long
@pytest.mark.parametrize("at", ["holding", "stop", "getfd", "migrate", "query-migrate"])
def test_source_qemu_dies(rig, at):
    """The guest is gone with it; that is said, and nothing comes to life at the target."""
    there, here = rig.waiting(), rig.here
    rig.here = Machine(rig.stage)  # for the next test
    between = Between(here, rig.stage.folder / f"dies{at}.qmp")
    rig.stage.wires.append(between)
    original = between._command

    def die(client, line):
        paused = "stop" in between.seen or at == "stop"
        if f'"{at}"'.encode() not in line or not paused:
            return original(client, line)
        here.kill()
        client.shutdown(socket.SHUT_RDWR)
        return False
    if at == "holding":
        migration = rig.migrate(here, there, "--hold")
        rig.source.wait_state(f"guest{rig.count}", "holding")
        here.kill()
    else:
        between._command = die
        migration = rig.migrate(between, there)
    error = migration.failed()["error"]
    assert "QEMU" in error and "ended" in error, error
    assert there.alive() and there.state() == "inmigrate"
    rig.between.machine = rig.here


def test_monitor_is_taken(rig):
    """A monitor serves one client; the sentence says so."""
    with socket.socket(socket.AF_UNIX) as taken:
        taken.connect(os.fspath(rig.here.qmp))
        assert taken.recv(4096)
        said = rig.source.run("doctor", "--qmp", rig.here.qmp)
        assert said.returncode == 1 and "another program holds this monitor" in said.stdout


def test_not_qemu_listens(rig):
    said = rig.target.fails("receive", "guest", "--qmp", rig.between.path)
    assert "--pid" in said
