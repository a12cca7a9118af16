# SPDX-License-Identifier: BSD-3-Clause
"""Bars that are taken from races of ways (ways.py): pairs against QEMU, the choice of a codec at
rates of the wire, a guest that is all holes; and the zero scan on several cores."""

import json
import os
import statistics
import subprocess

import ways

LIMITS = [1, 2.5, 5, 10, 25, None]
AGAINST_QEMU = [2.5, 5, 10]
FIXED = [f"godwit/tcp/{codec}" for codec in ("raw", "lz4", "deflate:1", "zstd:1", "zstd:3")]
AUTO = "godwit/tcp/auto"
QEMU = ["qemu/multifd", "qemu/zstd:1"]
# Ways that took so many times the best one's time are not the best: they are not gone again. What
# was run once or twice may have been disturbed.
HOPELESS = [2.5, 2.5, 1.5]
# Class and MiB. The mix is raced against QEMU too, and half of it is zero: large enough that what a
# migration takes beside its bytes is little.
IMAGES = {"mix": 4096, "binary": 1024, "heap": 1024}


def summary(ratios, rounds):
    return {"ratio": round(statistics.median(ratios), 3), "rounds": rounds,
            "min": round(min(ratios), 3), "max": round(max(ratios), 3)}


def warm(ground, names):
    for name in names:
        ground.once(name)


def pair(build, rounds, mib, ours, theirs, cold=False):
    """theirs / ours, by turns. cold: the target's memory is empty each time."""
    ground = ways.Ground(build, mib, ["--content", "mix"], nic="/nic/" in ours)
    try:
        warm(ground, (ours, theirs))
        done = []
        for _ in range(rounds):
            trip = ground.pingpong_ns()
            done.append({name: ground.once(name, cold) for name in (ours, theirs)} | {"trip": trip})
    finally:
        ground.close()
    beside = {name: {
        "gib_per_s": round(mib / 1024 / statistics.median(r[name]["s"] for r in done), 2),
        "cpu_s": [round(statistics.median(r[name]["cpu_s"][n] for r in done), 2) for n in (0, 1)]}
        for name in (ours, theirs)}
    return summary([r[theirs]["s"] / r[ours]["s"] for r in done], rounds) | {
        "beside": beside | {"pingpong_ns": [round(r["trip"]) for r in done]}}


def medians(taken):
    return {name: round(statistics.median(r["s"] for r in runs), 3)
            for name, runs in taken.items()}


def paired(ours, theirs):
    """theirs / ours, of the rounds that both were in."""
    return round(statistics.median(their["s"] / our["s"] for our, their in zip(ours, theirs)), 3)


def cell(ground, names, rounds):
    """Median seconds of each way, by turns, as long as it may be the best; what it took times
    auto's, round by round; of auto the shares of the pages too."""
    taken = {name: [] for name in names}
    for n in range(rounds):
        for name in names if n % 2 == 0 else reversed(names):
            taken[name].append(ground.once(name))
        found = medians(taken)
        names = [name for name in names
                 if name == AUTO or found[name] < HOPELESS[min(n, 2)] * min(found.values())]
    counters = [run["counters"] for run in taken[AUTO]]
    return found | {
        "rounds": rounds,
        "times": {name: paired(taken[AUTO], runs) for name, runs in taken.items() if name != AUTO},
        "by": {row: round(statistics.median(c[f"pages_{row}"] / max(1, c["pages_data"])
                                            for c in counters), 3)
               for row in ("lz4", "deflate", "zstd")}}


def auto_table(build, rounds, size=None):
    """{class: {limit: what cell() found}}"""
    found = {}
    for content, mib in IMAGES.items():
        ground = ways.Ground(build, size or mib, ["--content", content])
        try:
            warm(ground, (AUTO, QEMU[0]))
            found[content] = {}
            for gbit in LIMITS:
                ground.wire.limit(gbit)
                names = [AUTO, *FIXED]
                if content == "mix" and gbit in AGAINST_QEMU:
                    names += QEMU
                # Where the host's mood decides and not the wire, single runs differ by a third:
                # then nine rounds tell a median to a tenth only.
                more = 1 if gbit and gbit < 25 else 10
                found[content][str(gbit or "unlimited")] = cell(ground, names, more * rounds)
        finally:
            ground.close()
    return found


def lowest(table, others, keep):
    """The lowest ratio of any of others to auto, over the cells that are kept."""
    ratios = [min(cell["times"][name] for name in others)
              for content, cells in table.items() for limit, cell in cells.items()
              if keep(content, limit)]
    return {"ratio": round(min(ratios), 3), "min": round(min(ratios), 3),
            "max": round(max(ratios), 3)}


def auto_fixed(table):
    return lowest(table, FIXED, lambda content, limit: True)


def auto_qemu(table):
    return lowest(table, QEMU, lambda content, limit:
                  content == "mix" and limit in map(str, AGAINST_QEMU))


def holes(build, rounds, gib=256):
    """Seconds to move a guest that has no page, of so many GiB nominal, under a limit of one. Not
    beside QEMU's own way: that reads the holes of shared memory, and so allocates all of it."""
    ground = ways.Ground(build, gib << 10, image=None)
    try:
        done = [ground.once("godwit/tcp/raw", cold=True) for _ in range(rounds)]
    finally:
        ground.close()
    return summary([1 / r["s"] for r in done], rounds) | {"beside": {
        "s": [round(r["s"], 3) for r in done], "sent_bytes": done[0]["wire"]}}


def together(program, mib, rounds, stage):
    """GiB/s of a stage over zero pages, on one core and on all, each with an image of its own."""
    def start(cpu):
        return subprocess.Popen(
            [program, "--json", "--content", "zero", "--size", str(mib), "--rounds", str(rounds),
             "--cpu", str(cpu), stage], stdout=subprocess.PIPE, text=True)

    def rate(running):
        said, _ = running.communicate()
        if running.returncode:
            raise ways.Failed(f"godwit-bench {stage} failed")
        return statistics.median(event["gib_per_s"] for event in map(json.loads, said.splitlines())
                                 if "stage" in event)
    one = rate(start(0))
    return one, sum(map(rate, [start(cpu) for cpu in range(os.cpu_count() or 1)]))


def zero_cores(program, rounds, mib=1024):
    """The scan on all cores against a plain read loop on all cores."""
    ratios, rates = [], []
    for _ in range(rounds):
        scan = together(program, mib, 9, "zero")
        read = max(together(program, mib, 9, stage) for stage in ("read/avx2", "read/avx2-ahead"))
        ratios.append(scan[1] / read[1])
        rates.append(scan)
    return summary(ratios, rounds) | {"beside": {
        "cores": os.cpu_count(),
        "one_core_gib_per_s": round(statistics.median(r[0] for r in rates), 2),
        "all_cores_gib_per_s": round(statistics.median(r[1] for r in rates), 2)}}
