# SPDX-License-Identifier: BSD-3-Clause
"""One guest's RAM from one QEMU to another, timed: by QEMU itself, and by Godwit. The guest's vCPUs
never start; its RAM is a file filled with the standard image. What belongs to a side has a CPU to
itself, because a loopback pair that shares one shares its cache, which no network does; and the
two sides have a network namespace of their own, whose loopback counts what they send."""

import contextlib
import json
import mmap
import os
import pathlib
import re
import select
import socket
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/e2e"))
import qmp  # noqa: E402

TICKS = os.sysconf("SC_CLK_TCK")
WAIT_S = 120


class Failed(Exception):
    pass


def wait_for(what, condition):
    end = time.monotonic() + WAIT_S
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Failed(f"waited in vain: {what}")
        time.sleep(0.005)


def wait_told(what, condition, machine):
    """The same for what comes about in this QEMU, whose monitor tells of each step of a migration.
    Until it does it is seldom asked: to ask every 5 ms took an eighth of the CPU measured."""
    end = time.monotonic() + WAIT_S
    often = 0
    while not (value := condition()):
        if time.monotonic() > end:
            raise Failed(f"waited in vain: {what}")
        told, _, _ = select.select([machine.monitor.socket], [], [], 0.005 if often else 0.025)
        often = 10 if told else max(often - 1, 0)
    return value


def cpu_s(pid):
    """Seconds of CPU that a process has used, its threads too."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def worker_cpu_s(pid):
    """That of its polling cores alone."""
    total = 0
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        try:
            name, fields = (task / "stat").read_text().rsplit(")", 1)
        except FileNotFoundError:  # that thread has ended meanwhile
            continue
        if "(rte-worker" in name:
            total += sum(map(int, fields.split()[11:13])) / TICKS
    return total


class Wire:
    """A network namespace with nothing but a loopback."""

    def __init__(self):
        self.name = f"gwbars{os.getpid()}"
        try:
            self.ip("netns", "add", self.name)
            self.ip("-n", self.name, "link", "set", "lo", "up")
        except BaseException:
            self.close()
            raise

    def ip(self, *args):
        done = subprocess.run(["ip", *args], capture_output=True, text=True)
        if done.returncode:
            raise Failed(f"ip {' '.join(args)}: {done.stderr.strip()}; root is needed")

    def limit(self, gbit):
        """Lets no more through than that; None: all. Packets wait for it, they are not dropped."""
        tc = ["netns", "exec", self.name, "tc", "qdisc"]
        subprocess.run(["ip", *tc, "del", "dev", "lo", "root"], capture_output=True)
        if gbit:
            self.ip(*tc, "add", "dev", "lo", "root", "tbf", "rate", f"{round(gbit * 1000)}mbit",
                    "burst", "1mb", "limit", "64mb")

    def within(self, cpu):
        """What a command begins with that is to run there, on one CPU."""
        return ["ip", "netns", "exec", self.name, "taskset", "-c", str(cpu)]

    def close(self):
        subprocess.run(["ip", "netns", "del", self.name], capture_output=True)


class Host:
    """In place of a wire: the host's own network, where its devices are."""

    @staticmethod
    def within(cpu):
        return ["taskset", "-c", str(cpu)]


def wire_bytes(pid):
    """That went over the loopback of a process."""
    for line in pathlib.Path(f"/proc/{pid}/net/dev").read_text().splitlines():
        if line.strip().startswith("lo:"):
            return int(line.split(":")[1].split()[0])
    raise Failed("no loopback")


class Program:
    """A program of one side, in the background."""

    def __init__(self, wire, folder, name, cpu, *command):
        self.name = name
        self.log = open(folder / f"{name}.log", "w")
        self.process = subprocess.Popen(
            wire.within(cpu) + [str(word) for word in command],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)

    @property
    def pid(self):
        return self.process.pid

    def used(self):
        """Seconds of CPU: of its threads; of polling cores; of these while they were busy."""
        return cpu_s(self.pid), 0, 0

    def wait_path(self, path):
        def there():
            if self.process.poll() is not None:
                said = pathlib.Path(self.log.name).read_text().strip()
                raise Failed(f"{self.name}: {said or 'ended'}")
            return path.exists()
        wait_for(f"{self.name} makes {path.name}", there)

    def close(self):
        self.process.kill()
        self.process.wait()
        self.log.close()


