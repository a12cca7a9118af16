# SPDX-License-Identifier: BSD-3-Clause
"""A guest that writes all the time moves whole: every pattern, flows, codec and backing. Its own
checks, a digest of all memory on both sides, and its heartbeat say so."""

import itertools

import pytest

PATTERNS = ["seq", "random", "hot"]
CODECS = ["raw", "deflate:1"]
BACKINGS = ["4K", "2M"]


def move(stage, kind, pattern, flows, codec, backing, vcpus=2, memory="64M", rate=4000):
    cores = "0" if flows == 1 else "0,0"
    source = stage.source(cores=cores)
    target = stage.target(cores=cores)
    huge = ["--hugepages"] if backing == "2M" else []
    vm = stage.vm(kind=kind, memory=memory, args=[
        "--vcpus", vcpus, "--pattern", pattern, "--rate", rate, *huge])
    waiting = stage.waiting(kind=kind, memory=memory, args=huge)
    last = vm.wait_ticks()
    assert vm.check() > 0
    report = stage.migrate(source, target, vm, waiting, "guest", "--flows", flows,
                           "--codec", codec, "--verify", "memory").done()
    assert vm.wait() == 0
    assert waiting.wait_ticks(3) > last
    assert vm.ticks()[-1] <= waiting.ticks()[0], "the heartbeat went back"
    vm.whole()
    waiting.whole()
    assert report["verified_pages"] > 0
    assert report["flows"] == flows
    assert report["hypervisor"] and report["tracker"]
    assert len(report["cores"]) == flows
    assert report["stall"]["vcpus"] == vcpus
    assert report["memory"] == ("4 KiB pages" if backing == "4K" else "2 MiB huge pages")
    assert report["granule_bytes"] in (4096, 4096 if backing == "4K" else 2 << 20)
    assert codec.startswith(report["codec"])
    assert report["pages_torn"] == 0 or codec in ("raw", "auto")
    return report


@pytest.mark.parametrize("backing", BACKINGS)
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("flows", [1, 2])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_move(stage, request, pattern, flows, codec, backing, kvm):
    if backing == "2M":
        request.getfixturevalue("hugepages")
    move(stage, "kvm", pattern, flows, codec, backing)


@pytest.mark.smoke
@pytest.mark.parametrize("codec", [*CODECS, "zstd:1", "auto"])
def test_move_smoke(stage, codec):
    move(stage, stage.kind, "hot", 1, codec, "4K", memory="32M", rate=1000)


@pytest.mark.smoke
@pytest.mark.parametrize("pattern", PATTERNS)
def test_move_software_guest(stage, pattern, pagemap_scan):
    move(stage, "soft", pattern, 2, "deflate:1", "4K", memory="32M")


@pytest.mark.long
@pytest.mark.parametrize("kind,pattern,codec", itertools.product(["kvm", "soft"], PATTERNS, CODECS))
def test_move_large_and_fast(stage, kind, pattern, codec, kvm, pagemap_scan):
    move(stage, kind, pattern, 2, codec, "4K", memory="2G", rate=20000)
