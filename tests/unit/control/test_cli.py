# SPDX-License-Identifier: BSD-3-Clause
"""godwit and godwitd as programs, with stub sessions behind: test_cli.py GODWITD GODWIT"""

import fcntl
import json
import os
import pathlib
import pty
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import time
import unittest

GODWITD, GODWIT = sys.argv.pop(1), sys.argv.pop(1)
WAIT_S = 180  # for anything: a host may be busy


def daemon_env(**more):
    """The daemon may trace nobody, itself neither, which a search for leaks at its end would do."""
    return dict(os.environ, ASAN_OPTIONS="detect_leaks=0:" + os.environ.get("ASAN_OPTIONS", ""),
                **more)


class Daemon:
    """A godwitd that has said that it is ready."""

    def __init__(self, folder, *more):
        self.api = f"{folder}/api.sock"
        self.process = subprocess.Popen(
            [GODWITD, "--config", "/dev/null", "--listen", "127.0.0.1:0", "--api", self.api,
             "--state-dir", f"{folder}/state", "--insecure", *more],
            stderr=subprocess.PIPE, text=True, env=daemon_env())
        self.log = ""
        while "ready on" not in self.log:
            line = self.process.stderr.readline()
            if not line:
                raise RuntimeError("godwitd ended: " + self.log)
            self.log += line
        self.port = self.log.rsplit("ready on 127.0.0.1:", 1)[1].split(",")[0]

    def stop(self, sig=signal.SIGTERM):
        self.process.send_signal(sig)
        self.log += self.process.communicate(timeout=WAIT_S)[1]
        return self.process.returncode


def run(*args):
    return subprocess.run([GODWIT, *args], capture_output=True, text=True, timeout=WAIT_S)


def start(*args):
    """godwitd that is expected to end by itself."""
    return subprocess.run([GODWITD, *args], capture_output=True, text=True, timeout=WAIT_S)


