# SPDX-License-Identifier: BSD-3-Clause
"""No marks of unfinished work, no paths that exist on one machine only, no conflict markers."""

import re

import tree

UNFINISHED = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b")
CONFLICT = re.compile(r"^(<{7}|={7}|>{7})( |$)", re.M)
# An absolute path: what stands before the slash is no part of a longer path or of a word.
PATH = re.compile(r"(?<![\w.)}\]/*$%@:<>~+-])/([a-z]+)/[\w.{$]")
# Folders that every Linux has.
ROOTS = {"bin", "boot", "dev", "etc", "lib", "opt", "proc", "run", "sbin", "sys", "tmp", "usr",
         "var", "path",
         "godwit"}  # no folder: commands of DPDK's telemetry

names = tree.files()
bad = []
for name in names:
    for n, line in enumerate(tree.text(name).splitlines(), 1):
        mark = UNFINISHED.search(line)
        if mark:
            bad.append(f"{name}:{n}: '{mark[0]}': finish it, or say what is so and why")
        for root in PATH.findall(line):
            if root not in ROOTS:
                bad.append(f"{name}:{n}: '/{root}/...' exists on some machines only")
        if CONFLICT.match(line):
            bad.append(f"{name}:{n}: a conflict marker")
tree.end(bad, len(names))
