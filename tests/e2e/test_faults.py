# SPDX-License-Identifier: BSD-3-Clause
"""Around the commit: what resolve says and does, words that come when they should not, and deaths
that the matrix has no place for. Before the commit the source's guest runs on and the next
migration succeeds; between it and its answer neither side acts."""

import time

import pytest

pytestmark = pytest.mark.insecure  # these tests stand between the daemons, and read

# Where the migration stands when somebody dies: a message of the control connection that is held
# on the wire, or a state that lasts.
REQUESTS = ["hello", "preflight", "prepare", "flows", "save", "verify", "load"]


class Fault:
    """A migration that stands at a stage."""

    def __init__(self, stage, at, plant=None, reconnect=0):
        self.stage = stage
        self.answered = at.endswith("answered")
        self.source, self.target = stage.source(plant=plant), stage.target()
        self.wire = stage.wire(self.target)
        self.vm, self.waiting = stage.vm(), stage.waiting()
        self.vm.wait_ticks()
        how = ["--verify", "memory", "--reconnect", reconnect]
        op = at.split()[0]
        held = op in REQUESTS or op == "commit"
        if held:
            self.wire.hold(op, at.endswith("answered"))
        elif at == "copying":
            how += ["--bandwidth", "1M"]
        else:
            how += ["--hold"]
        self.migration = stage.migrate(self.source, self.target, self.vm, self.waiting, "guest",
                                       *how, to=self.wire.address)
        if held:
            self.wire.wait()
        elif at == "last":
            self.source.wait_state("guest", "holding")
            self.wire.hold_barriers()
            self.source.ok("switch-now", "guest")
            self.go_to_last()
        else:
            self.source.wait_state("guest", at)

    def go_to_last(self):
        """A live pass that was under way ends first. While a barrier is held, nothing moves on."""
        self.wire.wait_barrier()
        while self.source.status("guest")["stage"] != "last":
            self.wire.let_barrier_go()
            self.wire.wait_barrier()

    def kill(self, who):
        {"source daemon": self.source, "target daemon": self.target, "target VM": self.waiting,
         "source VM": self.vm}[who].kill()
        if who == "target daemon" and self.answered:
            self.wire.cut()  # a late answer would let the source commit, which nobody then answers
        self.wire.let_go()

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


def test_target_vm_dies_while_it_takes_over(stage):
    """The target can't take the guest over and says refused: it goes back to the source."""
    fault = Fault(stage, "commit")
    fault.waiting.freeze()
    fault.wire.let_go()
    fault.target.wait_state("guest", "committing")
    fault.kill("target VM")
    assert fault.migration.failed()["result"] == "failed"
    fault.vm.wait_ticks(3)
    fault.vm.whole()
    fault.again()


def test_target_vm_dies_before_the_commit_arrives(stage):
    """The target says that it has not taken the guest over and never will: nothing to resolve."""
    fault = Fault(stage, "commit")
    fault.kill("target VM")
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
