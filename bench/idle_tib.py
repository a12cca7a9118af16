# SPDX-License-Identifier: BSD-3-Clause
"""An idle guest of 1 TiB nominal size, 1 GiB of it populated, moved between two daemons of this
host. The software guest does: KVM may not hold such a slot."""

import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import time

EMPTY_PASS_MS = 50
DAEMON_MIB = 200
HOLD_S = 4


class Failed(Exception):
    pass


def wait_for(what, path, process, seconds=60):
    end = time.monotonic() + seconds
    while not path.exists():
        if process.poll() is not None or time.monotonic() > end:
            raise Failed(f"{what} did not start")
        time.sleep(0.05)


def status_kib(pid, *names):
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    have = dict(line.split(":", 1) for line in lines)
    return sum(int(have.get(name, "0 kB").split()[0]) for name in names)


def planes_kib(pid):
    """The bitmaps that libgodwit shares with the daemon."""
    fds = pathlib.Path(f"/proc/{pid}/fd")
    return sum(os.stat(fd).st_blocks // 2 for fd in fds.iterdir()
               if "godwit-planes" in os.readlink(fd))


def ram_kib(pid):
    fds = pathlib.Path(f"/proc/{pid}/fd")
    return sum(os.stat(fd).st_blocks // 2 for fd in fds.iterdir()
               if "godwit-ram" in os.readlink(fd))


def daemon_mib(pid):
    return (status_kib(pid, "RssAnon", "RssFile", "HugetlbPages") + planes_kib(pid)) / 1024


def once(build):
    with tempfile.TemporaryDirectory(prefix="godwit-bars-") as text:
        folder = pathlib.Path(text)
        started = []

        def start(name, *args):
            log = open(folder / f"{name}.log", "w")
            started.append(subprocess.Popen([str(a) for a in args], stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log))
            return started[-1]

        try:
            return migrate(build, folder, start)
        finally:
            for process in started:
                process.kill()
                process.wait()


def migrate(build, folder, start):
    cpus = sorted(os.sched_getaffinity(0))
    daemon, cli = build / "control" / "godwitd", build / "control" / "godwit"
    sides, ports = {}, {}
    for number, side in enumerate(("source", "target")):
        api = folder / f"{side}.api"
        sides[side] = start(side, daemon, "--insecure", "--listen", "127.0.0.1:0", "--api", api,
                            "--state-dir", folder / f"{side}.state", "--cores",
                            cpus[number % len(cpus)])
        wait_for("godwitd", api, sides[side])
        agent = folder / f"{side}.agent"
        guest = start(f"{side}.vm", build / "kvm" / "vm" / "godwit-vm", "--soft", "--memory", "1G",
                      "--nominal", "1T", "--rate", "1", "--agent", agent,
                      *(["--incoming"] if side == "target" else []))
        wait_for("godwit-vm", agent, guest)
        status = subprocess.run([cli, "status", "--api", api, "--json"], capture_output=True,
                                text=True, check=True).stdout
        ports[side] = json.loads(status)["daemon"]["port"]
    source, target = folder / "source.api", folder / "target.api"
    receive = subprocess.run([cli, "receive", "guest", "--agent", folder / "target.agent", "--api",
                              target, "--detach"], capture_output=True, text=True)
    if receive.returncode != 0:
        raise Failed(receive.stderr.strip())
    move = subprocess.Popen([cli, "migrate", "guest", "--agent", folder / "source.agent", "--to",
                             f"127.0.0.1:{ports['target']}", "--api", source, "--hold", "--json"],
                            stdout=subprocess.PIPE, text=True)
    time.sleep(HOLD_S)
    mib = {side: daemon_mib(process.pid) for side, process in sides.items()}
    tables = {side: status_kib(process.pid, "VmPTE") / 1024 for side, process in sides.items()}
    placed = ram_kib(sides["target"].pid) / 1024
    subprocess.run([cli, "switch-now", "guest", "--api", source], capture_output=True)
    out, _ = move.communicate(timeout=120)
    end = json.loads(out.splitlines()[-1])
    if end.get("result") != "done":
        raise Failed(f"the migration ended as {end.get('result')}: {end.get('error')}")
    passes = end["report"]["passes_detail"]
    empty = [p["ms"] for p in passes[1:] if p["kind"] == "live" and p["pages"] == 0]
    if not empty:
        raise Failed("no pass was empty")
    return {"empty_pass_ms": statistics.median(empty), "daemon_mib": max(mib.values()),
            "first_pass_ms": passes[0]["ms"], "target_ram_mib": placed,
            "populated_mib": end["report"]["populated_bytes"] / 2**20,
            "page_tables_mib": max(tables.values()), "pause_ms": end["report"]["pause_ms"]}


def measure(build, rounds):
    done = [once(pathlib.Path(build)) for _ in range(rounds)]
    # The tightest of the limits; the target may hold no more than what is populated.
    ratios = [min(EMPTY_PASS_MS / d["empty_pass_ms"], DAEMON_MIB / d["daemon_mib"],
                  (d["populated_mib"] + 4) / d["target_ram_mib"]) for d in done]
    beside = {key: round(statistics.median(d[key] for d in done), 2) for key in done[0]}
    return ratios, beside
