# SPDX-License-Identifier: BSD-3-Clause
"""Pages that need not go, of a guest that takes them into use and gives them up all the time: the
guest, its own checks and a digest on both sides say whether one was left out that should not be."""

import os
import random
import re

import pytest

PAGES = (64 << 20) // 4096
BIOS = 256  # pages of the second RAM file
HEAP = ["--free", 40, "--balloon", 30]


def guest(stage, *args, kind=None, memory="64M", rate=4000):
    return stage.vm(kind=kind, memory=memory, args=["--vcpus", 2, "--pattern", "random",
                                                    "--rate", rate, *args])


def move(stage, source, target, vm, name, *args, kind=None, memory="64M", vm_args=(), look=None):
    """Moves a guest; returns the VM that it is in, and the report. look(waiting) is called before
    the guest is there, with all of it copied."""
    waiting = stage.waiting(kind=kind, memory=memory, args=vm_args)
    last = vm.wait_ticks()
    moving = stage.migrate(source, target, vm, waiting, name, "--verify", "memory", "--downtime",
                           2000, *args, *(["--hold"] if look else []))
    if look:
        source.wait_state(name, "holding")
        look(waiting)
        source.ok("switch-now", name)
    report = moving.done()
    assert report["verified_pages"] > 0
    assert vm.wait() == 0
    assert waiting.wait_ticks() > last
    waiting.whole()
    return waiting, report


def left_out(daemon, name):
    """What godwit status says: holes, pages in the balloon, free pages."""
    text = daemon.ok("status", name)
    found = re.search(r"left out +(\d+) holes, (\d+) in the balloon, (\d+) free\n", text)
    assert found, text
    return [int(n) for n in found.groups()]


def of_pass_0(report):
    return report["passes_detail"][0]["bytes_wire"]


def test_quarter_free(pair, stage, pagemap_scan):
    """Of a guest that is free by three quarters and says so, a quarter goes; the rest is not even
    allocated where it comes to. An answer to another question changes nothing."""
    source, target = pair
    # A guest that answers at once, however busy the host is, and is larger than what is armed
    # before it is asked again.
    size = {"kind": "soft", "memory": "128M"}
    vm = stage.vm(**size, args=["--content", "random", "--rate", 100, "--free", 75, "--report",
                                "stale"])
    vm, there = move(stage, source, target, vm, "there", **size, vm_args=["--report", "full"])
    assert there["pages_free"] == 0

    def look(waiting):
        allocated = os.stat(waiting.ram_file()).st_blocks // 8
        free = left_out(target, "back")[2]
        assert free > PAGES
        assert allocated <= 2 * PAGES + BIOS - free
    # Slow enough that answers come while pass 0 runs.
    vm, back = move(stage, target, source, vm, "back", "--bandwidth", "50M", **size, look=look)
    assert of_pass_0(back) < 0.35 * of_pass_0(there)


def test_poison(pair, stage):
    """A guest that relies on what its free pages hold is not asked for them."""
    vm = guest(stage, "--free", 70, "--churn", 8, "--poison", 0xaaaaaaaa)
    _, report = move(stage, *pair, vm, "guest")
    assert report["pages_free"] == 0


@pytest.mark.parametrize("how", ["late", *(pytest.param(how, marks=pytest.mark.long) for how in (
    "full", "stale", "part", "twice", "never"))])
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
    assert left_out(source, "there") == [there[f"pages_{why}"]
                                         for why in ("skipped", "balloon", "free")]
    vm, back = move(stage, target, source, vm, "back")
    assert back["pages_skipped"] > 4000  # they never came: holes
    assert back["pages_data"] + back["pages_zero"] < 14000


def test_balloon_goes_along(pair, stage):
    """The operator can have the balloon sent all the same. Its bitmap goes along even so, before
    the pause, and counts at once for the next migration, from where the guest came to: of a guest
    whose balloon holds three quarters, a quarter goes."""
    source, target = pair
    vm = stage.vm(args=["--content", "random", "--rate", 100, "--balloon", 75, "--churn", 0])
    vm, there = move(stage, source, target, vm, "there", "--skip-balloon", "no")
    assert there["pages_balloon"] == 0
    vm, back = move(stage, target, source, vm, "back")
    assert back["pages_balloon"] > PAGES // 2
    assert of_pass_0(back) < 0.35 * of_pass_0(there)
    for report in (there, back):
        assert report["bytes_balloon"] > 0
        assert report["bytes_balloon_paused"] == 0


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
