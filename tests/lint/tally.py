# SPDX-License-Identifier: BSD-3-Clause
"""The counting of ./check counts right: no failure is lost, each skip keeps its reason."""

import json
import pathlib
import subprocess
import sys
import tempfile

import tree

CMOCKA = """[==========] Running 3 test(s).
[ RUN      ] one
[       OK ] one
[ RUN      ] two
no huge pages here
[  SKIPPED ] two
[ RUN      ] three
[{} ] three
[==========] 3 test(s) run.
"""
bad = []
checked = 0


def counts(expected, meson=(), files=()):
    """What the tally's output must hold, for these meson tests and files."""
    global checked
    checked += 1
    with tempfile.TemporaryDirectory() as folder:
        results = pathlib.Path(folder)
        (results / "unit.testlog.json").write_text("".join(
            json.dumps({"name": name, "result": result, "stdout": out, "stderr": err}) + "\n"
            for name, result, out, err in meson))
        for name, text in files:
            (results / name).write_text(text)
        done = subprocess.run([sys.executable, str(tree.ROOT / ".ci/tally.py"), folder],
                              capture_output=True, text=True)
    lines = done.stdout.splitlines()
    for line in expected[:-1]:
        if line not in lines:
            bad.append(f"missing '{line}' in: {lines} {done.stderr[-200:]}")
    if not lines or lines[-1] != expected[-1]:
        bad.append(f"wanted the last line '{expected[-1]}', got: {lines} {done.stderr[-200:]}")
    if (done.returncode == 0) != (", 0 failed" in expected[-1] and expected[-1][0] != "0"):
        bad.append(f"exit code {done.returncode} with '{expected[-1]}'")


counts(["0 passed, 0 failed, 0 skipped"])
counts(["skipped: unit: b: no /dev/kvm", "1 passed, 0 failed, 1 skipped"],
       [("a", "OK", "fine", ""), ("b", "SKIP", "trying\nno /dev/kvm\n", "")])
counts(["skipped: unit: c: two: no huge pages here", "2 passed, 0 failed, 1 skipped"],
       [("c", "OK", CMOCKA.format("       OK"), "")])
counts(["failed: unit: c: three: see its log", "1 passed, 1 failed, 1 skipped"],
       [("c", "FAIL", CMOCKA.format("  FAILED "), "[  FAILED  ] three\n")])
# All cases are good, and then a sanitizer ends the program.
counts(["failed: unit: c: fail: leak", "2 passed, 1 failed, 1 skipped"],
       [("c", "FAIL", CMOCKA.format("       OK"), "leak\n")])
counts(["failed: unit: d: timeout: at work", "0 passed, 1 failed, 0 skipped"],
       [("d", "TIMEOUT", "at work", "")])
counts(["failed: unit: e: y: see its log", "skipped: unit: e: z: no kernel",
        "1 passed, 1 failed, 1 skipped"],
       [("e", "FAIL", "1..3\nok 1 - x\nnot ok 2 - y\nok 3 - z # SKIP no kernel\n", "")])
counts(["failed: build: it broke", "failed: e2e: t2: assert 1 == 2", "failed: e2e: t4: lost",
        "skipped: e2e: t3: no kvm", "1 passed, 3 failed, 1 skipped"],
       files=[("build.failed", "it broke\n"), ("e2e.junit.xml", """<testsuites><testsuite>
<testcase name="t1"/><testcase name="t2"><failure message="assert 1 == 2&#10;more"/></testcase>
<testcase name="t3"><skipped message="no kvm"/></testcase>
<testcase name="t4"><error message="lost"/></testcase></testsuite></testsuites>""")])
tree.end(bad, checked)
