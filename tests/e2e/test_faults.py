# SPDX-License-Identifier: BSD-3-Clause
"""Around the commit: what resolve says and does, words that come when they should not, and deaths
that the matrix has no place for. Before the commit the source's guest runs on and the next
migration succeeds; between it and its answer neither side acts."""

import time

import pytest

pytestmark = pytest.mark.insecure  # these tests stand between the daemons, and read


class Fault:
    """A migration that stands at a message of the control connection, "save", "load answered",
    which is held on the wire; in its last pass, "last"; or between two, "holding"."""

    def __init__(self, stage, at, plant=None, reconnect=0):
        self.stage = stage
        self.source, self.target = stage.source(plant=plant), stage.target()
        self.wire = stage.wire(self.target)
        self.vm, self.waiting = stage.vm(), stage.waiting()
        self.vm.wait_ticks()
        how = ["--verify", "memory", "--reconnect", reconnect]
        held = at not in ("last", "holding")
        if held:
            self.wire.hold(at.split()[0], at.endswith("answered"))
        else:
            how += ["--hold"]
        self.migration = stage.migrate(self.source, self.target, self.vm, self.waiting, "guest",
                                       *how, to=self.wire.address)
        if held:
            self.wire.wait()
            return
        self.source.wait_state("guest", "holding")
        if at == "last":
            self.wire.hold_barriers()
            self.source.ok("switch-now", "guest")
            self.go_to_last()

    def go_to_last(self):
        """A live pass that was under way ends first. While a barrier is held, nothing moves on."""
        self.wire.wait_barrier()
        while self.source.status("guest")["stage"] != "last":
            self.wire.let_barrier_go()
            self.wire.wait_barrier()

    def again(self):
        """Daemons that died are started anew, and the guest moves."""
        if not self.source.alive():
            self.source = self.stage.source(port=self.source.port)
        if not self.target.alive():
            self.target = self.stage.target(port=self.target.port)
        return self.stage.moved(self.source, self.target, self.vm)


def test_source_vm_dies_while_undecided(stage):
    """What keeping the target asks for, the end of the VMM here, has come by itself."""
    fault = Fault(stage, "commit answered")
    fault.wire.cut()
    assert fault.migration.failed()["result"] == "undecided"
    fault.waiting.wait_ticks(3)
    fault.vm.kill()
    fault.source.ok("resolve", "guest", "--keep", "target")
    fault.source.wait_state("guest", "ended")
    assert fault.source.status("guest")["result"] == "done"
    fault.waiting.whole()


@pytest.mark.long
@pytest.mark.parametrize("at", ["commit", "commit answered"])
def test_source_vm_dies_before_the_answer(stage, at):
    """Fenced it would not have run again: the answer decides, and no operator is asked."""
    fault = Fault(stage, at)
    fault.vm.kill()
    time.sleep(0.5)
    assert fault.source.status("guest")["state"] == "committing"
    fault.wire.let_go()
    fault.migration.done()
    fault.waiting.wait_ticks(3)
    fault.waiting.whole()


@pytest.mark.parametrize("keep", ["source", "target"])
def test_source_daemon_dies_after_commit(stage, keep):
    fault = Fault(stage, "commit" if keep == "source" else "commit answered")
    fault.source.kill()
    if keep == "source":
        fault.wire.cut()
        fault.waiting.kill()
    else:
        fault.wire.let_go()
        fault.waiting.wait_ticks(2)
    ticks = len(fault.vm.ticks())
    source = stage.source(port=fault.source.port)
    fault.source = source
    assert source.status("guest")["state"] == "undecided"
    fault.vm.freeze()
    assert "not answering" in source.ok("resolve", "guest")
    source.fails("resolve", "guest", "--keep", keep)
    fault.vm.thaw()
    assert "keep" in source.ok("resolve", "guest")
    assert len(fault.vm.ticks()) == ticks, "a fenced guest ran before anybody decided"
    source.ok("resolve", "guest", "--keep", keep)
    if keep == "source":
        fault.vm.wait_ticks(2)
        fault.vm.whole()
        fault.again()
    else:
        fault.vm.wait()
        fault.waiting.whole()


