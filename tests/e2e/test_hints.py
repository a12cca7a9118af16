# SPDX-License-Identifier: BSD-3-Clause
"""Pages that need not go, of a guest that takes them into use and gives them up all the time: the
guest, its own checks and a digest on both sides say whether one was left out that should not be."""

import random

import pytest

HEAP = ["--free", 40, "--balloon", 30]


def guest(stage, *args, kind=None, memory="64M", rate=4000):
    return stage.vm(kind=kind, memory=memory, args=["--vcpus", 2, "--pattern", "random",
                                                    "--rate", rate, *args])


def move(stage, source, target, vm, name, *args, kind=None, memory="64M", vm_args=()):
    """Moves a guest; returns the VM that it is in, and the report."""
    waiting = stage.waiting(kind=kind, memory=memory, args=vm_args)
    last = vm.wait_ticks()
    report = stage.migrate(source, target, vm, waiting, name, "--verify", "memory", "--downtime",
                           2000, *args).done()
    assert report["verified_pages"] > 0
    assert vm.wait() == 0
    assert waiting.wait_ticks() > last
    waiting.whole()
    return waiting, report


@pytest.mark.parametrize("how", ["full", "late", "stale", *(
    pytest.param(how, marks=pytest.mark.long) for how in ("part", "twice", "never"))])
def test_free_pages(pair, stage, how):
    """Whatever comes of the reports, and however late, the guest moves whole."""
    vm = guest(stage, "--free", 70, "--report", how, "--churn", 4)
    # Slow enough that answers come while pass 0 runs.
    _, report = move(stage, *pair, vm, "guest", "--bandwidth", "100M")
    if how in ("stale", "never"):
        assert report["pages_free"] == 0
    elif how != "late":
        assert report["pages_free"] > 0


def test_balloon(pair, stage):
    """What is in the balloon does not go, there and back."""
    source, target = pair
    vm = guest(stage, "--balloon", 60, "--churn", 2)
    vm, there = move(stage, source, target, vm, "there")
    assert there["pages_balloon"] > 4000
    assert there["bytes_balloon"] > 0
    vm, back = move(stage, target, source, vm, "back")
    assert back["pages_skipped"] > 4000  # they never came: holes
    assert back["pages_data"] + back["pages_zero"] < 14000


def test_balloon_goes_along(pair, stage):
    """The operator can have the balloon sent all the same. Its bitmap goes along even so, and
    counts at once for the next migration, from where the guest came to."""
    source, target = pair
    vm = guest(stage, "--balloon", 60)
    vm, there = move(stage, source, target, vm, "there", "--skip-balloon", "no")
    assert there["pages_balloon"] == 0
    assert there["bytes_balloon"] > 0
    vm, back = move(stage, target, source, vm, "back")
    assert back["pages_balloon"] > 4000


def test_huge_pages(pair, stage, hugepages):
    """A huge page is left out whole, or not at all."""
    vm = guest(stage, *HEAP, "--hugepages", kind=None)
    move(stage, *pair, vm, "guest", vm_args=["--hugepages"])


@pytest.mark.smoke
def test_all_at_once(pair, stage):
    source, target = pair
    vm = guest(stage, *HEAP, "--churn", 8)
    vm, there = move(stage, source, target, vm, "there", "--bandwidth", "100M")
    assert there["pages_balloon"] > 0
    vm, _ = move(stage, target, source, vm, "back")


def journeys(stage, source, target, count, **how):
    """Migrations in a row with a random heap, churn and reports each time."""
    rng = random.Random(count)
    vm = guest(stage, *HEAP, "--churn", 16, **how)
    for number in range(count):
        args = ["--bandwidth", rng.choice(["0", "80M", "200M"])]
        if rng.random() < 0.2:
            args += ["--skip-balloon", "no"]
        report_how = rng.choice(["full", "full", "late", "part", "twice", "stale"])
        vm, _ = move(stage, source, target, vm, f"n{number}", *args,
                     kind=how.get("kind"), vm_args=["--report", report_how])
        source, target = target, source


def test_three_in_a_row(pair, stage):
    journeys(stage, *pair, 3)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["kvm", "soft"])
def test_fifty_in_a_row(pair, stage, kind, kvm, pagemap_scan):
    journeys(stage, *pair, 50, kind=kind)
