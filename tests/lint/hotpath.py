# SPDX-License-Identifier: BSD-3-Clause
"""Polling cores make no system call, take no lock, log and allocate nothing. This reads the
compiled objects of the data path, function by function, and complains about every symbol that code
on a polling core refers to and hotpath.txt does not allow. Data of the project is allowed.

Usage: hotpath.py ARCHIVE..."""

import collections
import fnmatch
import os
import pathlib
import re
import subprocess
import sys

import tree

LIST = pathlib.Path(__file__).with_name("hotpath.txt")
OBJECT = re.compile(r"^(\S+\.o):\s+file format")
FUNCTION = re.compile(r"^[0-9a-f]+ <([^>]+)>:$")
RELOCATION = re.compile(r"^\s+[0-9a-f]+: R_\S+\s+([A-Za-z_.][^\s+-]*)")
BRANCH = re.compile(r"\s(?:call|jmp|j[a-z]{1,3})\s+[0-9a-f]+ <([^>+]+)(?:\+0x[0-9a-f]+)?>")


def plain(symbol):
    """The name in the source: without what the compiler adds when it splits or clones."""
    return re.sub(r"\.(cold|part|constprop|isra|lto_priv)(\.\d+)*", "", symbol)


def read_list():
    """Three kinds of line, each with its reason: allow SYMBOL or allow FILE:SYMBOL, open
    FILE:FUNCTION, cold FILE. SYMBOL and the FILE of cold may be patterns."""
    rules = {"allow": [], "open": [], "cold": []}
    for number, line in enumerate(LIST.read_text().splitlines(), 1):
        words = line.split("#")[0].split()
        if not words:
            continue
        if len(words) != 2 or words[0] not in rules or "#" not in line:
            print(f"{LIST.name}:{number}: write: allow|open|cold NAME  # reason")
            sys.exit(1)
        rules[words[0]].append(words[1])
    return rules


# meson names the object of scan/zero.c scan_zero.c.o
SOURCES = {name.split("/", 1)[1].replace("/", "_"): os.path.basename(name)
           for name in tree.files(".c") if name.count("/") > 1}


def read_objects(archives):
    """file -> function -> symbols that it refers to."""
    refers = collections.defaultdict(lambda: collections.defaultdict(set))
    out = subprocess.run(["objdump", "-dr", "--no-show-raw-insn", *archives],
                         check=True, capture_output=True, text=True).stdout
    file = function = None
    for line in out.splitlines():
        if m := OBJECT.match(line):
            file = os.path.basename(m[1]).removesuffix(".o")
            file = SOURCES.get(file, file)
        elif m := FUNCTION.match(line):
            function = plain(m[1])
            refers[file][function].update()
        elif m := RELOCATION.match(line) or BRANCH.search(line):
            if function is not None and not m[1].startswith("."):
                refers[file][function].add(plain(m[1]))
    return refers


def read_data(archives):
    """Names of the project's variables and tables."""
    out = subprocess.run(["nm", "--defined-only", *archives],
                         check=True, capture_output=True, text=True).stdout
    words = [line.split() for line in out.splitlines()]
    return {w[2] for w in words if len(w) == 3 and w[1] in "bBdDrRsSvV"}


def matches(name, patterns):
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def main():
    rules = read_list()
    refers = read_objects(sys.argv[1:])
    data = read_data(sys.argv[1:])
    used = {s for functions in refers.values() for f in functions.values() for s in f}
    if any(s.startswith(("__asan_", "__ubsan_", "__tsan_")) for s in used):
        tree.skip("built with sanitizers, which call what they like: run in a build without")

    def is_open(file, function):
        return matches(file, rules["cold"]) or f"{file}:{function}" in rules["open"]

    owner = {}  # of the functions that the project defines
    for file, functions in refers.items():
        owner.update((function, file) for function in functions)
    complaints = []
    checked = 0
    sources = {os.path.basename(name): tree.text(name) for name in tree.files(".c")}
    for rule in rules["open"]:
        # In the sources, not in the objects: a small function may be inlined at some level.
        file, function = rule.split(":")
        if not re.search(rf"\b{re.escape(function)}\(", sources.get(file, "")):
            complaints.append(f"{LIST.name}: open {rule}: there is no such function; "
                              "remove the line")
    for file, functions in sorted(refers.items()):
        for function, symbols in sorted(functions.items()):
            if is_open(file, function):
                continue
            checked += 1
            for symbol in sorted(symbols):
                home = file if symbol in functions else owner.get(symbol)
                if home is not None and not is_open(home, symbol):
                    continue
                if symbol in data or matches(symbol, rules["allow"]) or matches(
                        f"{file}:{symbol}", rules["allow"]):
                    continue
                what = f"{symbol}() of {home}, which may block" if home else symbol
                complaints.append(
                    f"{file}: {function}() refers to {what}: a polling core may not; take it out, "
                    f"or list the function in {LIST.name} if no polling core runs it")
    tree.end(complaints, checked)


main()
