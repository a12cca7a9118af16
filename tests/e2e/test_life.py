# SPDX-License-Identifier: BSD-3-Clause
"""What an operator does with a migration: there and back, look, hold, change, cancel, try."""

import json
import mmap
import pathlib
import re

import pytest

import godwit
from godwit import wait_until


@pytest.mark.smoke
def test_there_and_back(stage, pair):
    here, there = pair
    vm = stage.vm(memory="32M", args=["--pattern", "random"])
    first = vm.wait_ticks()
    for hop in range(3):
        vm = stage.moved(here, there, vm, f"hop{hop}", memory="32M")
        here, there = there, here
    assert vm.ticks()[-1] > first


@pytest.mark.parametrize("backing", ["4K", "2M"])
def test_memory_is_populated_ahead(stage, pair, request, backing):
    """Zeros over pages that are there, and holes that come later, are as right as on fresh ones."""
    if backing == "2M":
        request.getfixturevalue("hugepages")
    huge = ["--hugepages"] if backing == "2M" else []
    source, target = pair
    vm, waiting = stage.vm(args=huge), stage.waiting(args=huge)
    vm.wait_ticks()
    target.ok("receive", "guest", *waiting.way, "--reserve", "populate", "--detach")
    migration = godwit.Migration(source, "guest", vm, target.address, "--verify", "memory")
    stage.children.append(migration)
    assert migration.done()["verified_pages"] > 0
    waiting.wait_ticks()
    waiting.whole()


@pytest.mark.parametrize("backing", ["4K", "2M"])
@pytest.mark.parametrize("flows", ["1", "2"])
def test_memory_that_was_there_before(stage, request, backing, flows):
    """What the target's memory held is overwritten, or becomes a hole: none of it stays."""
    if backing == "2M":
        request.getfixturevalue("hugepages")
    huge = ["--hugepages"] if backing == "2M" else []
    source, target = stage.source(cores="0,1"), stage.target(cores="0,1")
    hot = ["--pattern", "hot", "--rate", "200", "--share", "10"]  # or it fills its holes
    vm = stage.vm(args=[*huge, *hot, "--populate", "40" if backing == "4K" else "0"])
    waiting = stage.waiting(args=huge)
    vm.wait_ticks()
    size = waiting.ram_file().stat().st_size
    with open(waiting.ram_file(), "r+b") as file, mmap.mmap(file.fileno(), size) as memory:
        for at in range(0, size, 1 << 20):
            memory[at:at + (1 << 20)] = b"old!" * (1 << 18)
    assert waiting.ram_file().stat().st_blocks * 512 == size
    target.ok("receive", "guest", *waiting.way, "--detach")
    mapped = "RssShmem" if backing == "4K" else "HugetlbPages"
    status = pathlib.Path(f"/proc/{target.popen.pid}/status")
    godwit.wait_until("all of the guest is mapped", lambda: size <= 1024 * int(
        re.search(mapped + r":\s+(\d+)", status.read_text())[1]))
    migration = godwit.Migration(source, "guest", vm, target.address, "--verify", "memory",
                                 "--flows", flows)
    stage.children.append(migration)
    assert migration.done()["verified_pages"] > 0
    assert waiting.ram_file().stat().st_blocks * 512 < size, "nothing became a hole"
    with open(waiting.ram_file(), "rb") as file:
        assert b"old!old!" not in file.read()
    waiting.wait_ticks()
    waiting.whole()


def test_several_at_once(stage, pair):
    source, target = pair
    vms = [stage.vm(memory="32M", args=["--pattern", "hot"]) for _ in range(3)]
    waiting = [stage.waiting(memory="32M") for _ in vms]
    for vm in vms:
        vm.wait_ticks()
    under_way = [stage.migrate(source, target, vm, w, f"guest{n}", "--verify", "memory")
                 for n, (vm, w) in enumerate(zip(vms, waiting))]
    for migration in under_way:
        migration.done()
    for w in waiting:
        w.wait_ticks()
        w.whole()


def test_hold_then_switch_now(stage, pair):
    source, target = pair
    vm, waiting = stage.vm(), stage.waiting()
    migration = stage.migrate(source, target, vm, waiting, "guest", "--hold", "--max-passes", "2")
    source.wait_state("guest", "holding")
    wait_until("the guest is held for longer than its passes",
               lambda: source.status("guest")["pass"] > 4)
    vm.wait_ticks()
    assert migration.alive()
    assert not waiting.ticks()
    source.ok("switch-now", "guest")
    migration.done()
    waiting.wait_ticks()
    waiting.whole()


