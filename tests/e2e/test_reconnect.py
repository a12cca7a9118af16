# SPDX-License-Identifier: BSD-3-Clause
"""The network between the daemons is lost while pages go, and comes back: both sides go on from
what was acknowledged, with new keys. Where it does not come back in time, the guest runs on."""

import socket
import subprocess
import time

import pytest

import wire
from cord import Cord
from fabric import Cable
from godwit import wait_until
from test_faults import Fault


def slowly(stage, source, target, to, *how, flows=2, wait="60s"):
    """A migration in its first pass, which lasts until it is let run."""
    lost = Lost(stage, source, target)
    lost.migration = stage.migrate(
        source, target, lost.vm, lost.waiting, "guest", "--flows", flows, "--verify", "memory",
        "--reconnect", wait, "--peer-timeout", "6s", "--bandwidth", "8M", *how, to=to)
    source.wait_state("guest", "copying")
    wait_until("pages go", lambda: source.status("guest")["report"]["pages_data"] > 500)
    return lost


class Lost:
    def __init__(self, stage, source, target):
        self.stage, self.source, self.target = stage, source, target
        self.vm = stage.vm(args=["--vcpus", 2, "--pattern", "random", "--rate", 2000])
        self.waiting = stage.waiting()
        self.last = self.vm.wait_ticks()

    def lost(self):
        self.source.wait_state("guest", "reconnecting")
        self.vm.wait_ticks(2)

    def arrived(self, times=1):
        wait_until("the pages go on", lambda: self.source.status("guest")["state"] == "copying" or
                   not self.migration.alive())
        if self.migration.alive():
            self.source.ok("set", "guest", "--bandwidth", 0)
        report = self.migration.done()
        assert report["reconnects"] == times
        # Each loss cost the pass under way; attempts to come back are no passes.
        assert report["passes"] == len(report["passes_detail"]) + times
        assert report["verified_pages"] > 0
        assert self.waiting.wait_ticks(3) > self.last
        assert self.vm.wait() == 0
        self.vm.whole()
        self.waiting.whole()
        # What had been acknowledged did not go again: pass 0 was not begun anew.
        first = next(p for p in report["passes_detail"])
        assert first["pass"] > 0 and first["dirty_pages"] < 16384

    def stayed(self):
        end = self.migration.failed()
        assert end["result"] == "failed" and "--reconnect" in end["error"]
        self.vm.wait_ticks(3)
        self.vm.whole()
        assert not self.waiting.ticks(), "the guest ran on both sides"


class Corded(Lost):
    """Over a cord."""

    def __new__(cls, stage, *how, flows=2, wait="60s"):
        cores = ",".join(["0"] * flows)
        source, target = stage.source(cores=cores), stage.target(cores=cores)
        cord = Cord(target.port)
        stage.wires.append(cord)
        lost = slowly(stage, source, target, cord.address, *how, flows=flows, wait=wait)
        lost.cord = cord
        return lost


LONG = pytest.mark.long


@pytest.mark.parametrize("how", [pytest.param("both hear of it", marks=pytest.mark.smoke),
                                 "nobody",
                                 pytest.param("the source", marks=LONG),
                                 pytest.param("the target", marks=LONG)])
def test_network_is_back(stage, how):
    lost = Corded(stage)
    if how == "nobody":
        lost.cord.silence()
    else:
        lost.cord.cut(near=how != "the target", far=how != "the source")
    lost.lost()
    lost.cord.join()
    lost.arrived()


@pytest.mark.parametrize("which", ["flow", pytest.param("control", marks=LONG)])
def test_one_connection_breaks(stage, which):
    """The first one of the session is its control connection."""
    lost = Corded(stage)
    lost.cord.cut(which=slice(0, 1) if which == "control" else slice(1, 2))
    lost.cord.join()
    lost.arrived()


def test_twice(stage):
    lost = Corded(stage)

    def sent():
        return lost.source.status("guest")["report"]["pages_data"]
    for _ in range(2):
        since = len(lost.source.lines)
        lost.cord.cut()
        lost.lost()
        lost.source.wait_line("tries for 60 s more", since)  # as if it was the first time
        lost.cord.join()
        before = sent()
        wait_until("pages go on", lambda: sent() > before + 500)
    lost.arrived(2)


def test_network_does_not_come_back(stage):
    """Both sides end, and say why; the next migration succeeds."""
    lost = Corded(stage, wait="1s")
    lost.cord.cut()
    lost.stayed()
    assert "reconnect" in lost.target.wait_state("guest", "ended")["error"]
    lost.waiting.close()
    stage.moved(lost.source, lost.target, lost.vm)


@pytest.mark.parametrize("anew", [True, pytest.param(False, marks=LONG)])
def test_target_daemon_is_gone(stage, anew):
    """Whoever is refused is not waited for: by a new daemon that knows nothing of the session, or
    where none listens."""
    lost = Corded(stage)
    lost.cord.cut()
    lost.target.kill()
    target = anew and stage.target(port=lost.target.port)
    lost.cord.join() if anew else lost.cord.close()
    end = lost.migration.failed()
    assert end["result"] == "failed" and end["report"]["reconnects"] == 1
    assert not anew or "nobody knows session guest there" in end["error"]
    lost.vm.wait_ticks(3)
    lost.waiting.close()
    stage.moved(lost.source, target or stage.target(port=lost.target.port), lost.vm)


