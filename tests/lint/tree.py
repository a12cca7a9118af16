# SPDX-License-Identifier: BSD-3-Clause
"""What the lint tests share: the project's files, and how a test ends."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]


def files(*suffixes):
    """Files of the project (those git knows; without git, all but build folders), as paths below
    ROOT, whose names end in one of the suffixes (none given: all)."""
    try:
        out = subprocess.run(
            ["git", "-c", "safe.directory=*", "ls-files", "-z"],
            cwd=ROOT, check=True, capture_output=True).stdout
        names = [name for name in out.decode().split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        names = []
        for folder, folders, plain in os.walk(ROOT):
            folders[:] = [f for f in folders if f != ".git" and not f.startswith("build")]
            names += [os.path.relpath(os.path.join(folder, name), ROOT) for name in plain]
    return sorted(name for name in names
                  if name.endswith(suffixes or ("",)) and (ROOT / name).is_file())


def text(name):
    return (ROOT / name).read_text(encoding="utf-8", errors="replace")


def end(complaints, checked):
    """Prints the complaints and ends the test."""
    for complaint in complaints:
        print(complaint)
    if not checked:
        print("nothing was checked")
    print(f"{checked} checked, {len(complaints)} complaints")
    sys.exit(1 if complaints or not checked else 0)


def skip(reason):
    print(reason)
    sys.exit(77)