def test_prepare_then_begin(stage, pair):
    """Ready: what the guest has populated is mapped, its holes are left, nothing is copied."""
    source, target = pair
    vm = stage.vm(args=["--pattern", "hot", "--rate", "200", "--share", "10", "--populate", "40"])
    waiting = stage.waiting()
    vm.wait_ticks()
    blocks = vm.ram_file().stat().st_blocks
    migration = stage.migrate(source, target, vm, waiting, "guest", "--prepare", "--verify",
                              "memory")
    source.wait_state("guest", "ready")
    status = pathlib.Path(f"/proc/{source.popen.pid}/status").read_text()
    assert int(re.search(r"RssShmem:\s+(\d+)", status)[1]) * 2 >= blocks
    assert vm.ram_file().stat().st_blocks * 512 < vm.ram_file().stat().st_size * 3 // 4
    vm.wait_ticks()
    assert migration.alive() and not waiting.ticks()
    assert "receiving side" in target.fails("begin", "guest")
    source.ok("begin", "guest")
    assert migration.done()["verified_pages"] > 0
    waiting.wait_ticks()
    waiting.whole()
    assert "ended" in source.fails("begin", "guest")


@pytest.mark.parametrize("fault", ["cancel", "target killed"])
def test_no_beginning(stage, pair, fault):
    """What is ready and never begins leaves the guest as it was, and it can go again."""
    source, target = pair
    vm = stage.vm()
    vm.wait_ticks()
    migration = stage.migrate(source, target, vm, stage.waiting(), "guest", "--prepare")
    source.wait_state("guest", "ready")
    if fault == "cancel":
        source.ok("cancel", "guest")
        assert migration.failed()["result"] == "cancelled"
    else:
        target.kill()
        assert migration.failed()["error"]
        target = stage.target()
    vm.wait_ticks()
    vm.whole()
    stage.moved(source, target, vm)


@pytest.mark.long  # ten passes a second
def test_held_for_long(stage, pair):
    """What is told of its passes does not grow for ever."""
    source, target = pair
    migration = stage.migrate(source, target, stage.vm(), stage.waiting(), "guest", "--hold")
    wait_until("many passes", lambda: (source.status("guest") or {"pass": 0})["pass"] > 420, 300)
    source.ok("switch-now", "guest")
    report = migration.done()
    told = [p["pass"] for p in report["passes_detail"]]
    assert told == [*range(200), *range(report["passes"] - 200, report["passes"])]


def test_limits_change_while_it_runs(stage, pair):
    source, target = pair
    vm, waiting = stage.vm(), stage.waiting()
    migration = stage.migrate(source, target, vm, waiting, "guest", "--bandwidth", "1M")
    source.wait_state("guest", "copying")
    source.ok("set", "guest", "--bandwidth", "0", "--downtime", "2s")
    migration.done()
    waiting.wait_ticks()
    waiting.whole()


@pytest.mark.smoke
def test_target_by_name(stage, pair):
    """A thread looks it up: in a daemon, whose libraries need large stacks."""
    source, target = pair
    memory = {"memory": "32M"}
    end = stage.migrate(source, target, stage.vm(**memory), stage.waiting(**memory), "guest",
                        "--dry-run", to=f"localhost:{target.port}").end()
    assert end["result"] == "dry-run", end["error"]


def test_dry_run_touches_nothing(stage, pair):
    source, target = pair
    """The target waits on: the same `receive` takes the guest when it comes."""
    vm, waiting = stage.vm(), stage.waiting()
    target.ok("receive", "guest", *waiting.way, "--detach")
    for _ in range(2):
        dry = godwit.Migration(source, "guest", vm, target.address, "--dry-run")
        stage.children.append(dry)
        assert dry.end()["result"] == "dry-run"
        target.wait_state("guest", "waiting")
    said = source.run("migrate", "other", *vm.way, "--to", target.address, "--dry-run")
    assert said.returncode == 5 and "other" in said.stderr  # nobody awaits that one
    said = source.run("migrate", "guest", *vm.way, "--to", target.address, "--dry-run")
    assert said.returncode == 0 and "nothing stands against it" in said.stdout
    assert "ratio 0" not in said.stdout + source.ok("status", "guest")
    target.wait_state("guest", "waiting")
    vm.wait_ticks()
    vm.whole()
    assert not waiting.ticks() and waiting.alive()
    migration = godwit.Migration(source, "guest", vm, target.address, "--verify", "memory")
    stage.children.append(migration)
    assert migration.done()["verified_pages"] > 0
    waiting.wait_ticks()
    waiting.whole()


