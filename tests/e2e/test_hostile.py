# SPDX-License-Identifier: BSD-3-Clause
"""Crowds at the port, and a host that lacks things or moves under a daemon: files, disk, a clock, a
log. A migration that is under way goes on, or ends with a sentence; the daemon serves the next."""

import contextlib
import os
import random
import resource
import signal
import socket
import ssl
import subprocess
import threading
import time

import pytest

import godwit
import wire
from godwit import wait_until
from test_matrix_faults import holds

CONTROL_TLS = 3
SESSIONS = 64  # SESSION_MAX


def pair_of(stage, **how):
    return stage.source(**how), stage.target(**how), stage.vm(memory="16M"), \
        stage.waiting(memory="16M")


class Crowd:
    """Connections that get as far as speak() takes them, as fast as they can be made, for ever;
    from an address that is not the peer's: room is taken from the address that has most."""

    def __init__(self, daemon, speak, at_once=200):
        self.to = ("127.0.0.1", daemon.port)
        self.speak, self.at_once = speak, at_once
        self.made = 0
        self.over = False
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        socks = []
        while not self.over:
            try:
                sock = socket.create_connection(self.to, timeout=5,
                                                source_address=("127.0.0.2", 0))
                sock.setblocking(False)
                sock.sendall(self.speak(self.made))
                socks.append(sock)
                self.made += 1
            except OSError:
                pass
            if len(socks) > self.at_once:
                socks.pop(0).close()
        for sock in socks:
            sock.close()

    def close(self):
        self.over = True
        self.thread.join(60)


def half_a_handshake():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    come, go = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        context.wrap_bio(come, go).do_handshake()
    except ssl.SSLWantReadError:
        pass
    return go.read()


LONG = pytest.mark.long


@pytest.mark.parametrize("how", [pytest.param("silent", marks=LONG), "handshakes"])
def test_crowd_at_the_port(stage, how):
    """Thousands of half-open connections, some of which cost a handshake each: the target's files
    stay within its limits, and a migration goes through meanwhile."""
    source, target, vm, waiting = pair_of(stage)
    hello = half_a_handshake()
    files = holds(target)[0]
    crowd = Crowd(target, lambda n: b"" if how == "silent" else
                  wire.preamble(kind=CONTROL_TLS) + hello[:len(hello) - n % 2])
    try:
        wait_until("there is a crowd", lambda: crowd.made > 1000)
        vm.wait_ticks(1)
        stage.migrate(source, target, vm, waiting, "guest", "--verify", "memory", "--downtime",
                      "60s", "--flows", 1).done()
        waiting.wait_ticks(2)
        waiting.whole()
        assert holds(target)[0] < files + 64 + 64 + 32
    finally:
        crowd.close()
    wait_until("all of them are gone", lambda: holds(target)[0] <= files)


@pytest.mark.insecure
def test_crowd_that_says_no_hello(stage):
    source, target, vm, waiting = pair_of(stage)
    files = holds(target)[0]
    crowd = Crowd(target, lambda n: wire.preamble(), at_once=400)
    try:
        wait_until("there is a crowd", lambda: crowd.made > 1000)
        vm.wait_ticks(1)
        stage.migrate(source, target, vm, waiting, "guest", "--flows", 1, "--downtime",
                      "60s").done()
        waiting.wait_ticks(2)
        assert holds(target)[0] < files + 64 + 64 + 32
    finally:
        crowd.close()


def test_more_sessions_than_there_may_be(stage):
    """The limit is told, and what is there goes on."""
    target = stage.target()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as silent:
        path = stage.folder / "silent.agent"
        silent.bind(str(path))
        silent.listen(SESSIONS + 1)  # a VMM that never answers: its sessions stay
        for n in range(SESSIONS):
            target.ok("receive", f"guest{n}", "--agent", path, "--detach")
        said = target.fails("receive", "one-more", "--agent", path, "--detach")
        assert f"{SESSIONS} sessions are under way" in said
        assert target.ok("list").count("guest") == SESSIONS
        target.ok("cancel", "guest7")
        wait_until("there is room for another", lambda: target.run(
            "receive", "one-more", "--agent", path, "--detach").returncode == 0)


@pytest.mark.parametrize("side", ["source", pytest.param("target", marks=LONG)])
def test_few_files(stage, side):
    """Whatever can't be opened, at whatever moment: a sentence, and the guest stays."""
    source, target, vm, waiting = pair_of(stage)
    daemon = source if side == "source" else target
    vm.wait_ticks(1)
    least = resource.prlimit(daemon.popen.pid, resource.RLIMIT_NOFILE)
    before = holds(daemon)[0]
    moved = refusals = 0
    for more in range(0, 40, 3):  # with none left, the API has its own
        resource.prlimit(daemon.popen.pid, resource.RLIMIT_NOFILE, (before + more, least[1]))
        done = target.run("receive", f"guest{more}", *waiting.way, "--detach")
        if done.returncode == 0:
            done = source.run("migrate", f"guest{more}", *vm.way, "--to", target.address,
                              "--downtime", "60s", "--flows", 1, "--reconnect", 0, timeout=90)
        moved = done.returncode == 0
        if moved:
            break
        assert done.stderr.strip() and daemon.alive()
        refusals += 1
        vm.wait_ticks(1)
        resource.prlimit(daemon.popen.pid, resource.RLIMIT_NOFILE, least)
        target.run("cancel", f"guest{more}")
        wait_until("both have ended it", lambda name=f"guest{more}": all(
            (d.status(name) or {"state": "ended"})["state"] == "ended" for d in (source, target)))
    resource.prlimit(daemon.popen.pid, resource.RLIMIT_NOFILE, least)
    assert refusals, "the limit stood in nobody's way"
    if not moved:
        stage.moved(source, target, vm, memory="16M")
    else:
        waiting.wait_ticks(2)
        waiting.whole()


