# SPDX-License-Identifier: BSD-3-Clause
"""The documents say what is there: docs.py [NAME=PROGRAM]...

 - every file or folder that a document names exists;
 - every .c and .h file of base, kvm, dataplane and control stands in ARCHITECTURE.md's map;
 - every `godwit SUB --option` in a document exists in that program's --help;
 - every planted bug is named by a test that HACKING.md says it is noticed by;
 - FAULTS.md is what tests/e2e/matrix.py makes of the table of stages."""

import os
import re
import subprocess
import sys

import tree

DOCS = [name for name in tree.files(".md") if "/" not in name] + tree.files(".scd")
HOUSE = ("base", "kvm", "dataplane", "control")
MAPPED = sorted({os.path.dirname(name) for name in tree.files(".c", ".h")
                 if name.split("/")[0] in HOUSE} - {"kvm/vm/test"})
NAMED = re.compile(r"`((?:base|kvm|dataplane|control|bench|tests|\.ci)/[\w./-]*|[A-Z]+\.md|"
                   r"(?:packages|meson_options)\.txt|\./(?:demo|check))`")
COMMAND = re.compile(r"^(?:[$#] |\s*)?(?:sudo )?(?:\./build/\S*/)?"
                     r"(godwit|godwitd|godwit-vm)(?= |$)(.*)$")
programs = dict(arg.split("=", 1) for arg in sys.argv[1:])
bad = []
checked = 0


def names_exist(doc):
    global checked
    for named in NAMED.findall(tree.text(doc)):
        if "NAME" in named:  # stands for a name
            continue
        checked += 1
        if not (tree.ROOT / named.removeprefix("./")).exists():
            bad.append(f"{doc}: {named} does not exist")


def map_is_whole():
    """ARCHITECTURE.md's block 'map': a line 'folder/', then lines 'stem stem   what they are'."""
    global checked
    folder, named = "", {}
    for line in re.search(r"^```map\n(.*?)^```", tree.text("ARCHITECTURE.md"), re.M | re.S)[1] \
            .splitlines():
        if line.startswith(" "):
            named.setdefault(folder, set()).update(re.split(" {2,}", line.strip())[0].split())
        else:
            folder = line.rstrip("/")
    for folder in MAPPED:
        there = {os.path.splitext(os.path.basename(name))[0] for name in tree.files(".c", ".h")
                 if os.path.dirname(name) == folder}
        checked += len(there)
        for stem in sorted(there ^ named.get(folder, set())):
            bad.append(f"ARCHITECTURE.md: {folder}/{stem} " +
                       ("is missing" if stem in there else "does not exist"))


def help_of(program, *sub):
    done = subprocess.run([program, *sub, "--help"], capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


def commands_exist(doc):
    """Lines of fenced blocks that call one of the programs."""
    global checked
    text = re.sub(r"\\\n\s*", " ", tree.text(doc))
    for kind, block in re.findall(r"^```(.*?)\n(.*?)^```", text, re.M | re.S):
        if kind == "map":  # names of files, not commands
            continue
        for line in block.splitlines():
            call = COMMAND.match(line)
            if not call or call[1] not in programs:
                continue
            checked += 1
            words = call[2].split("#")[0].split()
            helped = help_of(programs[call[1]])
            sub = next((w for w in words
                        if re.search(rf"^\s+{re.escape(w)}\b", helped, re.M)), None)
            if call[1] == "godwit":
                if not sub:
                    bad.append(f"{doc}: '{line.strip()}': no such sub-command")
                    continue
                helped += help_of(programs[call[1]], sub)
            for option in re.findall(r"--[a-z][a-z-]+", call[2]):
                if not re.search(rf"{option}\b(?!-)", helped):
                    bad.append(f"{doc}: '{line.strip()}': {option} is not in --help")


def planted_bugs_are_noticed():
    global checked
    rows = re.findall(r"^\| (\d+|rdma|nic) \| [^|]+ \| (`tests/.*) \|$",
                      tree.text("HACKING.md"), re.M)
    for name in re.findall(r"^\tPLANT_(\w+_\w+),", tree.text("base/plant.h"), re.M):
        law = name.split("_")[0].lower().removeprefix("law")
        names = "PLANT_" + name, name.lower().replace("_", "-")
        files = [file for row, told in rows if row == law for file in re.findall("`(.*?)`", told)]
        checked += 1
        if not any(said in tree.text(file) for file in files for said in names):
            bad.append(f"HACKING.md: no test of law {law} there plants PLANT_{name}")


def faults_are_written_down():
    global checked
    made = subprocess.run([sys.executable, tree.ROOT / "tests/e2e/matrix.py"],
                          capture_output=True, text=True, timeout=60, check=True).stdout
    checked += 1
    if made != tree.text("FAULTS.md"):
        bad.append("FAULTS.md is not up to date: run python3 tests/e2e/matrix.py >FAULTS.md")


for document in DOCS:
    names_exist(document)
    commands_exist(document)
map_is_whole()
planted_bugs_are_noticed()
faults_are_written_down()
tree.end(bad, checked)