@pytest.mark.long  # the commit's answer is awaited for half a minute
@pytest.mark.parametrize("at", ["commit", "commit answered"])
def test_late_word_decides(stage, at):
    """Pure silence at the commit: neither side acts, until the word comes that was on its way."""
    fault = Fault(stage, at)
    ticks = len(fault.vm.ticks())
    assert fault.migration.failed()["result"] == "undecided"
    assert fault.source.status("guest")["state"] == "undecided"
    if at == "commit":
        time.sleep(2)
        assert not fault.waiting.ticks(), "it ran before it was committed"
    fault.wire.let_go()
    fault.source.wait_state("guest", "ended")
    assert fault.source.status("guest")["result"] == "done"
    fault.target.wait_state("guest", "ended")
    assert fault.vm.wait() == 0
    assert len(fault.vm.ticks()) == ticks, "the guest ran on both sides"
    fault.waiting.wait_ticks(3)
    fault.waiting.whole()


def test_target_vm_dies_while_it_takes_over(stage):
    """The target can't take the guest over and says refused: it goes back to the source."""
    fault = Fault(stage, "commit")
    fault.waiting.freeze()
    fault.wire.let_go()
    fault.target.wait_state("guest", "committing")
    fault.waiting.kill()
    assert fault.migration.failed()["result"] == "failed"
    fault.vm.wait_ticks(3)
    fault.vm.whole()
    fault.again()


def test_target_vm_dies_before_the_commit_arrives(stage):
    """The target says that it has not taken the guest over and never will: nothing to resolve."""
    fault = Fault(stage, "commit")
    fault.waiting.kill()
    fault.wire.let_go()
    assert fault.migration.failed()["result"] == "failed"
    assert not fault.waiting.ticks(), "the guest ran on both sides"
    fault.vm.wait_ticks(3)
    fault.vm.whole()
    fault.again()


def test_target_daemon_dies_after_commit(stage):
    """The commit was sent and its receiver is dead: nobody can know whether it was read."""
    fault = Fault(stage, "commit")
    fault.target.kill()
    fault.wire.let_go()
    end = fault.migration.failed()
    assert end["result"] == "undecided" and "resolve" in end["error"]
    assert not fault.waiting.ticks(), "the guest ran on both sides"
    fault.waiting.kill()
    fault.source.ok("resolve", "guest", "--keep", "source")
    fault.vm.wait_ticks(3)
    fault.vm.whole()
    fault.again()


def test_words_after_the_commit(stage):
    """Only one of them says for sure that the guest is not taken over."""
    fault = Fault(stage, "commit")
    abort = {"op": "abort", "error": "planted", "errno": 5}
    fault.wire.say(dict(abort, taken=True))
    assert fault.migration.failed()["result"] == "undecided"
    for word in (abort, dict(abort, taken=True), {"re": 99, "ok": True}, {"nonsense": 1}):
        fault.wire.say(word)
    ticks = len(fault.vm.ticks())
    time.sleep(0.5)
    assert fault.source.status("guest")["state"] == "undecided"
    assert "keep" in fault.source.ok("resolve", "guest")
    assert len(fault.vm.ticks()) == ticks, "a fenced guest ran before anybody decided"
    fault.wire.say(dict(abort, taken=False))
    fault.vm.wait_ticks(3)
    fault.vm.whole()
    fault.wire.cut()
    assert not fault.waiting.ticks(), "the guest ran on both sides"
    fault.again()


def test_daemon_told_to_end_gives_the_guest_back(stage):
    fault = Fault(stage, "last")
    fault.source.signal(15)
    fault.vm.wait_ticks(3)
    fault.vm.whole()
    assert fault.source.wait() == 0


@pytest.mark.long
def test_source_vm_hangs_for_good(stage):
    """It is waited for as long as a busy host may take. When it comes back, its guest goes on."""
    source, target = stage.source(), stage.target()
    vm, waiting = stage.vm(memory="16M"), stage.waiting(memory="16M")
    vm.wait_ticks()
    migration = stage.migrate(source, target, vm, waiting, "guest", "--hold")
    source.wait_state("guest", "holding")
    vm.freeze()
    end = migration.failed()
    assert end["result"] == "failed" and "answer" in end["error"]
    vm.thaw()
    vm.wait_ticks(3)
    vm.whole()
    assert not waiting.ticks(), "the guest ran on both sides"
    stage.moved(source, target, vm, memory="16M")


