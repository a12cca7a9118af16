# SPDX-License-Identifier: BSD-3-Clause
"""An idle guest of 1 TiB nominal size, 1 GiB of it populated, moved between two daemons of this
host, and by turns the same guest of 1 GiB nominal size: pass 0 must not cost what is not there.

The guest is a software guest. KVM takes memory of its own for each page of a slot, populated or
not; how much is measured with a slot that is small enough to be tried anywhere, and a KVM guest of
that size is moved beside the others."""

import contextlib
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import time

NOMINAL_GIB = 1024
KVM_GIB = 64  # of the slot that KVM is tried with
FIRST_PASS_TIMES = 2  # pass 0 against that of the guest without the holes
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


def vmalloc_kib():
    """What the kernel has in vmalloc areas: there KVM keeps what it knows of a slot's pages."""
    for line in pathlib.Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("VmallocUsed:"):
            return int(line.split()[1])
    return 0


def kvm_memory(build):
    """MiB that KVM takes by itself for a slot of KVM_GIB, or why that can't be told."""
    vm = build / "kvm" / "vm" / "godwit-vm"
    with tempfile.TemporaryDirectory(prefix="godwit-bars-") as text:
        agent = pathlib.Path(text) / "agent"
        before = vmalloc_kib()
        guest = subprocess.Popen([vm, "--kvm", "--memory", "64M", "--nominal", f"{KVM_GIB}G",
                                  "--rate", "1", "--agent", agent], stdin=subprocess.DEVNULL,
                                 stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            wait_for("godwit-vm", agent, guest)
            return {"slot_gib": KVM_GIB, "mib": round((vmalloc_kib() - before) / 1024, 1),
                    "page_tables_mib": round(status_kib(guest.pid, "VmPTE") / 1024, 2)}
        except Failed:
            guest.kill()
            return {"slot_gib": KVM_GIB, "none": guest.communicate()[1].strip()[-200:]}
        finally:
            guest.kill()
            guest.wait()


@contextlib.contextmanager
def programs():
    """A folder, and what starts a program, whose log is there; all gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="godwit-bars-") as text:
        folder, started = pathlib.Path(text), []

        def start(name, *args):
            with open(folder / f"{name}.log", "w") as log:
                started.append(subprocess.Popen([str(a) for a in args], stdin=subprocess.DEVNULL,
                                                stdout=log, stderr=log))
            return started[-1]

        try:
            yield folder, start
        finally:
            for process in started:
                process.kill()
                process.wait()


def once(build, gib, kind="--soft"):
    with programs() as (folder, start):
        return migrate(build, folder, start, gib, kind)


def migrate(build, folder, start, gib, kind):
    cpus = sorted(os.sched_getaffinity(0))
    daemon, cli = build / "control" / "godwitd", build / "control" / "godwit"
    sides, ports, guests = {}, {}, {}
    for number, side in enumerate(("source", "target")):
        api = folder / f"{side}.api"
        sides[side] = start(side, daemon, "--insecure", "--listen", "127.0.0.1:0", "--api", api,
                            "--state-dir", folder / f"{side}.state", "--cores",
                            cpus[number % len(cpus)])
        wait_for("godwitd", api, sides[side])
        agent = folder / f"{side}.agent"
        guest = start(f"{side}.vm", build / "kvm" / "vm" / "godwit-vm", kind, "--memory", "1G",
                      "--nominal", f"{gib}G", "--rate", "1", "--agent", agent,
                      *(["--incoming"] if side == "target" else []))
        guests[side] = guest
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
    tables = [max(status_kib(process.pid, "VmPTE") / 1024 for process in of.values())
              for of in (sides, guests)]
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
            "page_tables_mib": tables[0], "vmm_page_tables_mib": tables[1],
            "pause_ms": end["report"]["pause_ms"]}


def measure(build, rounds):
    build = pathlib.Path(build)
    done = [(once(build, NOMINAL_GIB), once(build, 1)) for _ in range(rounds)]
    # The tightest of the limits; the target may hold no more than what is populated.
    ratios = [min(EMPTY_PASS_MS / d["empty_pass_ms"], DAEMON_MIB / d["daemon_mib"],
                  (d["populated_mib"] + 4) / d["target_ram_mib"],
                  FIRST_PASS_TIMES * small["first_pass_ms"] / d["first_pass_ms"])
              for d, small in done]
    beside = {key: round(statistics.median(d[key] for d, _ in done), 2) for key in done[0][0]}
    kvm = kvm_memory(build)
    if "mib" in kvm:
        moved = once(build, KVM_GIB, "--kvm")
        kvm |= {key: round(moved[key], 2) for key in (
            "first_pass_ms", "empty_pass_ms", "daemon_mib", "target_ram_mib")}
    return ratios, beside | {
        "first_pass_ms_without_holes": round(statistics.median(
            small["first_pass_ms"] for _, small in done), 2),
        "guest": f"software: KVM would keep {kvm['mib'] * NOMINAL_GIB / KVM_GIB / 1024:.1f} GiB of "
                 "its own a side" if "mib" in kvm else f"software: {kvm['none']}",
        "kvm_own": kvm}
