# SPDX-License-Identifier: BSD-3-Clause
"""What a packager installs beside the programs: test_dist.py GODWITD UNIT [--write]

control/dist/godwit.conf names every key of the option table with its help and its default, all as
comments: it is derived from --help, and --write writes it anew. The systemd unit, whose built form
is UNIT, and the files for sysusers and tmpfiles are good in systemd's own eyes, and its score is
printed."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
import unittest

WRITE = "--write" in sys.argv and (sys.argv.remove("--write") or True)
GODWITD, UNIT = (os.path.abspath(sys.argv.pop(1)) for _ in range(2))
DIST = pathlib.Path(__file__).resolve().parents[3] / "control/dist"
FLAGS_ONLY = ("config", "version", "help")


def run(*argv, **how):
    return subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=180,
                          stdin=subprocess.DEVNULL, **how)


def rows(text, dashes):
    """(key, what stands for its value, help) as --help has them."""
    found = re.findall(rf"^  {dashes}([a-z0-9-]+) (\S*) *(.*?)$", text, re.M)
    return [row for row in found if not (dashes and row[0] in FLAGS_ONLY)]


def entry(key, arg, told):
    fallback = re.search(r" \[(\S+)\](?: \(required\))?$", told)
    if fallback and fallback[1] in ("none", "nobody"):  # a word for people, no value
        fallback = None
    value = fallback[1] if fallback else "no" if not arg else arg
    if fallback:
        told = told[:fallback.start()]
    if "|" in arg:
        told += f" ({arg})"
    comment = textwrap.wrap(told, 96, break_on_hyphens=False)
    return "\n".join(f"# {line}" for line in comment) + f"\n#{key} = {value}\n"


def sample(text):
    daemon, port = text.split("[port NAME]")
    return "\n".join(
        ["# SPDX-License-Identifier: BSD-3-Clause",
         "# Every key of godwitd with what it is where it is not set; godwit.conf(5) says more.\n",
         *(entry(*row) for row in rows(daemon, "--")),
         "# A network port that DPDK drives. Sections come after the daemon's own keys.",
         "#[port data0]\n", *(entry(*row) for row in rows(port, ""))])


def systemd(tool):
    if not shutil.which(tool):
        raise unittest.SkipTest(f"{tool} is not installed")
    return tool


class Dist(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

    def unit(self):
        """The unit as it is installed, but for where its program is."""
        path = self.folder / "godwitd.service"
        text = pathlib.Path(UNIT).read_text(encoding="utf-8")
        path.write_text(re.sub(r"^ExecStart=\S+", f"ExecStart={GODWITD}", text, flags=re.M),
                        encoding="utf-8")
        return path

    def test_conf(self):
        wanted = sample(run(GODWITD, "--help").stdout)
        path = DIST / "godwit.conf"
        if WRITE:
            path.write_text(wanted, encoding="utf-8")
        self.assertGreater(wanted.count("\n#"), 40)
        self.assertEqual(wanted, path.read_text(encoding="utf-8"),
                         "the option table says more: see --write")

    def test_conf_is_read(self):
        """With each comment taken away godwitd knows every key."""
        text = (DIST / "godwit.conf").read_text(encoding="utf-8")
        full = self.folder / "full.conf"
        for line in re.findall(r"^#([a-z][a-z0-9-]* = .*)$", text, re.M):
            port = text.index("#" + line) > text.index("#[port")
            full.write_text(("[port data0]\n" if port else "") + line + "\n", encoding="utf-8")
            done = run(GODWITD, "--config", full, "--insecure", "--allow", "x", "--state-dir",
                       self.folder / "state", "--listen", "127.0.0.1:0", "--api",
                       self.folder / "api")
            self.assertNotEqual(done.returncode, 0)  # insecure and allow contradict each other
            self.assertNotIn("unknown key", done.stderr, line)

    def test_unit(self):
        done = run(systemd("systemd-analyze"), "verify", "--man=no", self.unit())
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_security(self):
        done = run(systemd("systemd-analyze"), "security", "--offline=true", "--no-pager",
                   self.unit())
        score = re.search(r"exposure level for \S+: ([\d.]+)", done.stdout)
        self.assertTrue(score, done.stderr)
        print(f"systemd-analyze security: {score[1]} of 10, less is better")

    def test_capabilities(self):
        """The unit leaves the daemon those that it and what it starts keep."""
        kept = re.findall(r"^\t(CAP_\w+),", (DIST.parent / "confine.c").read_text(encoding="utf-8"),
                          re.M)
        words = re.findall(r"^CapabilityBoundingSet=(.*)$",
                           pathlib.Path(UNIT).read_text(encoding="utf-8"), re.M)
        self.assertEqual(sorted(set(kept)), sorted(" ".join(words).split()))

    def test_groups_and_folders(self):
        done = run(systemd("systemd-sysusers"), "--dry-run", DIST / "godwit.sysusers")
        self.assertEqual(done.returncode, 0, done.stderr)
        root = self.folder / "root"
        (root / "etc").mkdir(parents=True)
        (root / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
        (root / "etc/group").write_text("root:x:0:\n")
        if os.geteuid() != 0:
            self.skipTest("only root can make folders for root")
        done = run(systemd("systemd-tmpfiles"), "--create", f"--root={root}",
                   DIST / "godwit.tmpfiles")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual((root / "etc/godwit/keys").stat().st_mode & 0o777, 0o700)


unittest.main()
