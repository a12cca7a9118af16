# SPDX-License-Identifier: BSD-3-Clause
"""Runs in the virtual machine of test_service.py: service_inside.py PREFIX. What was installed
there becomes /usr/local; godwitd.service is started, and so is the same unit once more for the
target's host. A line for each case: `case NAME ok`, or `case NAME failed: WHY`."""

import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import traceback

import godwit
import machine
from godwit import wait_until

HERE = "127.0.0.1"
SHORT = {"source": "godwitd", "target": "godwitd-there"}


def run(*argv, fails=False):
    done = subprocess.run([str(a) for a in argv], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=120, check=False)
    assert fails or done.returncode == 0, f"{argv}: {done.stdout} {done.stderr}"
    return done.stdout


class Unit:
    """A godwitd that systemd runs; to a test it is a daemon."""

    def __init__(self, name):
        self.name = name
        self.unit = SHORT[name]
        self.folder = "godwit" if name == "source" else "godwit-there"
        self.api = f"/run/{self.folder}/api.sock"

    def ctl(self, verb, fails=False):
        return run("systemctl", verb, self.unit, fails=fails)

    def show(self):
        return dict(line.split("=", 1) for line in self.ctl("show").splitlines() if "=" in line)

    def is_up(self):
        shown = self.show()
        return (shown["ActiveState"], shown["SubState"]) == ("active", "running")

    @property
    def pid(self):
        return int(self.show()["MainPID"])

    def godwit(self, *argv, fails=False):
        return run("/usr/local/bin/godwit", *argv, "--api", self.api, fails=fails)


SOURCE, TARGET = Unit("source"), Unit("target")


def set_up(prefix):
    run("mount", "--bind", prefix, "/usr/local")
    unit = pathlib.Path("/usr/local/lib/systemd/system/godwitd.service").read_text()
    # Another host's: its own folders, configuration and port.
    there = re.sub(r"=godwit$", "=godwit-there", unit, flags=re.M)
    there = re.sub(r"^(ExecStart=.*)$", r"\1 --config /etc/godwit-there/godwit.conf", there,
                   flags=re.M)
    pathlib.Path("/etc/systemd/system/godwitd-there.service").write_text(there)
    keys = godwit.make_keys("/tmp/keys", f"source.test,{HERE}", f"target.test,{HERE}")
    for unit, port in ((SOURCE, 4646), (TARGET, 4747)):
        folder = pathlib.Path("/etc") / unit.folder
        folder.mkdir()
        run("cp", "-r", keys / f"{unit.name}.test", folder / "keys")
        folder.joinpath("godwit.conf").write_text(
            f"keys = {folder}/keys\nallow = *.test\nlisten = {HERE}:{port}\ncores = "
            f"{0 if unit is SOURCE else 1}\nidle = yield\nhuge = no\napi = {unit.api}\n"
            f"state-dir = /var/lib/{unit.folder}\n")
    run("systemctl", "daemon-reload")


def starts():
    """Type=notify: systemctl comes back when godwitd is ready, so it answers at once."""
    for unit in (SOURCE, TARGET):
        unit.ctl("start")
        shown = unit.show()
        assert unit.is_up() and shown["Type"] == "notify", shown
        assert "no migrations" in unit.godwit("list")
    assert pathlib.Path("/run/godwit").stat().st_mode & 0o777 == 0o755
    assert pathlib.Path("/var/lib/godwit").stat().st_mode & 0o777 == 0o700


def confined():
    status = pathlib.Path(f"/proc/{SOURCE.pid}/status").read_text()
    said = dict(re.findall(r"^(\w+):\s*(.*)$", status, re.M))
    assert (said["Seccomp"], said["NoNewPrivs"]) == ("2", "1"), said
    assert int(said["Seccomp_filters"]) > 1, "only one of the unit's filter and the daemon's own"
    mounts = pathlib.Path(f"/proc/{SOURCE.pid}/mounts").read_text()
    assert re.search(r"^\S+ / \S+ ro", mounts, re.M), mounts


