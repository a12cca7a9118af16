#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Counts what ./check ran: tally.py DIR reads DIR/*.testlog.json (meson), DIR/*.junit.xml (pytest)
and DIR/*.failed (a step that could not run its tests: one sentence each). Prints each failure and
each skip with its reason, then one line: N passed, N failed, N skipped. Exit 1 on failures.

A meson test whose output is cmocka's or TAP counts its cases, any other counts as one."""

import json
import pathlib
import re
import sys
import xml.etree.ElementTree

CMOCKA_RUN = re.compile(r"^\[==========\] .*?(\d+) test\(s\) run\.$", re.M)
CMOCKA_BAD = re.compile(r"^\[  FAILED  \] (\S+)$", re.M)
CMOCKA_OK = re.compile(r"^\[       OK \] (\S+)$", re.M)
CMOCKA_SKIP = re.compile(r"^\[  SKIPPED \] ([A-Za-z_]\w*)$")
TAP = re.compile(r"^(not )?ok\b[ \d-]*([^#\n]*)(?:# *SKIP\S* *(.*))?$", re.M | re.I)


class Tally:
    def __init__(self):
        self.passed = 0
        self.failed = []
        self.skipped = []

    def meson(self, step, path):
        for line in path.read_text(errors="replace").splitlines():
            test = json.loads(line)
            name = f"{step}: {test['name']}"
            output = test.get("stdout", "") + "\n" + test.get("stderr", "")
            result = test["result"]
            if result == "SKIP":
                self.skipped.append((name, last_line(output)))
                continue
            bad = result not in ("OK", "EXPECTEDFAIL")
            if CMOCKA_RUN.search(output):
                found = self.cmocka(name, output)
            elif test.get("stdout", "").startswith(("1..", "ok ", "not ok ", "TAP version")):
                found = self.tap(name, test["stdout"])
            else:
                found = bad
                self.passed += not bad
            if bad and not found or bad and found is True:
                self.failed.append((name, f"{result.lower()}: {last_line(output)}"))

    def cmocka(self, name, output):
        """Counts the cases; returns how many failed."""
        failed = list(dict.fromkeys(CMOCKA_BAD.findall(output)))
        self.passed += len(CMOCKA_OK.findall(output))
        self.failed += [(f"{name}: {case}", "see its log") for case in failed]
        before = ""
        seen = set()
        for line in output.splitlines():
            skip = CMOCKA_SKIP.match(line)
            if skip and skip[1] not in seen:
                seen.add(skip[1])
                self.skipped.append((f"{name}: {skip[1]}", before or "no reason given"))
            if line.strip() and not line.startswith("["):
                before = line.strip()
        return len(failed)

    def tap(self, name, output):
        failed = 0
        for bad, case, skip in TAP.findall(output):
            if skip:
                self.skipped.append((f"{name}: {case.strip()}", skip))
            elif bad:
                self.failed.append((f"{name}: {case.strip()}", "see its log"))
                failed += 1
            else:
                self.passed += 1
        return failed

    def junit(self, step, path):
        for case in xml.etree.ElementTree.parse(path).iter("testcase"):
            name = f"{step}: {case.get('name')}"
            skip = case.find("skipped")
            bad = [b for b in (case.find("failure"), case.find("error")) if b is not None]
            if bad:
                self.failed.append((name, first_line(bad[0].get("message") or "")))
            elif skip is not None:
                self.skipped.append((name, first_line(skip.get("message") or "")))
            else:
                self.passed += 1


def last_line(text):
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "it printed nothing"


def first_line(text):
    return text.strip().splitlines()[0][:200] if text.strip() else "no reason given"


def main():
    results = pathlib.Path(sys.argv[1])
    tally = Tally()
    for path in sorted(results.iterdir()):
        step = path.name.split(".")[0]
        if path.name.endswith(".testlog.json"):
            tally.meson(step, path)
        elif path.name.endswith(".junit.xml"):
            tally.junit(step, path)
        elif path.name.endswith(".failed"):
            tally.failed.append((step, path.read_text().strip()))
    for name, why in tally.failed:
        print(f"failed: {name}: {why}")
    for name, why in tally.skipped:
        print(f"skipped: {name}: {why}")
    print(f"{tally.passed} passed, {len(tally.failed)} failed, {len(tally.skipped)} skipped")
    sys.exit(1 if tally.failed or not tally.passed else 0)


if __name__ == "__main__":
    main()
