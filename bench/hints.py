# SPDX-License-Identifier: BSD-3-Clause
"""A guest with three quarters of its memory free, or in its balloon, moved between two daemons of
this host with hints and without, in turn. Prints time and bytes of both, and their ratio.

usage: hints.py BUILD [ROUNDS]"""

import json
import os
import pathlib
import statistics
import subprocess
import sys

from idle_tib import Failed, programs, wait_for

MEMORY = "1G"
MOST = 0.35  # a quarter is not in use; what was written meanwhile goes again
# name, options of the guest, options of the move
KINDS = [
    ("free, not reported", ["--free", "75", "--report", "never"], []),
    ("free and reported", ["--free", "75"], []),
    ("in the balloon, sent", ["--balloon", "75"], ["--skip-balloon", "no"]),
    ("in the balloon, left out", ["--balloon", "75"], []),
]


def move(build, guest_args, move_args):
    with programs() as (folder, start):
        return migrate(build, folder, start, guest_args, move_args)


def migrate(build, folder, start, guest_args, move_args):
    cpus = sorted(os.sched_getaffinity(0))
    daemon, cli = build / "control" / "godwitd", build / "control" / "godwit"
    ports = {}
    for number, side in enumerate(("source", "target")):
        api = folder / f"{side}.api"
        process = start(side, daemon, "--insecure", "--listen", "127.0.0.1:0", "--api", api,
                        "--state-dir", folder / f"{side}.state", "--cores",
                        cpus[number % len(cpus)])
        wait_for("godwitd", api, process)
        agent = folder / f"{side}.agent"
        what = ["--incoming"] if side == "target" else ["--content", "random", "--rate", "2000",
                                                       *guest_args]
        guest = start(f"{side}.vm", build / "kvm" / "vm" / "godwit-vm", "--soft", "--memory",
                      MEMORY, "--agent", agent, *what)
        wait_for("godwit-vm", agent, guest)
        status = subprocess.run([cli, "status", "--api", api, "--json"], capture_output=True,
                                text=True, check=True).stdout
        ports[side] = json.loads(status)["daemon"]["port"]
    subprocess.run([cli, "receive", "guest", "--agent", folder / "target.agent", "--api",
                    folder / "target.api", "--detach"], capture_output=True, check=True)
    out = subprocess.run([cli, "migrate", "guest", "--agent", folder / "source.agent", "--to",
                          f"127.0.0.1:{ports['target']}", "--api", folder / "source.api",
                          "--json", *move_args], capture_output=True, text=True).stdout
    end = json.loads(out.splitlines()[-1])
    if end.get("result") != "done":
        raise Failed(f"the migration ended as {end.get('result')}: {end.get('error')}")
    return end["report"]


def share(full, less):
    """Of time and bytes, what is left with hints."""
    return [less[key] / full[key] for key in ("copy_ms", "bytes_wire")]


def measure(build, rounds, first):
    """For bench/bars: KINDS[first] and the one after it, by turns. The worse of time and bytes."""
    pair = KINDS[first:first + 2]
    done = [[move(pathlib.Path(build), *how) for _, *how in pair] for _ in range(rounds)]
    shares = [share(*reports) for reports in done]
    beside = {f"of_{what}": round(statistics.median(s[n] for s in shares), 3)
              for n, what in enumerate(("time", "bytes"))}
    for (name, *_), reports in zip(pair, zip(*done)):
        beside[name] = line(reports)
    return [MOST / max(s) for s in shares], beside


def line(reports):
    mib = statistics.median(r["bytes_wire"] for r in reports) / 2**20
    return {"copy_ms": round(statistics.median(r["copy_ms"] for r in reports), 1),
            "wire_mib": round(mib, 1)} | {
                key: int(statistics.median(r[key] for r in reports))
                for key in ("pages_data", "pages_balloon", "pages_free")}


def main():
    build = pathlib.Path(sys.argv[1])
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    for first in (0, 2):
        _, beside = measure(build, rounds, first)
        for name, _, _ in KINDS[first:first + 2]:
            print(json.dumps({"guest": name} | beside.pop(name)), flush=True)
        print(json.dumps(beside), flush=True)


if __name__ == "__main__":
    main()