class Machine(Program):
    """A QEMU with its RAM in a file. cold: the file is empty at its start, not populated."""

    def __init__(self, wire, folder, name, ram, mib, cpu, incoming=False, cold=False,
                 binary="qemu-system-x86_64"):
        self.folder, self.mib, self.cold = folder, mib, cold
        self.qmp, own = folder / f"{name}.qmp", folder / f"{name}.own"
        for path in (self.qmp, own):
            path.unlink(missing_ok=True)
        if cold:
            ram.unlink(missing_ok=True)
        super().__init__(
            wire, folder, name, cpu, binary, "-machine",
            "q35,accel=tcg,memory-backend=ram0", "-nodefaults", "-no-user-config", "-display",
            "none", "-S", "-m", f"{mib}M", "-object",
            f"memory-backend-file,id=ram0,size={mib}M,mem-path={ram},share=on,"
            f"prealloc={'off' if cold else 'on'}",
            *[arg for path in (self.qmp, own) for arg in
              ("-qmp", f"unix:{path},server=on,wait=off")],
            *(["-incoming", "defer"] if incoming else []))
        try:
            self.wait_path(own)
            self.monitor = qmp.Qmp(own)
        except BaseException:
            self.close()
            raise

    def secure(self, end):
        """Its own migration speaks TLS, with a shared key."""
        (self.folder / "keys.psk").write_text("qemu:" + "5a" * 32 + "\n")
        self.monitor.run("object-add", qom_type="tls-creds-psk", id="tls0", endpoint=end,
                         dir=str(self.folder), **({"username": "qemu"} if end == "client" else {}))
        self.monitor.run("migrate-set-parameters", tls_creds="tls0")

    def capability(self, name, on):
        self.monitor.run("migrate-set-capabilities",
                         capabilities=[{"capability": name, "state": on}])

    def info(self):
        info = self.monitor.run("query-migrate")
        if info.get("status") in ("failed", "cancelled"):
            raise Failed(f"QEMU's migration {info}")
        return info


class Daemon(Program):
    """keys: the folder of this host's; None: insecure. more: more options."""

    def __init__(self, wire, folder, name, build, cpu, keys=None, more=()):
        self.api = folder / f"{name}.api"
        self.port = free_port()  # free there too: nothing else listens there
        self.cli = build / "control" / "godwit"
        safe = ["--insecure"] if keys is None else ["--keys", keys, "--allow", "*.bench"]
        super().__init__(wire, folder, name, cpu, build / "control" / "godwitd", *safe,
                         "--listen", f"127.0.0.1:{self.port}", "--api", self.api,
                         "--state-dir", folder / f"{name}.state", "--cores", cpu, *more)
        self.wait_path(self.api)
        wait_for(f"{name} is ready", self.ready)

    def ready(self):
        said = pathlib.Path(self.log.name).read_text()
        if self.process.poll() is not None:
            raise Failed(f"{self.name}: {said.strip()}")
        return "ready on " in said

    def command(self, *words):
        return [str(word) for word in (self.cli, *words, "--api", self.api)]

    def used(self):
        done = subprocess.run(self.command("status", "--json"), capture_output=True, text=True)
        if done.returncode:
            raise Failed(done.stderr.strip())
        cores = json.loads(done.stdout.splitlines()[0])["daemon"]["cores"]
        workers = worker_cpu_s(self.pid)
        return cpu_s(self.pid) - workers, workers, sum(core["busy_s"] for core in cores)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def by_qemu(source, target, multifd=2, tls=False, **level):
    """QEMU's own migration; a dictionary of what it took. level: zlib or zstd and its level."""
    for side, end in ((source, "client"), (target, "server")):
        side.capability("multifd", multifd > 0)
        side.capability("events", True)
        parameters = {"max_bandwidth": 1 << 40}
        if multifd:
            parameters["multifd_channels"] = multifd
            parameters["multifd_compression"] = next(iter(level), "none")
            parameters |= {f"multifd_{name}_level": value for name, value in level.items()}
        side.monitor.run("migrate-set-parameters", **parameters)
        if tls:
            side.secure(end)
    uri = f"tcp:127.0.0.1:{free_port()}"
    target.monitor.run("migrate-incoming", uri=uri)

    def move():
        source.monitor.run("migrate", uri=uri)
        for side in (source, target):
            wait_told("QEMU's migration", lambda: side.info().get("status") == "completed", side)

    return timed(move, source, target, [[source], [target]]) | {
        "pause_ms": source.info()["downtime"]}


