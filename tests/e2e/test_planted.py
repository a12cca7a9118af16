# SPDX-License-Identifier: BSD-3-Clause
"""Laws that only whole programs can break: with each planted bug, what the other tests look for is
there to be seen."""

import signal

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


def test_law3_armed_too(stage, pagemap_scan):
    """Pages of windows that are being armed are left out as free: what the guest wrote to them
    since the report, the arming consumes. The planted VM only takes its time in between; a daemon
    that keeps the law does not care."""
    plant = "law3-armed-too"
    target = stage.target()
    vms = [stage.vm(kind="soft", plant=plant, args=[
        "--vcpus", 64, "--rate", 4000, "--free", 80, "--churn", 10, "--content", "zero"])
        for _ in range(2)]
    stage.moved(stage.source(), target, vms[0], kind="soft")
    torn(stage, stage.daemon("broken", plant=plant), target, vms[1], kind="soft")


def test_law4_need_not_tell(stage):
    """The VMM passes on what goes into the balloon though its guest need not tell what comes out,
    and the daemon leaves it out. A daemon that keeps the law doesn't."""
    plant = "law4-need-not-tell"
    target = stage.target()
    vms = [stage.vm(plant=plant, args=["--balloon", 60, "--churn", 16]) for _ in range(2)]
    stage.moved(stage.source(), target, vms[0])
    torn(stage, stage.daemon("broken", plant=plant), target, vms[1])


def torn(stage, source, target, vm, **how):
    """It comes, and finds pages that are not what they were."""
    waiting = stage.waiting(**how)
    vm.wait_ticks()
    # Few passes: what is lost must not be written again.
    stage.migrate(source, target, vm, waiting, "torn", "--max-passes", 1, "--on-timeout",
                  "pause").done()
    waiting.wait_ticks(3)
    waiting.signal(signal.SIGUSR1)
    waiting.wait_line(r"TORN page|check: \d+ pages ok, [1-9]\d* bad")


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