def test_source_is_gone_and_received_anew(stage):
    """The operator knows that nobody comes back: a new `receive` of that name is not put off."""
    lost = Corded(stage)
    lost.source.kill()
    lost.cord.close()
    lost.target.wait_state("guest", "reconnecting")
    source = stage.source(port=lost.source.port)
    again = stage.migrate(source, lost.target, lost.vm, lost.waiting, "guest", "--verify", "memory",
                          "--downtime", "60s", "--flows", 2)
    assert again.done()["verified_pages"] > 0
    assert lost.waiting.wait_ticks(2) > lost.last
    lost.waiting.whole()


@LONG
def test_cancelled_meanwhile(stage):
    lost = Corded(stage)
    lost.cord.cut()
    lost.lost()
    lost.source.ok("cancel", "guest")
    assert lost.migration.failed()["result"] == "cancelled"
    lost.target.ok("cancel", "guest")
    lost.waiting.close()
    stage.moved(lost.source, lost.target, lost.vm)


def test_interface_goes_down(stage):
    """A real link between two network namespaces, down for longer than anybody's patience."""
    net = stage.fabric(Cable)
    ports = [net.daemon(side) for side in (0, 1)]
    for port in ports:
        port["ports"] = ""
    target = stage.target(cores="0", **ports[1])
    source = stage.source(cores="0", **ports[0])
    lost = slowly(stage, source, target, target.address, flows=1)

    def link(way):
        subprocess.run(["ip", "-n", net.spaces[1], "link", "set", "ctl", way], check=True)
    link("down")
    lost.lost()
    time.sleep(2)
    link("up")
    lost.arrived()


# The guest is paused, and its daemons stand at a message: from here on these stand between, and
# read plain text.

@pytest.mark.insecure
@pytest.mark.parametrize("at", ["last", pytest.param("save", marks=pytest.mark.smoke),
                                pytest.param("save answered", marks=LONG),
                                pytest.param("verify", marks=LONG)])
def test_in_the_pause(stage, at):
    """The guest does not wait for the network: it runs, and is paused anew."""
    fault = Fault(stage, at, reconnect=60)
    ticks = len(fault.vm.ticks())
    fault.wire.stop_at = None
    fault.wire.cut()
    report = fault.migration.done()
    assert report["reconnects"] == 1 and report["verified_pages"] > 0
    fault.vm.wait()
    assert len(fault.vm.ticks()) >= ticks
    fault.waiting.wait_ticks(3)
    fault.vm.whole()
    fault.waiting.whole()


@pytest.mark.insecure
@pytest.mark.parametrize("at", [pytest.param("load", marks=LONG), "load answered"])
def test_too_late(stage, at):
    """The target's VMM may have its state: nothing is resumed, and the guest stays."""
    fault = Fault(stage, at, reconnect=60)
    fault.wire.cut()
    assert fault.migration.failed()["result"] == "failed"
    fault.vm.wait_ticks(3)
    fault.vm.whole()
    fault.again()


@pytest.mark.insecure
def test_answer_is_lost(stage):
    """The target has taken the session up again, and the source never hears of it: the next
    attempt is no repetition."""
    fault = Fault(stage, "holding", reconnect=60)
    fault.wire.hold("resume", answer=True)
    fault.wire.cut()
    fault.wire.wait()
    fault.wire.stop_at = None
    fault.wire.cut()
    fault.source.wait_state("guest", "holding")
    fault.source.ok("switch-now", "guest")
    assert fault.migration.done()["reconnects"] == 1
    fault.waiting.wait_ticks(3)
    fault.waiting.whole()
    fault.vm.whole()


@pytest.mark.insecure
def test_a_stranger_resumes_nothing(stage):
    """Who does not know the session's secret is refused, and disturbs nobody."""
    fault = Fault(stage, "holding", reconnect=60)
    good = {"op": "resume", "seq": 1, "protocol": 1, "name": "guest", "secret": "0" * 32,
            "pass": 1 << 20}
    for change in ({}, {"secret": "xyz"}, {"secret": None}, {"pass": -1}, {"pass": 1 << 32},
                   {"name": "nobody"}, {"protocol": 2}):
        with socket.create_connection(("127.0.0.1", fault.target.port)) as sock:
            sock.sendall(wire.preamble() + wire.message({**good, **change}))
            kind, said = wire.receive_message(sock)
            assert kind == wire.JSON and said["op"] == "abort" and said["error"]
            assert wire.closes(sock)
    fault.source.ok("switch-now", "guest")
    assert "reconnects" not in fault.migration.done()
    fault.waiting.wait_ticks(3)
    fault.waiting.whole()
