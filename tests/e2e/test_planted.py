# SPDX-License-Identifier: BSD-3-Clause
"""Laws that only whole programs can break: with each planted bug, what the other tests look for is
there to be seen."""

import pytest

from godwit import wait_until
from test_faults import Fault
from test_refusals import too_many_megabytes

pytestmark = pytest.mark.insecure  # some stand between the daemons, and read


def test_law1_clear_all_ones(stage, pair, kvm):
    """The trap from the field: KVM_CLEAR_DIRTY_LOG is told to clear more than was got, while the
    guest writes. Some pass of many hits upon it."""
    source, target = pair
    vm = stage.vm(kind="kvm", plant="law1-clear-all-ones",
                  args=["--vcpus", 2, "--rate", 20000, "--pattern", "random"])
    moving = stage.migrate(source, target, vm, stage.waiting(kind="kvm"), "guest", "--verify",
                           "memory", "--downtime", 2000, "--hold")
    wait_until("15 passes are done",
               lambda: (source.status("guest") or {}).get("pass", 0) >= 15)
    source.ok("switch-now", "guest")
    end = moving.failed()
    assert "the target's memory is not the source's" in end["error"]
    vm.wait_ticks(3)
    vm.whole()


def test_law2_forget_vmm(stage, pair):
    """The test guest's device writes memory while its state is saved, and looks at it when it is
    loaded. The first time it fills holes, which are seen by themselves."""
    here, there = pair
    vm = stage.moved(here, there, stage.vm(), plant="law2-forget-vmm")
    lost(stage, there, here, vm)


def test_law8_not_huge(stage):
    """What test_refusals.py looks for, that the daemon does not start, is not so."""
    daemon = stage.source(plant="law8-not-huge",
                          args=["--huge", "yes", "--memory", f"{too_many_megabytes()}M"])
    daemon.wait_line("on pages of 4 KiB")


def test_law9_no_late(stage):
    lost(stage, stage.source(plant="law9-no-late"), stage.target(), stage.vm())


def lost(stage, source, target, vm):
    waiting = stage.waiting()
    vm.wait_ticks()
    end = stage.migrate(source, target, vm, waiting).failed()
    assert end["result"] == "failed"
    waiting.wait_line("the late delta was lost")
    vm.wait_ticks(3)
    vm.whole()


def test_law6_give_back(stage):
    """The answer is lost: the source must not know better."""
    fault = Fault(stage, "commit answered", plant="law6-give-back")
    fault.wire.cut()
    both_run(fault)


def test_law6_no_fence(stage):
    """The daemon dies after the commit: its end must not give the guest back."""
    fault = Fault(stage, "commit answered", plant="law6-no-fence")
    fault.source.kill()
    fault.wire.let_go()
    both_run(fault)


def both_run(fault):
    fault.waiting.wait_ticks(3)
    fault.vm.wait_ticks(3)
