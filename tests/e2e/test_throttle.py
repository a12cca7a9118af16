# SPDX-License-Identifier: BSD-3-Clause
"""A guest that writes faster than it is sent is slowed down where the operator says so, and only
until the migration ends; not while a migration that is prepared waits to begin. The test guest
keeps its pace in the time that it has, so what it writes falls with that time."""

import pytest

import events
from cord import Cord

pytestmark = pytest.mark.usefixtures("pagemap_scan")

# Sent at 10,000 pages a second, of which it has 2048 and writes many more. A pause of 35 ms is 150.
SIZE = {"memory": "8M", "kind": "soft"}  # KVM's is too slow here
PACE = ["--pattern", "random", "--rate", 80000]
WIRE = ["--bandwidth", "40M", "--downtime", 35]


@pytest.fixture
def vm(stage):
    vm = stage.vm(**SIZE, args=PACE)
    vm.wait_ticks()
    return vm


def steps(migration):
    return [e["percent"] for e in migration.events() if e["event"] == "throttle"]


def test_slowed_until_it_converges(stage, pair, vm):
    source, target = pair
    waiting = stage.waiting(**SIZE)
    migration = stage.migrate(source, target, vm, waiting, "alone", *WIRE, "--max-passes", 3)
    assert "--throttle" in migration.failed()["error"]
    migration = stage.migrate(source, target, vm, waiting, "slowed", *WIRE, "--throttle", 5,
                              "--verify", "memory", "--prepare")
    source.wait_state("slowed", "ready")
    vm.wait_ticks()
    assert not steps(migration), "nothing is copied yet"
    source.ok("begin", "slowed")
    report = migration.done()
    assert steps(migration)[0] == 75 and steps(migration)[-1] == report["throttle_percent"] >= 5
    for event in migration.events():
        events.check(event)
    assert "of their time at the least" in source.ok("status", "slowed")
    waiting.wait_ticks()
    waiting.whole()
    assert not [line for line in waiting.lines if line.startswith("throttle")]


@pytest.mark.parametrize("how", ["cancel", pytest.param("kill", marks=pytest.mark.long)])
def test_not_slowed_any_more(stage, pair, vm, how):
    source, target = pair
    migration = stage.migrate(source, target, vm, stage.waiting(**SIZE), "guest", *WIRE,
                              "--throttle", 70)
    vm.wait_line(r"throttle 75$")
    vm.wait_line(r"throttle 70$")
    if how == "kill":
        source.kill()
    else:
        source.ok("cancel", "guest")
        assert migration.end()["result"] == "cancelled"
        assert steps(migration) == [75, 70, 100]
    vm.wait_line(r"throttle 100$")
    vm.wait_ticks()


@pytest.mark.long
def test_not_slowed_while_the_network_is_lost(stage, pair, vm):
    source, target = pair
    waiting = stage.waiting(**SIZE)
    cord = Cord(target.port)
    stage.wires.append(cord)
    migration = stage.migrate(source, target, vm, waiting, "guest", *WIRE, "--throttle", 5,
                              "--max-passes", 100, "--verify", "memory", to=cord.address)
    vm.wait_line(r"throttle 75$")
    cord.cut()
    vm.wait_line(r"throttle 100$")
    source.wait_state("guest", "reconnecting")
    cord.join()
    assert migration.done()["reconnects"] == 1
    waiting.wait_ticks()
    waiting.whole()
    seen = steps(migration)
    assert seen[0] == 75 and 100 in seen and seen[seen.index(100) + 1] == 75
