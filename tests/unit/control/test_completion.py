# SPDX-License-Identifier: BSD-3-Clause
"""The shells complete what --help lists: test_completion.py GODWITD GODWIT

Bash's function is called as bash calls it; zsh is a real one on a terminal."""

import os
import pathlib
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

GODWITD, GODWIT = (os.path.abspath(sys.argv.pop(1)) for _ in range(2))


def run(*argv, **how):
    return subprocess.run(argv, capture_output=True, text=True, timeout=180, check=True,
                          stdin=subprocess.DEVNULL, **how).stdout


def commands():
    return re.findall(r"^  ([a-z-]+) ", run(GODWIT, "help"), re.M)


def options(*command):
    """Option: what stands for its value."""
    return dict(re.findall(r"^  --([a-z-]+) (\S*)", run(*command, "--help"), re.M))


class Bash(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.script = self.folder / "script"
        self.script.write_text(run(GODWIT, "completion", "bash"), encoding="utf-8")
        (self.folder / "godwit").symlink_to(GODWIT)
        self.env = dict(os.environ, PATH=f"{self.folder}:{os.environ['PATH']}")

    def complete(self, *words, cwd=None):
        return run("bash", "--norc", "-uc", 'source "$0"; program=$1; COMP_WORDS=("$@"); '
                   'COMP_CWORD=$(($# - 1)); _$program; printf "%s\\n" "${COMPREPLY[@]}"',
                   self.script, *words, env=self.env, cwd=cwd).split()

    def test_commands(self):
        self.assertEqual(self.complete("godwit", ""), commands())
        self.assertEqual(self.complete("godwit", "sw"), ["switch-now"])
        self.assertEqual(self.complete("godwit", "help", "mig"), ["migrate"])

    def test_options(self):
        for command in commands():
            wanted = options(GODWIT, command)
            self.assertEqual(self.complete("godwit", command, "-"), [f"--{o}" for o in wanted])
            for name, value in wanted.items():
                if "|" in value:
                    self.assertEqual(self.complete("godwit", command, f"--{name}", ""),
                                     value.split("|"))
                    self.assertEqual(self.complete("godwit", command, f"--{name}", "="),
                                     value.split("|"))
        self.assertEqual(self.complete("godwit", "migrate", "--link", "=", "t"), ["tcp"])
        self.assertEqual(self.complete("godwit", "log", "w"), ["warning"])
        self.assertEqual(self.complete("godwit", "migrate", "--codec", "a"), ["auto"])
        self.assertEqual(self.complete("godwit", "migrate", "--codec", "de"), ["deflate:1"])

    def test_daemon(self):
        wanted = options(GODWITD)
        self.assertEqual(self.complete("godwitd", "--"), [f"--{o}" for o in wanted])
        self.assertEqual(self.complete("godwitd", "--log-level", "d"), ["debug"])

    def test_files(self):
        (self.folder / "a record").touch()
        for words in (["godwit", "plot", "a"], ["godwit", "migrate", "x", "--record", "a"],
                      ["godwitd", "--config", "a"]):
            self.assertEqual(" ".join(self.complete(*words, cwd=self.folder)), "a record")

    def test_migrations(self):
        """Names are asked of the daemon, with whatever stands there for godwit."""
        (self.folder / "godwit").unlink()
        (self.folder / "godwit").write_text("#!/bin/sh\necho NAME STATE\necho web ended\n")
        (self.folder / "godwit").chmod(0o755)
        self.assertEqual(self.complete("godwit", "cancel", ""), ["web"])
        self.assertEqual(self.complete("godwit", "migrate", ""), [])


@unittest.skipUnless(shutil.which("zsh"), "zsh is not installed")
class Zsh(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        (self.folder / "_godwit").write_text(run(GODWIT, "completion", "zsh"), encoding="utf-8")
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            os.execvpe("zsh", ["zsh", "-f", "-i"], dict(os.environ, TERM="dumb", PS1="ready> ",
                                                       ZDOTDIR=str(self.folder), COLUMNS="200"))
        self.send(f"cd {self.folder}; fpath=({self.folder} $fpath); autoload -Uz compinit; "
                  "compinit -u -D; unsetopt beep; LISTMAX=1000; print ok$((1+1))\n")
        self.wait("ok2")

    def tearDown(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.master)

    def send(self, text):
        os.write(self.master, text.encode())

    def wait(self, *words):
        text, end = "", time.monotonic() + 60
        while not all(word in text for word in words):
            self.assertLess(time.monotonic(), end, f"never saw all of {words!r} in {text!r}")
            if select.select([self.master], [], [], 1)[0]:
                text += os.read(self.master, 4096).decode(errors="replace")
        return text

    def test_syntax(self):
        run("zsh", "-n", self.folder / "_godwit")

    def test_completes(self):
        for typed, wanted in (("godwit switc", "godwit switch-now "),
                              ("godwit migrate x --li", "godwit migrate x --link="),
                              ("godwit migrate x --link=n", "godwit migrate x --link=nic "),
                              ("godwit migrate x --codec=z", "godwit migrate x --codec=zstd:1 "),
                              ("godwit log warn", "godwit log warning "),
                              ("godwitd --state", "godwitd --state-dir=")):
            self.send(typed + "\t")
            self.wait(wanted[len(typed):].strip())
            self.send("\x15")  # the line is thrown away

    def test_every_option(self):
        """Listed by _arguments, with what --help says of them."""
        for command in ("migrate", "status", "set"):
            self.send(f"godwit {command} x --\t\t")
            self.wait(*(f"--{name} " for name in options(GODWIT, command)))
            self.send("\x15")


unittest.main()
