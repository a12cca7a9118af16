# SPDX-License-Identifier: BSD-3-Clause
"""The programs under test, as objects: daemons, VMs, the command line. Each is a child that dies
with the test, whose lines are read by a thread, and whose log is kept for a failure's report."""

import atexit
import contextlib
import ctypes
import functools
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import wire
from ports import free_port

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / os.environ.get("GODWIT_BUILD", "build/release")
GODWIT = BUILD / "control/godwit"
GODWITD = BUILD / "control/godwitd"
GODWIT_VM = BUILD / "kvm/vm/godwit-vm"
PLANTED = {GODWITD: BUILD / "tests/e2e/godwitd-plant",
           GODWIT_VM: BUILD / "tests/e2e/godwit-vm-plant"}
PAGE = 4096
WAIT_S = wire.WAIT_S
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None, use_errno=True)


def die_with_parent():
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def program(path, plant):
    """How to start it; plant: with this bug. Its helpers stand beside it."""
    for helper in ("godwit-attach", "godwit-keeper") if plant else ():
        with contextlib.suppress(FileExistsError):
            (PLANTED[path].parent / helper).symlink_to(BUILD / "control" / helper)
    return ["env", f"GODWIT_PLANT={plant}", PLANTED[path]] if plant else [path]


@contextlib.contextmanager
def busy(count, cpu=0):
    """So many threads that want that CPU all the time."""
    spin = f"import os\nos.sched_setaffinity(0, [{cpu}])\nwhile True: pass"
    children = [subprocess.Popen([sys.executable, "-c", spin], stdin=subprocess.DEVNULL,
                                 preexec_fn=die_with_parent) for _ in range(count)]
    try:
        yield
    finally:
        for child in children:
            child.kill()
            child.wait()


def wait_until(what, condition, timeout=WAIT_S):
    """Polls until condition() is true, and returns what it returned."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"waited {timeout:g} s in vain: {what}")
        time.sleep(0.02)


def read_there(path):
    """A file of /proc, nothing where the thread or process that it tells of has ended."""
    try:
        return pathlib.Path(path).read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def files_of(pid):
    """Paths and names of what a process has open. It may close one while we look."""
    found = []
    for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append((fd, str(fd.readlink())))
    return found


def pages_of(vm):
    """Pages of the guest's RAM that hold something not found in every program."""
    data = vm.ram_file().read_bytes()
    pages = (data[at:at + PAGE] for at in range(0, len(data), PAGE))
    return [page for page in pages if len(set(page)) > 64]


def make_keys(folder, *hosts):
    subprocess.run([GODWIT, "keys", "--dir", folder, *hosts], check=True, capture_output=True,
                   preexec_fn=die_with_parent)
    return pathlib.Path(folder)


@functools.cache
def run_keys():
    """An authority and keys for the hosts of all tests of this run."""
    folder = tempfile.mkdtemp(prefix="gwkeys")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return make_keys(folder, "source.test,127.0.0.1,192.0.2.1",
                     "target.test,127.0.0.1,localhost,192.0.2.2")


def keys_for(name):
    return run_keys() / ("source.test" if name == "source" else "target.test")