class Step:
    """A migration whose daemon stands between two steps of the handover, and is killed there."""

    def __init__(self, stage, side, step):
        self.stage = stage
        plant = {side: f"step:{step}"}
        self.source = stage.source(plant=plant.get("source"))
        self.target = stage.target(plant=plant.get("target"))
        self.vm, self.waiting = stage.vm(memory="16M"), stage.waiting(memory="16M")
        self.vm.wait_ticks()
        self.migration = stage.migrate(self.source, self.target, self.vm, self.waiting)
        victim = getattr(self, side)
        victim.wait_line(f"stands at step {step}")
        self.ticks = len(self.vm.ticks())
        victim.kill()

    def source_again(self):
        self.source = self.stage.source(port=self.source.port)

    def target_again(self):
        self.target = self.stage.target(port=self.target.port)

    def nobody_runs(self):
        time.sleep(0.5)
        assert len(self.vm.ticks()) == self.ticks, "a fenced guest ran before anybody decided"
        assert not self.waiting.ticks(), "the guest ran on both sides"

    def stays(self):
        """The guest goes on at the source."""
        self.vm.wait_ticks(3)
        self.vm.whole()
        assert not self.waiting.ticks(), "the guest ran on both sides"

    def arrives(self):
        self.vm.wait()
        assert len(self.vm.ticks()) == self.ticks, "the guest ran on both sides"
        self.waiting.wait_ticks(2)
        self.waiting.whole()


def test_source_daemon_dies_before_the_fence(stage):
    """Its journal says committed, and nobody was told: the lease gives the guest back."""
    step = Step(stage, "source", "journaled")
    step.vm.wait_ticks(3)
    step.source_again()
    step.source.wait_line("guest: the guest runs here; nothing is left to do")
    assert step.source.status("guest") is None
    step.stays()
    stage.moved(step.source, step.target, step.vm, memory="16M")


@pytest.mark.long
def test_source_daemon_dies_before_the_commit_goes_out(stage):
    """Nobody but itself could know that."""
    step = Step(stage, "source", "fenced")
    step.source_again()
    assert step.source.status("guest")["state"] == "undecided"
    assert "fenced" in step.source.ok("resolve", "guest")
    step.nobody_runs()
    step.waiting.kill()
    step.source.ok("resolve", "guest", "--keep", "source")
    step.stays()


@pytest.mark.long
def test_source_daemon_dies_before_its_vm_ends(stage):
    """It knew that the guest runs at the target: the next one ends what is left."""
    step = Step(stage, "source", "known")
    step.source_again()
    step.source.wait_line("guest: the guest runs at the target; nothing is left to do")
    assert step.source.status("guest") is None
    step.arrives()


def test_target_daemon_dies_before_it_takes_over(stage):
    """The next one knows of the commit, and sees that the guest does not run there."""
    step = Step(stage, "target", "noted")
    assert step.migration.failed()["result"] == "undecided"
    step.target_again()
    status = step.target.status("guest")
    assert (status["side"], status["state"]) == ("target", "undecided")
    assert "incoming" in step.target.ok("resolve", "guest")
    step.nobody_runs()
    assert "no guest to keep" in step.target.fails("resolve", "guest", "--keep", "target")
    step.target.ok("resolve", "guest", "--keep", "source")
    step.waiting.wait()
    step.source.ok("resolve", "guest", "--keep", "source")
    step.stays()


def test_target_daemon_dies_before_its_answer(stage):
    """The guest runs there: the next one sees it, and the source is told by the operator."""
    step = Step(stage, "target", "resumed")
    assert step.migration.failed()["result"] == "undecided"
    step.waiting.wait_ticks(2)
    step.target_again()
    step.target.wait_line("guest: the guest runs here; nothing is left to do")
    assert step.target.status("guest") is None
    assert "nothing to resolve" in step.target.fails("resolve", "guest")
    step.source.ok("resolve", "guest", "--keep", "target")
    step.arrives()
