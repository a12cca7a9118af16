# SPDX-License-Identifier: BSD-3-Clause
"""Every way to find written pages moves a guest that writes all the time, there and back."""

import pytest

from godwit import BUILD, Child, wait_until

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


class CardVm(Child):
    """A VMM whose memory a network card writes: DPDK's vhost-user back end."""

    def __init__(self, stage, name, *args):
        self.agent = stage.folder / f"{name}.agent"
        super().__init__(name, [BUILD / "tests/e2e/card-vm", "--agent", self.agent, *args])
        stage.children.append(self)
        wait_until(f"{name} listens", lambda: self.agent.exists() or not self.alive())
        if self.popen.poll() == 77:
            pytest.skip(self.lines[-1])

    @property
    def way(self):
        return ["--agent", self.agent]


@pytest.mark.parametrize("log", [True, False], ids=["logs", "does not log"])
def test_vhost(pair, stage, pagemap_scan, log):
    """A back end of vhost-user writes all the time, from a process of its own. What it logs
    arrives; where the VMM does not have it log, as it said it would, pages are lost."""
    vm = CardVm(stage, "here", *([] if log else ["--no-log"]))
    waiting = CardVm(stage, "there", "--incoming")
    report = stage.migrate(*pair, vm, waiting, "card", "--bandwidth", "20M",
                           *(["--verify", "memory"] if log else [])).done()
    assert (report["pages_data"] > 4096) == log  # nobody else sees what is written again
    bad = int(waiting.wait_line(r"check: \d+ pages ok, (\d+) bad")[1])
    assert (bad == 0) == log
    waiting.wait_line("state running")
    assert vm.wait() == 0