def log_has_levels():
    """What the daemon says stands in the journal, with its priority and without its own time."""
    def said():
        return run("journalctl", "-u", "godwitd", "-o", "cat", "-p", "info..info", "--no-pager")
    line = wait_until("the log is in the journal", lambda: re.search(
        r"^.*ready on .*$", said(), re.M))[0]
    assert line.startswith("godwitd: "), line


def begin(here, there, name, *how):
    TARGET.godwit("receive", name, *there.way, "--detach")
    return godwit.Migration(SOURCE, name, here, f"{HERE}:4747", "--downtime", "60s", *how)


def guest(name, **how):
    return godwit.Vm(name, pathlib.Path("/tmp"), "soft", memory="16M", **how)


def software_guest_moves():
    vm, waiting = guest("here"), guest("there", incoming=True)
    vm.wait_ticks()
    report = begin(vm, waiting, "guest", "--verify", "memory").done()
    assert report["verified_pages"] > 0 and report["seal"].startswith("aes-256-gcm")
    waiting.wait_ticks()
    waiting.whole()
    waiting.close()


class Folder:
    """As much of a stage as machine.Machine wants."""
    count = 0
    folder = pathlib.Path("/tmp")
    children = []


def qemu_moves():
    """godwit-attach traces it, makes its userfaultfd, and opens its RAM."""
    here, there = machine.Machine(Folder), machine.Machine(Folder, incoming=True)
    begin(here, there, "qemu", "--verify", "memory").done()
    assert there.state() == "running"
    there.close()


def ended_by_a_signal():
    """kill -9 in the middle: the guest stays, systemd starts the daemon anew, and it moves."""
    vm, waiting = guest("stays"), guest("comes", incoming=True)
    vm.wait_ticks()
    begin(vm, waiting, "again", "--hold", "--reconnect", 0)
    wait_until("it holds", lambda: "holding" in SOURCE.godwit("status", "again", fails=True))
    before = SOURCE.pid
    os.kill(before, signal.SIGKILL)
    vm.wait_ticks()
    wait_until("it runs anew", lambda: SOURCE.is_up() and SOURCE.pid not in (0, before))
    assert SOURCE.show()["NRestarts"] == "1"
    assert "no migrations" in SOURCE.godwit("list")
    TARGET.godwit("cancel", "again", fails=True)
    waiting.close()
    waiting = guest("comes2", incoming=True)
    begin(vm, waiting, "third").done()
    waiting.wait_ticks()
    waiting.whole()
    waiting.close()


def stops():
    """A migration under way is cancelled, its guest runs on, nothing is left."""
    vm, waiting = guest("last"), guest("never", incoming=True)
    vm.wait_ticks()
    begin(vm, waiting, "fourth", "--hold")
    wait_until("it holds", lambda: "holding" in SOURCE.godwit("status", "fourth", fails=True))
    pid = SOURCE.pid
    SOURCE.ctl("stop")
    shown = SOURCE.show()
    assert (shown["ActiveState"], shown["Result"], shown["ExecMainStatus"]) == \
        ("inactive", "success", "0"), shown
    assert not pathlib.Path(f"/proc/{pid}").exists()
    assert not pathlib.Path("/run/godwit").exists()
    assert not list(pathlib.Path("/var/lib/godwit").glob("*.journal"))
    vm.wait_ticks()
    vm.whole()
    TARGET.ctl("stop")
    assert TARGET.show()["Result"] == "success"


def main():
    failed = 0
    set_up(sys.argv[1])
    for case in (starts, confined, log_has_levels, software_guest_moves, qemu_moves,
                 ended_by_a_signal, stops):
        began = time.monotonic()
        try:
            case()
            print(f"case {case.__name__} ok {time.monotonic() - began:.1f} s", flush=True)
        except Exception as why:  # pylint: disable=broad-except
            failed += 1
            traceback.print_exc(file=sys.stdout)
            print(f"case {case.__name__} failed: {why}", flush=True)
    if failed:
        for unit in (SOURCE, TARGET):
            print(run("systemctl", "status", unit.unit, "--no-pager", "-l", fails=True))
            print(run("journalctl", "-u", unit.unit, "-n", "60", "--no-pager", fails=True))
    return 1 if failed else 0


sys.exit(main())
