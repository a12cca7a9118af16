# SPDX-License-Identifier: BSD-3-Clause
"""Every C file is as clang-format 14 with the project's .clang-format writes it."""

import shutil
import subprocess

import tree

TOOL = shutil.which("clang-format-14")
if not TOOL:
    tree.skip("clang-format-14 is not installed: apt-get install clang-format-14")

names = tree.files(".c", ".h")
done = subprocess.run([TOOL, "--dry-run", "--Werror", "--style=file", *names],
                      cwd=tree.ROOT, capture_output=True, text=True)
bad = sorted({line.split(":")[0] for line in done.stderr.splitlines() if "error:" in line})
if done.returncode and not bad:
    bad = [done.stderr.strip()]
tree.end([f"{name}: run clang-format-14 -i {name}" for name in bad], len(names))