class Child:
    """A process and the lines it prints (both streams, in order)."""

    def __init__(self, name, argv, **popen):
        self.name = name
        self.lines = []
        self.more = threading.Condition()
        # The option that sanitizers need not to end a child for what a library leaks at its end.
        env = dict(os.environ, ASAN_OPTIONS="detect_leaks=0:" + os.environ.get("ASAN_OPTIONS", ""))
        self.lines.append("$ " + " ".join(str(a) for a in argv))
        self.popen = subprocess.Popen(
            [str(a) for a in argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent, env=env, **dict({"stdin": subprocess.DEVNULL}, **popen))
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for raw in self.popen.stdout:
            with self.more:
                self.lines.append(raw.decode(errors="replace").rstrip("\r\n"))
                self.more.notify_all()
        code = self.popen.wait()
        with self.more:
            if code < 0:
                self.lines.append(f"(ended by signal {-code})")
            self.more.notify_all()

    def wait_line(self, pattern, since=0, timeout=WAIT_S):
        """The match of the first line from index since on."""
        found = re.compile(pattern)
        end = time.monotonic() + timeout
        with self.more:
            while True:
                for line in self.lines[since:]:
                    match = found.search(line)
                    if match:
                        return match
                since = len(self.lines)
                left = end - time.monotonic()
                if left <= 0 or (self.popen.poll() is not None and not self.reader.is_alive()):
                    raise AssertionError(
                        f"{self.name} never printed /{pattern}/; its last line: {self.lines[-1]}")
                self.more.wait(min(left, 0.2))

    def alive(self):
        return self.popen.poll() is None

    def wait(self, timeout=WAIT_S):
        try:
            code = self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} did not end within {timeout:g} s") from None
        self.reader.join(5)
        return code

    def signal(self, number):
        if self.alive():
            self.popen.send_signal(number)

    def freeze(self):
        """Returns when all threads stand still, which is some time after the signal."""
        self.signal(signal.SIGSTOP)
        tasks = pathlib.Path(f"/proc/{self.popen.pid}/task")
        wait_until(f"{self.name} stands still", lambda: not self.alive() or all(
            read_there(task / "stat").rsplit(")", 1)[-1].split()[:1] in ([], ["T"])
            for task in tasks.iterdir()))

    def thaw(self):
        self.signal(signal.SIGCONT)

    def kill(self):
        """kill -9, as the fault that a test plants."""
        self.signal(signal.SIGKILL)
        self.popen.wait()
        self.lines.append("(killed by the test)")

    def close(self):
        if self.alive():
            self.thaw()
            self.signal(signal.SIGTERM)
            try:
                self.popen.wait(5)
            except subprocess.TimeoutExpired:
                self.lines.append("(did not end when told to; killed)")
                self.popen.kill()
                self.popen.wait()
        self.reader.join(5)
        self.popen.stdout.close()


class Daemon(Child):
    """keys: the folder of a host's, made by keys_for(); None: insecure. ports: sections of its
    configuration file. exe: another file of the program. netns: a network namespace, in which it
    has the address host. before: what starts it."""

    def __init__(self, name, folder, cores="0", port=None, args=(), ready=True, keys=None,
                 allow="*.test", plant=None, ports="", netns=None, host="127.0.0.1",
                 exe=None, before=()):
        self.api = folder / f"{name}.api"
        self.state = folder / f"{name}.state"
        self.port = port or free_port()
        self.host = host
        self.config = folder / f"{name}.conf"
        self.config.write_text(ports, encoding="utf-8")
        super().__init__(name, [
            *(["ip", "netns", "exec", netns] if netns else []), *before,
            *program(exe or GODWITD, plant), "--config", self.config,
            "--listen", f"{host}:{self.port}", "--api", self.api, "--state-dir", self.state,
            "--cores", cores, "--idle", "yield", "--log-level", "debug",
            # Huge pages are for the test that reserved them; others run beside it.
            *([] if "--huge" in args else ["--huge", "no"]),
            *(["--insecure"] if keys is None else ["--keys", keys, "--allow", allow]), *args])
        if ready:
            self.wait_line("ready on ")
            wait_until(f"{name} serves its API", self.serves)

    @property
    def address(self):
        return f"{self.host}:{self.port}"

    def serves(self):
        if not self.alive():
            self.reader.join(5)
            raise AssertionError(f"{self.name} ended at its start: {self.lines[-1]}")
        with socket.socket(socket.AF_UNIX) as s:
            try:
                s.connect(str(self.api))
            except OSError:
                return False
        return True

    def child_of(self, name):
        """The process of that name which the daemon has started."""
        found = []
        for path in pathlib.Path(f"/proc/{self.popen.pid}/task").glob("*/children"):
            for pid in read_there(path).split():
                if read_there(f"/proc/{pid}/comm").strip() == name:
                    found.append(int(pid))
        assert len(found) == 1, f"{name}: {found}"
        return found[0]

    def run(self, command, *args, timeout=WAIT_S, api=True):
        """A godwit command that ends by itself: its exit code, output and errors."""
        done = subprocess.run([str(a) for a in (GODWIT, command, *args,
                                                *(["--api", self.api] if api else []))],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=timeout, preexec_fn=die_with_parent)
        self.lines.append(f"$ godwit {command} {' '.join(map(str, args))}: {done.returncode} "
                          f"{done.stdout.strip()[:200]} {done.stderr.strip()[:400]}")
        return done

    def ok(self, command, *args):
        done = self.run(command, *args)
        assert done.returncode == 0, f"godwit {command}: {done.stderr or done.stdout}"
        return done.stdout

    def fails(self, command, *args, **how):
        """The sentence of a command that must fail."""
        done = self.run(command, *args, **how)
        assert done.returncode != 0, f"godwit {command} did not fail: {done.stdout}"
        assert done.stderr.strip(), f"godwit {command} failed without a word"
        return done.stderr.strip()

    def ask(self, **request):
        """What the API answers (PROTOCOL.md, part 4), or None where the daemon has gone. Without a
        process of its own: tests look many times a second."""
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(WAIT_S)
            try:
                s.connect(str(self.api))
                s.sendall(wire.message(request))
                answer = wire.receive_message(s)
            except (ConnectionError, FileNotFoundError):
                return None
        return answer and answer[1]

    def status(self, name):
        """The session as the API tells it, or None."""
        return (self.ask(do="status", name=name) or {}).get("session")

    def wait_state(self, name, *states):
        """Waits until the session is in one of the states, or in the stage of that name."""
        def there():
            status = self.status(name)
            return status and (status["state"] in states or status["stage"] in states) and status
        return wait_until(f"{self.name}: session {name} is {' or '.join(states)}", there)