class Cli(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="godwit-cli-")
        self.daemon = Daemon(self.folder.name)

    def tearDown(self):
        if self.daemon.process.poll() is None:
            self.assertEqual(self.daemon.stop(), 0, self.daemon.log)
        self.daemon.process.stderr.close()
        self.folder.cleanup()

    def godwit(self, *args):
        return run(*args, "--api", self.daemon.api)

    def migrate(self, name, *more):
        return self.godwit("migrate", name, "--agent", "/a.sock", "--to", "host", *more)

    def test_migrate_plain(self):
        done = self.migrate("web")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("web: pass 0 (live): 1520 pages to send", done.stdout)
        self.assertIn("web: pass 0 (live) ended: 1000 sent, 500 zero, 20 holes, 0 left out, "
                      "0.210 s", done.stdout)
        self.assertIn("web: done", done.stdout)
        self.assertIn("1000 sent, 500 zero, 20 made holes, ", done.stdout)
        self.assertIn("verified", done.stdout)
        self.assertIn("1520 pages identical", done.stdout)
        self.assertIn("kvm, writes seen by kvm-log, memory on 4 KiB pages", done.stdout)
        self.assertIn("this is a stub", done.stderr)
        self.assertNotIn("\r", done.stdout)
        self.assertNotIn("\033", done.stdout)

    def test_migrate_json(self):
        done = self.migrate("web", "--json")
        events = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual([e["event"] for e in events], ["state", "pass", "progress", "passed",
                                                        "log", "end"])
        self.assertEqual(events[-1]["report"]["pause_ms"], 21.5)

    def test_migrate_terminal(self):
        """The picture is rewritten in place, within the terminal's width, and stays at the end."""
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
        process = subprocess.Popen(
            [GODWIT, "migrate", "web", "--agent", "/a", "--to", "h:1", "--api", self.daemon.api],
            stdout=slave, stderr=subprocess.DEVNULL)
        self.assertEqual(process.wait(timeout=WAIT_S), 0)
        os.close(slave)
        text = os.read(master, 65536).decode()
        os.close(master)
        pictures = re.split(r"\033\[\d+A\r\033\[J", text)
        self.assertGreater(len(pictures), 3)
        self.assertTrue(any(" 50 % [####....]" in p for p in pictures), text)
        for ups, picture in zip(re.findall(r"\033\[(\d+)A", text), pictures):
            self.assertEqual(picture.count("\n"), int(ups))
            self.assertLess(max(map(len, picture.split("\r\n"))), 80)
        self.assertRegex(pictures[-1], r"web: .*\n.*\n +0 live +1520 +1000 +500 +20 +0 +0.210 s")
        self.assertIn("web: done", pictures[-1])

    def test_record(self):
        record = pathlib.Path(self.folder.name) / "record"
        self.assertEqual(self.migrate("web", "--record", record).returncode, 0)
        lines = [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines()]
        self.assertEqual([e["event"] for e in lines],
                         ["record", "state", "pass", "progress", "passed", "log", "end"])
        self.assertEqual((lines[0]["version"], lines[0]["name"]), (1, "web"))
        times = [e["t_ms"] for e in lines]
        self.assertEqual(times, sorted(times))

    def test_record_refused(self):
        """Nothing is begun for a record that can't be written, or that nothing would go into."""
        done = self.migrate("web", "--record", "/no-such-folder/record")
        self.assertEqual(done.returncode, 1)
        self.assertIn("/no-such-folder/record", done.stderr)
        self.assertEqual(self.migrate("web", "--record", "/tmp/x", "--detach").returncode, 2)
        self.assertEqual(self.godwit("status", "--record", "/tmp/x").returncode, 2)
        self.assertIn("no migrations", self.godwit("list").stdout)
        full = self.migrate("web", "--record", "/dev/full")
        self.assertEqual(full.returncode, 0)
        self.assertIn("not whole", full.stderr)

    def plot(self, text, *more, **env):
        record = pathlib.Path(self.folder.name) / "to plot"
        record.write_bytes(text)
        return subprocess.run([GODWIT, "plot", record, "--out", f"{self.folder.name}/out", *more],
                              capture_output=True, text=True, timeout=WAIT_S,
                              env=dict(os.environ, **env))

    def test_plot_refuses(self):
        """What is no whole record is refused with its line, and no gnuplot is a clear word."""
        head = b'{"event": "record", "version": 1, "name": "x"}\n'
        passed = b'{"event": "passed", "pass": 0, "ms": 1.0}\n'
        for text, why in (
                (b"", "nothing was copied"), (b"\0\n", ":1: no JSON"), (b"[1]\n", ":1: no JSON"),
                (b'{"event": "end"}\n', "no record of a migration"),
                (head.replace(b"1", b"2"), "version 2"), (head, "nothing was copied"),
                (head + b"{" * 100000 + b"\n", ":2: no JSON"),
                (head + b'{"event": "progress", "event": "end"}\n', ":2: no JSON"),
                (head + b'"' + b"x" * (1 << 20) + b'"\n', ":2: longer than")):
            done = self.plot(text)
            self.assertEqual(done.returncode, 1, text[:60])
            self.assertIn(why, done.stderr)
        self.assertIn("not installed", self.plot(head + passed, PATH="/nowhere").stderr)
        self.assertFalse(os.path.exists(f"{self.folder.name}/out.svg"))
        self.assertIn("no-such", run("plot", "/tmp/no-such-record").stderr)
        self.assertEqual(run("plot").returncode, 2)
        self.assertEqual(self.plot(head + passed, "--out", "/tmp/no-such/x").returncode, 1)

    def test_plot_of_the_pause(self):
        """It ends when the guest runs, not when all is written down. What gnuplot is told is looked
        at."""
        programs = pathlib.Path(self.folder.name, "programs")
        programs.mkdir()
        (programs / "gnuplot").symlink_to(shutil.which("cat"))
        events = [{"event": "record", "version": 1, "name": "x"},
                  {"event": "passed", "pass": 0, "ms": 1.0},
                  {"event": "stage", "stage": "commit", "ms": 5.0, "t_ms": 900.0},
                  {"event": "stage", "stage": "finish", "ms": 95.0, "t_ms": 995.0},
                  {"event": "end", "result": "done", "t_ms": 1000.0, "report": {"pause_ms": 100.0}}]
        done = self.plot("\n".join(map(json.dumps, events)).encode(), PATH=str(programs))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("rectangle from first 0.800000, graph 0 to first 0.900000, graph 1",
                      pathlib.Path(self.folder.name, "out.svg").read_text())

    @unittest.skipUnless(shutil.which("gnuplot"), "gnuplot is not installed")
    def test_plot_is_not_a_program(self):
        """Words of a record are words in the picture, whatever gnuplot would make of them."""
        evil = "'; system 'touch hurt' ; `touch hurt` \\n@x"
        events = [
            {"event": "record", "version": 1, "name": evil, "at": evil},
            {"event": "pass", "pass": evil, "t_ms": 1e300},
            {"event": "progress", "t_ms": -5, "pages_per_s": 1e308, "ratio": "nan",
             "cores": [{"cpu": evil, "scan": evil}, 7, None]},
            {"event": "passed", "pass": 1e300, "kind": evil, "ms": evil},
            {"event": "end", "result": evil, "t_ms": 1, "report": {"pause_ms": 1e300}}]
        done = self.plot("\n".join(map(json.dumps, events)).encode())
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertFalse(os.path.exists("hurt"))
        self.assertIn("touch hurt", pathlib.Path(self.folder.name, "out.svg").read_text())

    def test_status_watch(self):
        self.migrate("silent", "--detach")
        watch = subprocess.Popen([GODWIT, "status", "silent", "--watch", "--api", self.daemon.api],
                                 stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        time.sleep(0.2)
        self.assertEqual(self.godwit("cancel", "silent").returncode, 0)
        self.assertIn("silent: cancelled", watch.communicate(timeout=WAIT_S)[0])
        self.assertEqual(watch.returncode, 6)
        again = subprocess.Popen([GODWIT, "status", "--watch", "--json", "--api", self.daemon.api],
                                 stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for _ in range(2):
            self.assertEqual(json.loads(again.stdout.readline())["sessions"][0]["name"], "silent")
        again.kill()
        again.communicate()

    def test_exit_codes(self):
        for name, code in (("fails", 1), ("undecided", 3), ("refused", 5), ("cancelled", 6)):
            done = self.migrate(name)
            self.assertEqual(done.returncode, code, name)
            self.assertIn("the stub was told to", done.stderr)
        self.assertEqual(self.migrate("dry", "--dry-run").returncode, 0)
        # Only the daemon knows these to be wrong.
        for what, name, *how in (("migrate", "web", "--to", "h", "--codec", "foo"),
                                 ("migrate", "web", "--to", "h", "--codec", "zstd:77"),
                                 ("migrate", "web", "--to", "h:99999"),
                                 ("migrate", "web", "--to", ":4646"), ("receive", "a/b")):
            done = self.godwit(what, name, "--agent", "/a.sock", *how)
            self.assertEqual(done.returncode, 2, how)
            self.assertNotIn("--help", done.stderr)
            self.assertEqual(self.godwit("status", name).returncode, 2 if "/" in name else 1)
        self.assertEqual(run("migrate", "web").returncode, 2)
        self.assertEqual(run("fly").returncode, 2)
        self.assertEqual(run().returncode, 2)
        self.assertEqual(self.godwit("list", "--no-such").returncode, 2)
        gone = run("list", "--api", "/tmp/no-such-godwit.sock")
        self.assertEqual(gone.returncode, 4)
        self.assertIn("start it", gone.stderr)
        self.assertEqual(self.godwit("status", "nobody").returncode, 1)

    def test_detached(self):
        done = self.migrate("silent", "--detach", "--bandwidth", "1Gbit")
        self.assertEqual((done.returncode, done.stdout), (0,
                         "silent: begun; follow it with `godwit watch silent`\n"))
        self.assertIn("copying", self.godwit("status", "silent").stdout)
        self.assertIn("silent", self.godwit("list").stdout)
        self.assertIn("silent", self.godwit("status").stdout)
        status = json.loads(self.godwit("status", "silent", "--json").stdout)
        self.assertEqual(status["session"]["side"], "source")
        self.assertEqual(self.godwit("set", "silent", "--downtime", "1s").returncode, 0)
        self.assertEqual(self.godwit("begin", "silent").returncode, 0)
        self.assertEqual(self.godwit("set", "silent").returncode, 2)
        watch = subprocess.Popen([GODWIT, "watch", "silent", "--api", self.daemon.api],
                                 stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        time.sleep(0.2)
        self.assertEqual(self.godwit("cancel", "silent").returncode, 0)
        self.assertIn("silent: cancelled", watch.communicate(timeout=WAIT_S)[0])
        self.assertEqual(watch.returncode, 6)
        again = self.godwit("cancel", "silent")
        self.assertEqual(again.returncode, 1)
        self.assertIn("has ended", again.stderr)

    def test_receive_and_switch(self):
        self.assertEqual(self.godwit("receive", "silent", "--agent", "x", "--detach").returncode, 0)
        self.assertEqual(self.godwit("switch-now", "silent").returncode, 0)
        told = self.godwit("resolve", "undecided")
        self.assertIn("check:", told.stdout)
        self.assertIn("runs at the source",
                      self.godwit("resolve", "undecided", "--keep", "source").stdout)

    def test_journal(self):
        """Where standard error is the journal's stream, lines begin with priorities."""
        ours, theirs = os.pipe()
        there = os.fstat(theirs)
        daemon = subprocess.Popen(
            [GODWITD, "--config", "/dev/null", "--listen", "127.0.0.1:0", "--api",
             f"{self.folder.name}/j", "--state-dir", f"{self.folder.name}/js", "--insecure"],
            stderr=theirs, env=daemon_env(JOURNAL_STREAM=f"{there.st_dev}:{there.st_ino}"))
        os.close(theirs)
        with os.fdopen(ours) as lines:
            while "ready on" not in (line := lines.readline()):
                self.assertRegex(line, "^<[46]>godwitd: ")
            daemon.terminate()
            self.assertTrue(all(line.startswith("<6>") for line in lines))
        self.assertEqual(daemon.wait(timeout=WAIT_S), 0)

    def test_log_level(self):
        self.assertEqual(self.godwit("log").stdout, "level: info\n")
        self.assertEqual(self.godwit("log", "debug").stdout, "level: debug\n")
        self.assertEqual(self.godwit("cancel", "nobody").returncode, 1)  # told at debug
        self.assertEqual(self.godwit("log", "--level", "error").stdout, "level: error\n")
        self.migrate("fails")
        self.assertEqual(self.godwit("log", "loud").returncode, 2)
        self.daemon.stop()
        self.assertRegex(self.daemon.log, "(?s)level debug and above.*<debug> api: .*nobody.*"
                                          "only level error and above from now on\n$")

    def test_interrupt(self):
        process = subprocess.Popen(
            [GODWIT, "migrate", "silent", "--agent", "/a", "--to", "h:1", "--api",
             self.daemon.api], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        error = process.communicate(timeout=WAIT_S)[1]
        self.assertEqual(process.returncode, 130)
        self.assertIn("goes on", error)
        self.assertIn("copying", self.godwit("list").stdout)

    def test_daemon_leaves(self):
        process = subprocess.Popen(
            [GODWIT, "migrate", "silent", "--agent", "/a", "--to", "h:1", "--api",
             self.daemon.api], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        process.stdout.readline()
        self.daemon.process.kill()
        self.daemon.process.wait()
        self.assertIn("has left", process.communicate(timeout=WAIT_S)[1])
        self.assertEqual(process.returncode, 4)
        # A killed daemon leaves its socket; the next one takes its place.
        self.daemon.process.stderr.close()
        self.daemon = Daemon(self.folder.name)
        self.assertEqual(self.godwit("list").returncode, 0)

    def test_stop(self):
        self.migrate("silent", "--detach")
        self.assertEqual(self.daemon.stop(), 0)
        self.assertIn("told to end", self.daemon.log)
        self.assertFalse(pathlib.Path(self.daemon.api).exists())

    def test_start_errors(self):
        folder = self.folder.name
        mine = ["--config", "/dev/null", "--state-dir", f"{folder}/other", "--api",
                f"{folder}/other.sock", "--listen", "127.0.0.1:0", "--insecure"]
        cases = (
            (["--listen", f"127.0.0.1:{self.daemon.port}"], "is in use", 1),
            (["--api", self.daemon.api], "another godwitd answers", 1),
            (["--state-dir", f"{folder}/state"], "another godwitd holds", 1),
            (["--state-dir", "/proc/godwit"], "--state-dir", 1),
            (["--cores", "4000"], "is no list", 1),
            (["--huge", "yes"], "huge pages", 1),
            (["--api-mode", "rw"], "octal", 1),
            (["--api-group", "no-such-group"], "groupadd", 1),
            (["--idle", "never"], "auto|poll|yield", 2),
            (["--config", f"{folder}/none.conf"], "cannot read", 2),
        )
        for more, says, code in cases:
            done = start(*mine, *more)
            self.assertEqual(done.returncode, code, more)
            self.assertIn(says, done.stderr, more)

    def test_config_file(self):
        path = f"{self.folder.name}/godwit.conf"
        pathlib.Path(path).write_text("log-level = debug\nidle = often\n", encoding="utf-8")
        done = start("--config", path)
        self.assertEqual(done.returncode, 2)
        self.assertIn("godwit.conf:2: idle: 'often' is not one of", done.stderr)

    def test_ready_for_a_manager(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(f"{self.folder.name}/notify")
            manager.settimeout(WAIT_S)
            os.environ["NOTIFY_SOCKET"] = f"{self.folder.name}/notify"
            os.mkdir(f"{self.folder.name}/b")
            try:
                other = Daemon(f"{self.folder.name}/b")
            finally:
                del os.environ["NOTIFY_SOCKET"]
            self.assertEqual(manager.recv(64), b"READY=1")
            self.assertEqual(other.stop(), 0)
            other.process.stderr.close()

    def test_doctor(self):
        told = json.loads(self.godwit("doctor", "--json").stdout)
        rows = {row["subject"]: row for row in told["rows"]}
        self.assertIn("runs, version", rows["godwitd"]["text"])
        self.assertEqual(told["daemon"]["pid"], self.daemon.process.pid)
        for row in told["rows"]:
            self.assertIn(row["verdict"], ("note", "good", "advice", "problem"), row)
            self.assertTrue(row["cure"] or row["verdict"] in ("note", "good"), row)
        alone = run("doctor", "--api", "/tmp/no-such-godwit.sock")
        self.assertIn("does not run", alone.stdout)
        self.assertIn("network", alone.stdout)
        self.assertEqual(alone.returncode, 1 if told["problems"] else 0)

    def test_help_and_version(self):
        self.assertIn("migrate NAME", run("--help").stdout)
        self.assertIn("--on-timeout abort|pause", run("migrate", "--help").stdout)
        self.assertIn("--on-timeout", run("help", "migrate").stdout)
        self.assertEqual(run("help", "fly").returncode, 2)
        self.assertIn("--state-dir", start("--help").stdout)
        version = start("--version").stdout.split()[1]
        self.assertEqual(self.godwit("version").stdout, f"godwit {version}\ngodwitd {version}\n")


unittest.main()
