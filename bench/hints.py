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
import tempfile

from idle_tib import Failed, wait_for

MEMORY = "1G"
# name, options of the guest, options of the move
KINDS = [
    ("free, not reported", ["--free", "75", "--report", "never"], []),
    ("free and reported", ["--free", "75"], []),
    ("in the balloon, sent", ["--balloon", "75"], ["--skip-balloon", "no"]),
    ("in the balloon, left out", ["--balloon", "75"], []),
]


def move(build, guest_args, move_args):
    with tempfile.TemporaryDirectory(prefix="godwit-hints-") as text:
        folder, started = pathlib.Path(text), []

        def start(name, *args):
            log = open(folder / f"{name}.log", "w")
            started.append(subprocess.Popen([str(a) for a in args], stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log))
            return started[-1]

        try:
            return migrate(build, folder, start, guest_args, move_args)
        finally:
            for process in started:
                process.kill()
                process.wait()


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


def main():
    build = pathlib.Path(sys.argv[1])
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    reports = {name: [] for name, _, _ in KINDS}
    for _ in range(rounds):
        for name, guest_args, move_args in KINDS:
            reports[name].append(move(build, guest_args, move_args))
    base = None
    for name, _, _ in KINDS:
        ms = statistics.median(r["copy_ms"] for r in reports[name])
        mib = statistics.median(r["bytes_wire"] for r in reports[name]) / 2**20
        line = {"guest": name, "copy_ms": round(ms, 1), "wire_mib": round(mib, 1)}
        for key in ("pages_data", "pages_balloon", "pages_free"):
            line[key] = int(statistics.median(r[key] for r in reports[name]))
        if base is not None:
            line["of_time"] = round(ms / base[0], 3)
            line["of_bytes"] = round(mib / base[1], 3)
        base = (ms, mib) if base is None else None
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