class Migration(Child):
    """godwit migrate --json, in the background."""

    def __init__(self, daemon, name, vm, to, *args):
        self.daemon = daemon
        self.session = name
        super().__init__(f"migrate {name}", [
            GODWIT, "migrate", name, *vm.way, "--to", to, "--api", daemon.api,
            "--json", *args])

    def events(self):
        found = []
        for line in list(self.lines):
            if line.startswith("{"):
                found.append(json.loads(line))
        return found

    def end(self, timeout=2 * WAIT_S):
        """The final event."""
        self.code = self.wait(timeout)
        ends = [e for e in self.events() if e.get("event") == "end"]
        assert ends, f"migrate ended without its final event: {self.lines[-1]}"
        return ends[-1]

    def done(self):
        end = self.end()
        assert end["result"] == "done", f"migration {end['result']}: {end['error']}"
        assert self.code == 0
        return end["report"]

    def failed(self):
        end = self.end()
        assert end["result"] != "done", "the migration went well, which it must not"
        assert self.code != 0
        return end


class Vm(Child):
    """godwit-vm: a guest, or one that awaits a guest."""

    def __init__(self, name, folder, kind, memory="64M", incoming=False, args=(), plant=None):
        self.agent = folder / f"{name}.agent"
        super().__init__(name, [
            *program(GODWIT_VM, plant), "--" + kind, "--memory", memory, "--agent", self.agent,
            "--name", name,
            *(["--incoming"] if incoming else []), *args])
        self.wait_line(r"^state (running|incoming)$")  # its agent listens by then

    @property
    def way(self):
        """How Godwit reaches it."""
        return ["--agent", self.agent]

    def ram_file(self):
        for fd, name in files_of(self.popen.pid):
            if "memfd:godwit-ram" in name:
                return fd
        raise AssertionError(f"{self.name} has no RAM file")

    def ticks(self):
        return [int(line.split()[1]) for line in list(self.lines) if re.match(r"tick \d+", line)]

    def wait_ticks(self, more=2):
        """Waits until the guest has ticked some more; returns the last tick."""
        before = len(self.ticks())
        wait_until(f"{self.name} ticks", lambda: len(self.ticks()) >= before + more or
                   not self.alive())
        assert self.alive(), f"{self.name} ended: {self.lines[-1]}"
        return self.ticks()[-1]

    def check(self):
        """The guest looks at all of its pages; returns how many are good."""
        since = len(self.lines)
        self.signal(signal.SIGUSR1)
        found = self.wait_line(r"check: (\d+) pages ok, (\d+) bad", since)
        assert int(found[2]) == 0, f"{self.name}: {found[0]}"
        return int(found[1])

    def whole(self):
        """Ticks only went forward, no page was torn, and the memory is good."""
        ticks = self.ticks()
        assert ticks == sorted(ticks), f"{self.name}: its heartbeat went back"
        torn = [line for line in self.lines if "TORN" in line]
        assert not torn, f"{self.name}: {torn[0]}"
        if self.alive():
            assert self.check() > 0