@pytest.fixture
def small_disk(tmp_path):
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", tmp_path],
                      capture_output=True).returncode != 0:
        pytest.skip("tmpfs can't be mounted here: not root")
    yield tmp_path
    subprocess.run(["umount", "-l", tmp_path], check=True)


def fill(folder):
    with open(folder / "filler", "wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            pass


@pytest.mark.parametrize("side,when", [
    ("source", "before"), pytest.param("target", "before", marks=LONG),
    ("source", "meanwhile"), pytest.param("target", "meanwhile", marks=LONG)])
def test_full_disk(stage, small_disk, side, when):
    """Where the journal can't be begun nothing is promised, and the guest stays. What comes later
    is written where its first record took the room."""
    at = {"source": ["--state-dir", small_disk]} if side == "source" else {}
    source = stage.source(args=at.get("source", ()))
    target = stage.target(args=() if at else ["--state-dir", small_disk])
    vm, waiting = stage.vm(memory="16M"), stage.waiting(memory="16M")
    vm.wait_ticks(1)
    if when == "before":
        fill(small_disk)
    migration = stage.migrate(source, target, vm, waiting, "guest", "--hold", "--downtime", "60s")
    if when == "meanwhile":
        source.wait_state("guest", "holding")
        fill(small_disk)
        source.ok("switch-now", "guest")
        migration.done()
        waiting.wait_ticks(2)
        waiting.whole()
        return
    end = migration.failed()
    assert end["result"] != "undecided" and "journal" in end["error"]
    vm.wait_ticks(2)
    vm.whole()
    assert not waiting.ticks(), "the guest ran on both sides"
    (small_disk / "filler").unlink()
    waiting.close()
    target.run("cancel", "guest")
    stage.moved(source, target, vm, memory="16M")


@contextlib.contextmanager
def mute(folder, **popen):
    """A source's daemon whose log nobody reads."""
    api = folder / "mute.api"
    daemon = subprocess.Popen(
        [godwit.GODWITD, "--listen", f"127.0.0.1:{godwit.free_port()}", "--api", api,
         "--state-dir", folder / "mute.state", "--cores", "0", "--idle", "yield", "--huge", "no",
         "--keys", godwit.keys_for("source"), "--allow", "*.test", "--log-level", "debug"], **popen)
    try:
        wait_until("it serves its API", api.exists)
        yield daemon, api
    finally:
        daemon.kill()
        daemon.wait()


def moved_from(stage, api):
    target, vm, waiting = stage.target(), stage.vm(memory="16M"), stage.waiting(memory="16M")
    vm.wait_ticks(1)
    target.ok("receive", "guest", *waiting.way, "--detach")
    done = subprocess.run([godwit.GODWIT, "migrate", "guest", *vm.way, "--to", target.address,
                           "--downtime", "60s", "--api", api], capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    waiting.wait_ticks(2)


def test_nobody_reads_the_log(stage):
    """Standard input, output and error are closed: no socket is taken for them."""
    def close_all():
        godwit.die_with_parent()
        for fd in range(3):
            os.close(fd)
    with mute(stage.folder, preexec_fn=close_all) as (daemon, api):
        standard = [os.readlink(f"/proc/{daemon.pid}/fd/{fd}") for fd in range(3)]
        assert standard == ["/dev/null"] * 3
        moved_from(stage, api)


def test_log_that_blocks(stage):
    """A pipe that nobody empties: lines are lost, and no guest waits for them."""
    full, end = os.pipe()
    os.set_blocking(end, False)
    try:
        while True:
            os.write(end, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(end, True)
    try:
        with mute(stage.folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=end,
                  preexec_fn=godwit.die_with_parent) as (_, api):
            moved_from(stage, api)
    finally:
        os.close(full)
        os.close(end)


@LONG
def test_signals_at_any_time(stage):
    """Stops, and signals that mean nothing here, at moments of their own choosing."""
    source, target, vm, waiting = pair_of(stage)
    dice = random.Random(3)
    vm.wait_ticks(1)
    migration = stage.migrate(source, target, vm, waiting, "guest", "--verify", "memory",
                              "--downtime", "60s", "--bandwidth", "8M")
    while migration.alive():
        party = dice.choice([source, target, vm, waiting])
        party.signal(dice.choice([signal.SIGSTOP, signal.SIGCHLD, signal.SIGWINCH, signal.SIGURG,
                                  signal.SIGPIPE if party in (source, target) else signal.SIGURG]))
        time.sleep(dice.random() * 0.02)
        party.thaw()
    migration.done()
    waiting.wait_ticks(2)
    waiting.whole()


def test_clock_jumps(stage):
    """The time of day is set back and forth by an hour, several times a second."""
    jump = godwit.BUILD / "tests/e2e/libjump.so"
    if b"libasan" in subprocess.run(["ldd", godwit.GODWITD], capture_output=True).stdout:
        pytest.skip("sanitizers must be the first library")
    before = os.environ.get("LD_PRELOAD")
    os.environ["LD_PRELOAD"] = str(jump)
    try:
        source, target = stage.source(), stage.target()
    finally:
        os.environ.pop("LD_PRELOAD")
        if before is not None:
            os.environ["LD_PRELOAD"] = before
    vm = stage.vm(memory="16M")
    stage.moved(source, target, vm, memory="16M")
    assert "reconnects" not in source.status("again")["report"]
    assert len({line[:13] for line in source.lines if line.startswith("2")}) > 1, \
        "the clock did not jump"
