# SPDX-License-Identifier: BSD-3-Clause
"""Every way to find written pages moves a guest that writes all the time, there and back."""

import pytest

# The VMM may have switched it on: no silence about that.
RING = "kvm-ring", "manual protect switched off"


def there_and_back(stage, kind, args, rate, tracker, mode):
    """Moves a guest twice, so that the second time tracking starts on a VM that came."""
    source, target = stage.source(), stage.target()
    vm = stage.vm(kind=kind, args=["--vcpus", 2, "--pattern", "hot", "--rate", rate, *args])
    for name, a, b in (("there", source, target), ("back", target, source)):
        waiting = stage.waiting(kind=kind, args=args)
        last = vm.wait_ticks()
        report = stage.migrate(a, b, vm, waiting, name, "--verify", "memory",
                               "--downtime", 2000).done()
        assert (report["tracker"], report["tracker_mode"]) == (tracker, mode)
        assert f"writes seen by {tracker} ({mode}), " in a.ok("status", name)
        assert report["verified_pages"] > 0
        assert waiting.wait_ticks() > last
        waiting.whole()
        assert vm.wait() == 0
        vm = waiting


@pytest.mark.parametrize("entries,rate", [(65536, 4000), (1024, 20000)])
def test_rings(stage, kvm, entries, rate):
    there_and_back(stage, "kvm", ["--ring", entries], rate, *RING)


def test_rings_that_overrun(stage, kvm):
    """A guest as fast as it goes, with rings far too small: full or overrun all the time."""
    there_and_back(stage, "kvm", ["--ring", 256], 0, *RING)