def by_godwit(source, target, daemons, *how, receive=(), prepare=None):
    """The same through Godwit; how and receive: more options of migrate and receive. prepare: the
    source's daemon, too, has mapped the memory before the clock starts, as its QEMU has; by default
    where the target's memory is there."""
    prepare = not target.cold if prepare is None else prepare
    here, there = daemons
    name = f"bars{target.pid}"
    target.capability("events", True)
    receive = subprocess.run(there.command("receive", name, "--qmp", target.qmp, "--detach",
                                           *receive), capture_output=True, text=True)
    if receive.returncode:
        raise Failed(receive.stderr.strip())
    # Its memory was allocated ahead: then it is mapped ahead, too, as QEMU's own is.
    if not target.cold:
        wait_for("the target's memory is mapped",
                 lambda: shared_mib(there.pid) >= target.mib)
    migrate = []

    def start():
        migrate.append(subprocess.Popen(here.command(
            "migrate", name, "--qmp", source.qmp, "--to", f"127.0.0.1:{there.port}", "--json",
            *how, *(["--prepare"] if prepare else [])), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))

    def move():
        if prepare:
            subprocess.run(here.command("begin", name), check=True, capture_output=True)
        else:
            start()
        # Until then as with QEMU's own; what follows is the end of the source's QEMU.
        wait_told("Godwit's migration", lambda: migrate[0].poll() is not None or
                  target.monitor.run("query-status")["status"] != "inmigrate", target)

    if prepare:
        start()
        wait_for("both sides are ready", lambda: migrate[0].poll() is not None or
                 state_of(here, name) == "ready")
    took = timed(move, source, target, [[source, here], [target, there]])
    said, _ = migrate[0].communicate(timeout=WAIT_S)
    if migrate[0].returncode:
        last = said.strip().splitlines()[-1]
        raise Failed(json.loads(last)["error"] if last.startswith("{") else last)
    report = json.loads(said.strip().splitlines()[-1])["report"]
    counters = report["counters"]
    if report["link"] != "tcp":  # not over the loopback
        took["wire"] += counters["bytes_wire"]
    return took | {"pause_ms": report.get("pause_ms", 0), "copy_s": report["copy_ms"] / 1000,
                   "counters": counters}


def state_of(daemon, name):
    said = subprocess.run(daemon.command("status", name, "--json"), capture_output=True, text=True)
    return json.loads(said.stdout)["session"]["state"] if said.returncode == 0 else ""


def shared_mib(pid):
    """MiB of files in memory that a process has in its page tables."""
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"RssShmem:\s+(\d+)", text)[1]) / 1024


def own_mib(pid):
    """Memory of a process that is not the guest's, which is in a file of /dev/shm here: what is
    anonymous, or on huge pages."""
    try:
        found = re.findall(r"^(?:RssAnon|HugetlbPages):\s+(\d+) kB",
                           pathlib.Path(f"/proc/{pid}/status").read_text(), re.M)
    except OSError:  # it has gone meanwhile
        return 0
    return sum(map(int, found)) / 1024


def unnamed_mib(pid):
    """The same in files without a name, as DPDK's is where it has no huge pages."""
    files = {}
    with contextlib.suppress(OSError):
        for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):  # closed meanwhile
                said = os.stat(fd)
                # Huge pages are in HugetlbPages.
                if os.readlink(fd).startswith("/memfd:") and said.st_blksize == mmap.PAGESIZE:
                    files[said.st_dev, said.st_ino] = said.st_blocks / 2048
    return sum(files.values())


class Peak:
    """The most memory of its own that each side had, looked at now and then, and at the end. Files
    are looked at then only: to list them takes the CPUs that are measured too long."""

    def __init__(self, sides):
        self.sides = [[program.pid for program in side] for side in sides]
        self.mib = [0] * len(sides)
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.look, daemon=True)
        self.thread.start()

    def once(self):
        for n, pids in enumerate(self.sides):
            self.mib[n] = max(self.mib[n], sum(map(own_mib, pids)))

    def look(self):
        while not self.over.wait(0.05):
            self.once()

    def close(self):
        self.over.set()
        self.thread.join()
        self.once()
        return [round(mib + sum(map(unnamed_mib, pids)), 1)
                for mib, pids in zip(self.mib, self.sides)]


def timed(move, source, target, sides):
    """Seconds, CPU seconds and memory of both sides, bytes on the wire. cpu_s: control threads, and
    cores while they were busy; idle_s: while cores polled and found nothing."""
    def used():
        return [[program.used() for program in side] for side in sides]
    before, wire, peak = used(), wire_bytes(target.pid), Peak(sides)
    began = time.monotonic()
    try:
        move()
        took = time.monotonic() - began
    finally:
        memory = peak.close()
    cpu, idle = [], []
    for was, now in zip(before, used()):
        spent = [[b - a for a, b in zip(one, other)] for one, other in zip(was, now)]
        cpu.append(sum(control + min(workers, busy) for control, workers, busy in spent))
        idle.append(sum(max(workers - busy, 0) for _, workers, busy in spent))
    return {"s": took, "cpu_s": cpu, "idle_s": idle, "own_mib": memory,
            "wire": wire_bytes(target.pid) - wire}
