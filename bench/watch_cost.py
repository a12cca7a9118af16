# SPDX-License-Identifier: BSD-3-Clause
"""What looking on costs: one guest hops between two daemons of this host, by turns looked at and
not, compressed, so that a hop takes some seconds. Looked at: metrics of both daemons are scraped
once a second, the migration is recorded, its picture is drawn on a terminal, and another program
follows its events. Each hop's figure is the speed of pass 0 into memory that was populated
before."""

import http.client
import json
import os
import pathlib
import pty
import random
import socket
import statistics
import subprocess
import tempfile
import threading
import time

from idle_tib import Failed, wait_for

SCRAPE_S = 1.0
DEADLINE_S = 120


class Unix(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=10)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)


class Bench:
    def __init__(self, build, folder, mib):
        self.build, self.folder, self.mib = build, folder, mib
        self.cli = build / "control" / "godwit"
        self.started, self.ports, self.hops = [], {}, 0
        cpus = sorted(os.sched_getaffinity(0))
        for number, side in enumerate(("here", "there")):
            self.start(side, build / "control" / "godwitd", "--insecure", "--listen",
                       "127.0.0.1:0", "--api", folder / f"{side}.api", "--state-dir",
                       folder / f"{side}.state", "--cores", cpus[number % len(cpus)],
                       "--metrics", folder / f"{side}.metrics")
            wait_for("godwitd", folder / f"{side}.api", self.started[-1])
            status = self.ask("status", "--json", "--api", folder / f"{side}.api")
            self.ports[side] = json.loads(status)["daemon"]["port"]
        self.daemons = [process.pid for process in self.started]
        self.agent = self.vm("first", "--rate", "1")

    def start(self, name, *args):
        with open(self.folder / f"{name}.log", "w") as log:
            self.started.append(subprocess.Popen([str(a) for a in args], stdout=log, stderr=log,
                                                 stdin=subprocess.DEVNULL))
        return self.started[-1]

    def vm(self, name, *args):
        agent = self.folder / f"{name}.agent"
        process = self.start(name, self.build / "kvm" / "vm" / "godwit-vm", "--soft", "--memory",
                             f"{self.mib}M", "--agent", agent, *args)
        wait_for("godwit-vm", agent, process)
        return agent

    def ask(self, *args):
        done = subprocess.run([str(a) for a in (self.cli, *args)], capture_output=True, text=True)
        if done.returncode != 0:
            raise Failed(f"godwit {args[0]}: {done.stderr.strip()}")
        return done.stdout

    def close(self):
        for process in self.started:
            process.kill()
            process.wait()

    def control_s(self):
        """CPU seconds of both daemons' control threads; cores that move pages are not in it."""
        return sum(int(pathlib.Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[0])
                   for pid in self.daemons) / 1e9

    def hop(self, looked_at):
        """Pages a second of pass 0; CPU seconds that control threads and those who look used, for
        each second of the whole."""
        sides = ("here", "there") if self.hops % 2 == 0 else ("there", "here")
        self.hops += 1
        name = f"hop{self.hops}"
        source, target = (self.folder / f"{side}.api" for side in sides)
        agent = self.vm(name, "--incoming")
        self.ask("receive", name, "--agent", agent, "--reserve", "populate", "--detach", "--api",
                 target)
        before = self.control_s() + children_s()
        migrate = ("migrate", name, "--agent", self.agent, "--to",
                   f"127.0.0.1:{self.ports[sides[1]]}", "--codec", "deflate:1", "--api", source)
        if looked_at:
            self.watched(name, migrate, source)
        else:
            self.ask(*migrate, "--detach")
        report = self.ended(name, source)
        control = (self.control_s() + children_s() - before) / (report["total_ms"] / 1e3)
        self.agent = agent
        first = report["passes_detail"][0]
        return first["pages"] / first["ms"] * 1e3, control

    def watched(self, name, migrate, source):
        master, slave = pty.openpty()
        shown = subprocess.Popen(
            [str(a) for a in (self.cli, *migrate, "--record", self.folder / name)], stdout=slave,
            stderr=slave, stdin=subprocess.DEVNULL)
        os.close(slave)
        over = threading.Event()
        threads = [threading.Thread(target=drain, args=(master,)),
                   threading.Thread(target=self.scrape, args=(over,))]
        for thread in threads:
            thread.start()
        follow = None
        try:
            follow = subprocess.Popen([str(a) for a in (self.cli, "watch", name, "--json", "--api",
                                                        source)],
                                      stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            shown.wait(DEADLINE_S)
        finally:
            over.set()
            shown.kill()
            shown.wait()
            if follow:
                follow.kill()
                follow.wait()
            for thread in threads:
                thread.join()
            os.close(master)

    def scrape(self, over):
        while not over.wait(SCRAPE_S):
            for side in self.ports:
                asked = Unix(self.folder / f"{side}.metrics")
                asked.request("GET", "/metrics")
                asked.getresponse().read()
                asked.close()

    def ended(self, name, source):
        end = time.monotonic() + DEADLINE_S
        while time.monotonic() < end:
            time.sleep(0.5)
            session = json.loads(self.ask("status", name, "--json", "--api", source))["session"]
            if session["state"] == "ended":
                if session["result"] != "done":
                    raise Failed(f"the migration ended as {session['result']}: "
                                 f"{session['error']}")
                return session["report"]
        raise Failed("the migration did not end")


def children_s():
    """CPU seconds of programs that were run and have ended."""
    times = os.times()
    return times.children_user + times.children_system


def drain(fd):
    try:
        while os.read(fd, 65536):
            pass
    except OSError:
        pass  # the other end is closed


def measure(build, rounds, mib):
    with tempfile.TemporaryDirectory(prefix="godwit-bars-") as folder:
        bench = Bench(pathlib.Path(build), pathlib.Path(folder), mib)
        try:
            bench.hop(False)  # first content of everybody's caches
            bench.hop(False)
            ratios, plain, control = [], [], {True: [], False: []}
            for _ in range(rounds):
                # Both ways with and without: a direction has its own speed. In random order.
                speed = {True: 0.0, False: 0.0}
                order = [True, True, False, False] if random.random() < 0.5 else \
                    [False, False, True, True]
                for looked_at in order:
                    pages_per_s, control_s = bench.hop(looked_at)
                    speed[looked_at] += 1 / pages_per_s
                    control[looked_at].append(control_s)
                ratios.append(speed[False] / speed[True])
                plain.append(2 / speed[False] * 4096 / 2**30)
            return ratios, {
                "plain_gib_per_s": round(statistics.median(plain), 2),
                "cpus_plain": round(statistics.median(control[False]), 4),
                "cpus_looked_at": round(statistics.median(control[True]), 4)}
        finally:
            bench.close()
