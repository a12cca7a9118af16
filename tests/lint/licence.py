# SPDX-License-Identifier: BSD-3-Clause
"""Every file says its licence in its first lines, and every .c file opens with a comment."""

import tree

LINE = "SPDX-License-Identifier: BSD-3-Clause"
WITHOUT = {"LICENSE", ".gitignore", ".gitattributes"}  # no place for a comment, or none needed
DATA = (".md", ".json", ".txt.in", ".png", ".svg", ".bin")  # data and prose: LICENSE covers them

names = [name for name in tree.files() if name not in WITHOUT and not name.endswith(DATA)]
bad = []
for name in names:
    lines = tree.text(name).splitlines()
    if not any(LINE in line for line in lines[:2]):
        bad.append(f"{name}: no '{LINE}' in its first two lines")
    if name.endswith(".c") and not (len(lines) > 1 and lines[1].startswith(("//", "/*"))):
        bad.append(f"{name}: line 2 does not open the comment that says what the file is for")
tree.end(bad, len(names))
