# SPDX-License-Identifier: BSD-3-Clause
"""The manual pages say what the programs do.

    test_manual.py GODWITD GODWIT GODWIT_VM KEEPER ATTACH [BENCH]

Every command, option, choice and default of --help stands in its page, and no page names an option
that is not there."""

import pathlib
import re
import subprocess
import sys
import unittest

GODWITD, GODWIT, *OTHERS = sys.argv[1:]
del sys.argv[1:]
BENCH = [path for path in OTHERS if path.endswith("godwit-bench")]
ROOT = pathlib.Path(__file__).resolve().parents[3]
CONTROL = pathlib.Path(__file__).resolve().parents[3] / "control"


def page(name):
    return (CONTROL / (name + ".scd")).read_text(encoding="utf-8")


def options(*command):
    """Option name: (what stands for its value, default or None), from --help."""
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = re.findall(r"^  --([a-z-]+) (\S*) *(.*?)$", text, re.M)
    return {name: (arg, (re.findall(r" \[(\S+)\](?: \(required\))?$", rest) or [None])[0])
            for name, arg, rest in rows}


def commands():
    text = subprocess.run([GODWIT, "help"], capture_output=True, text=True, check=True).stdout
    return re.findall(r"^  ([a-z-]+) ", text, re.M)


def entries(text, flag):
    """Term: its text, of a page's list of options or keys."""
    found = re.findall(rf"^\*{flag}([a-z0-9-]+)\*(.*)\n((?:\t.*\n)+)", text, re.M)
    return {name: head + " " + " ".join(body.split()) for name, head, body in found}


class Manual(unittest.TestCase):
    def compare(self, wanted, found):
        self.assertEqual(set(wanted), set(found))
        for name, (arg, default) in wanted.items():
            with self.subTest(name):
                for word in arg.split("|") if "|" in arg else []:
                    self.assertIn(word, found[name])
                if default is not None:
                    self.assertIn(default, found[name])

    def test_godwit(self):
        wanted = {}
        for command in commands():
            for name, (arg, default) in options(GODWIT, command, "--help").items():
                wanted[name] = (arg, default or wanted.get(name, (None, None))[1])
        self.compare(wanted, entries(page("godwit.1"), "--"))

    def test_commands(self):
        part = page("godwit.1").split("# COMMANDS")[1].split("# OPTIONS")[0]
        self.assertEqual(commands(), re.findall(r"^\*([a-z-]+)\*", part, re.M))
        self.assertGreater(len(commands()), 8)

    def test_godwitd(self):
        self.compare(options(GODWITD, "--help"), entries(page("godwitd.8"), "--"))

    def test_conf(self):
        keys = options(GODWITD, "--help")
        for flag in ("config", "version", "help"):
            del keys[flag]
        self.compare(keys, entries(page("godwit.conf.5").split("# PORTS")[0], ""))

    def test_ports(self):
        done = subprocess.run([GODWITD, "--help"], capture_output=True, text=True, check=True)
        rows = re.findall(r"^  ([a-z0-9-]+) (\S+) *(.*?)$", done.stdout.split("[port NAME]")[1],
                          re.M)
        wanted = {name: (arg, (re.findall(r" \[(\S+)\]$", rest) or [None])[0])
                  for name, arg, rest in rows}
        self.assertGreater(len(wanted), 8)
        self.compare(wanted, entries(page("godwit.conf.5").split("# PORTS")[1], ""))

    def test_vm(self):
        text = subprocess.run([OTHERS[0], "--help"], capture_output=True, text=True,
                              check=True).stdout
        wanted = {name: (arg, None) for name, arg in
                  re.findall(r"^  --([a-z-]+)(?: ([A-Z]+))?", text, re.M)} | {"version": ("", None)}
        found = entries((ROOT / "kvm/vm/godwit-vm.1.scd").read_text(encoding="utf-8"), "--")
        self.assertGreater(len(wanted), 20)
        self.compare(wanted, found)

    def test_bench(self):
        if not BENCH:
            self.skipTest("godwit-bench is not built for this CPU")
        wanted = options(*BENCH, "--help")
        self.assertGreater(len(wanted), 9)
        found = entries((ROOT / "bench/godwit-bench.1.scd").read_text(encoding="utf-8"), "--")
        self.compare(wanted, found)
        text = subprocess.run([*BENCH, "--help"], capture_output=True, text=True,
                              check=True).stdout
        for name, default in re.findall(r"^  --([a-z]+) .*\((\w+)\)$", text, re.M):
            self.assertIn(f"{default} by default", found[name])

    def test_every_program(self):
        """Each that is installed has a page, and says something to --help."""
        named = set()
        for file in ("control/meson.build", "kvm/vm/meson.build",
                     *(["bench/meson.build"] if BENCH else [])):
            text = (ROOT / file).read_text(encoding="utf-8")
            named |= {name for name, rest in re.findall(
                r"executable\('([\w-]+)',(.*?)\n(?=\S|\n)", text, re.S) if "install: true" in rest}
        self.assertEqual(named, {pathlib.Path(p).name.removesuffix("-stub")
                                 for p in (GODWITD, GODWIT, *OTHERS)})
        pages = {path.name.split(".")[0]: path for path in ROOT.glob("*/**/*.[18].scd")
                 if not str(path.relative_to(ROOT)).startswith("build")}
        self.assertEqual(named | {"godwit-bench"}, set(pages))
        for program in (GODWITD, GODWIT, *OTHERS):
            done = subprocess.run([program, "--help"], capture_output=True, text=True, check=True)
            self.assertIn("godwit", done.stdout)

    def test_exit_codes(self):
        header = (CONTROL / "cli/godwit_follow.h").read_text(encoding="utf-8")
        codes = re.findall(r"EXIT_\w+ = (\d+)", header)
        part = page("godwit.1").split("# EXIT STATUS")[1].split("# EVENTS")[0]
        self.assertEqual(re.findall(r"^\*(\d+)\*$", part, re.M), [*codes, "130"])


unittest.main()
