# SPDX-License-Identifier: BSD-3-Clause
"""Holes of huge pages: they are neither read nor sent, so neither side gets memory for them. And
the daemon's own memory: on huge pages where there are some, and it says which."""

import pathlib

HUGE = 2 << 20


def huge_pages_held(vm):
    """Those of the guest's RAM file, and how many it has room for."""
    found = vm.ram_file().stat()
    return found.st_blocks * 512 // HUGE, found.st_size // HUGE


def test_holes_of_huge_pages_stay(stage, hugepages):
    source, target = stage.source(), stage.target()
    args = ["--hugepages", "--populate", "0"]
    vm = stage.vm(args=[*args, "--pattern", "hot", "--rate", "200", "--share", "1"])
    waiting = stage.waiting(args=args)
    vm.wait_ticks()
    held, room = huge_pages_held(vm)
    assert 0 < held < room / 2, "the guest has no holes to look at"
    moving = stage.migrate(source, target, vm, waiting, "guest", "--hold", "--verify", "memory")
    source.wait_state("guest", "holding")
    held, room = huge_pages_held(vm)
    assert held < room / 2, "reading a hole has filled it"
    source.ok("switch-now", "guest")
    assert moving.done()["verified_pages"] > 0
    assert vm.wait() == 0
    held, room = huge_pages_held(waiting)
    assert 0 < held < room / 2
    assert waiting.check() > 0
    vm.whole()
    waiting.whole()


def test_daemon_says_which_pages_it_took(stage, hugepages):
    """By itself it takes huge pages where there are some, and none where it is told so."""
    for how, pages in (("auto", "2 MiB"), ("no", "4 KiB")):
        daemon = stage.daemon(f"d{how}", args=["--huge", how])
        said = daemon.wait_line(r"MiB on (huge )?pages of (2 MiB|4 KiB)")
        assert said.group(2) == pages
        held = pathlib.Path(f"/proc/{daemon.popen.pid}/status").read_text()
        huge_kib = int(held.split("HugetlbPages:")[1].split()[0])
        assert (huge_kib > 0) == (how == "auto")
        daemon.close()