# Writes more in a pass of a second than goes in a downtime of a millisecond.
FAST = {"memory": "16M", "args": ["--pattern", "random", "--rate", "2000", "--vcpus", "2"]}
SHORT = ["--downtime", "1", "--bandwidth", "16M", "--max-passes", "2"]


def test_gives_up_at_its_limit(stage, pair):
    source, target = pair
    vm = stage.vm(**FAST)
    vm.wait_ticks()
    end = stage.migrate(source, target, vm, stage.waiting(memory="16M"), "guest", *SHORT,
                        "--on-timeout", "abort").failed()
    assert "downtime" in end["error"] or "limit" in end["error"]
    vm.wait_ticks()
    vm.whole()


def test_pauses_at_its_limit_where_asked(stage, pair):
    source, target = pair
    vm, waiting = stage.vm(**FAST), stage.waiting(memory="16M")
    stage.migrate(source, target, vm, waiting, "guest", *SHORT, "--on-timeout", "pause").done()
    waiting.wait_ticks()
    waiting.whole()


@pytest.mark.insecure
@pytest.mark.parametrize("op,answer", [
    ("hello", False), ("preflight", False), ("prepare", False), ("prepare", True),
    ("flows", False), ("save", False), ("save", True), ("verify", False), ("load", False)])
def test_cancel_at_a_message(stage, pair, op, answer):
    source, target = pair
    wire = stage.wire(target)
    wire.hold(op, answer)
    vm = stage.vm()
    vm.wait_ticks()
    migration = stage.migrate(source, target, vm, stage.waiting(), "guest", "--verify", "memory",
                              to=wire.address)
    wire.wait()
    source.ok("cancel", "guest")
    wire.let_go()
    assert migration.failed()["result"] == "cancelled"
    vm.wait_ticks()
    vm.whole()
    stage.moved(source, target, vm)


@pytest.mark.parametrize("state", ["copying", "holding"])
@pytest.mark.parametrize("side", [0, 1])
def test_cancel_while_copying(stage, pair, state, side):
    source, target = pair
    vm = stage.vm()
    vm.wait_ticks()
    how = ["--bandwidth", "1M"] if state == "copying" else ["--hold"]
    migration = stage.migrate(source, target, vm, stage.waiting(), "guest", *how)
    source.wait_state("guest", state)
    pair[side].ok("cancel", "guest")
    migration.failed()
    vm.wait_ticks()
    vm.whole()
    stage.moved(source, target, vm)


@pytest.mark.insecure
def test_cancel_after_commit_is_refused(stage, pair):
    source, target = pair
    wire = stage.wire(target)
    wire.hold("commit", answer=True)
    vm, waiting = stage.vm(), stage.waiting()
    migration = stage.migrate(source, target, vm, waiting, to=wire.address)
    wire.wait()
    assert "commit" in source.fails("cancel", "guest")
    wire.let_go()
    migration.done()
    waiting.wait_ticks()


def test_status_list_watch(stage, pair):
    source, target = pair
    vm, waiting = stage.vm(), stage.waiting()
    migration = stage.migrate(source, target, vm, waiting, "guest", "--hold")
    source.wait_state("guest", "holding")
    assert source.status("guest")["side"] == "source"
    assert target.status("guest")["side"] == "target"
    assert "guest" in source.ok("list") and "guest" in target.ok("list")
    assert source.ok("status") and source.ok("status", "guest")
    source.ok("switch-now", "guest")
    last = json.loads(source.ok("watch", "guest", "--json").strip().splitlines()[-1])
    assert last["event"] == "end" and last["result"] == "done"
    migration.done()


def test_passes_of_an_idle_guest_send_nothing(stage, pair):
    source, target = pair
    vm, waiting = stage.vm(args=["--rate", "1", "--share", "1"]), stage.waiting()
    vm.wait_ticks()
    migration = stage.migrate(source, target, vm, waiting, "guest", "--hold")
    source.wait_state("guest", "holding")
    wait_until("some passes are over", lambda: source.status("guest")["pass"] >= 3)
    source.ok("switch-now", "guest")
    report = migration.done()
    later = [p["pages"] for p in report["passes_detail"][1:] if p["kind"] == "live"]
    assert later and max(later) < 64, f"pages of the passes after the first: {later}"
