# SPDX-License-Identifier: BSD-3-Clause
"""What a pass costs the control side, by dirty pages: is it linear? godwit-pass-cost tells."""

import json
import statistics
import subprocess

MOST = 1.3  # ns a page at 0.4 % of the pages, over those at 0.1 %
# Source, GiB nominal. The pages of the second hold memory: 256 GiB take 1.6 GiB.
SOURCES = [("vmm-writes", 1024), ("pagemap-scan", 256)]


class Failed(Exception):
    pass


def rows(program, source, gib):
    """ns of CPU a page, by how many of 1000 are dirty."""
    done = subprocess.run([program, "--source", source, "--nominal", str(gib), "--json"],
                          capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed(f"{program} --source {source}: {done.stderr.strip()}")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return {round(row["dirty"] * 1000 / (gib << 18)): row["cpu_ms"] * 1e6 / row["dirty"]
            for row in found if row["dirty"] * 1000 >= (gib << 18) * 0.9}


def measure(program, rounds):
    taken = {source: [rows(program, source, gib) for _ in range(rounds)]
             for source, gib in SOURCES}
    grew = {source: [r[4] / r[1] for r in runs] for source, runs in taken.items()}
    beside = {source: {"ns_a_page_0.1": round(statistics.median(r[1] for r in runs)),
                       "ns_a_page_0.4": round(statistics.median(r[4] for r in runs))}
              for source, runs in taken.items()}
    return [MOST / max(pair) for pair in zip(*grew.values())], beside
