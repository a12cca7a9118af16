# SPDX-License-Identifier: BSD-3-Clause
"""Files stay small: above 400 lines a reason is needed, in sizes.txt. Lines stay below 101
columns (a tab counts 8), and no file ends without a newline or holds trailing blanks."""

import tree

MOST = 400
SOURCE = (".c", ".h", ".py", ".build", ".sh")
reasons = {}
for line in tree.text("tests/lint/sizes.txt").splitlines():
    if line.strip() and not line.startswith("#"):
        name, _, reason = line.partition(" ")
        reasons[name] = reason.strip()

names = tree.files()
bad = [f"sizes.txt: {name}: no reason given" for name, why in reasons.items() if not why]
for name in names:
    lines = tree.text(name).split("\n")
    if name.endswith(SOURCE):
        if len(lines) > MOST + 1 and name not in reasons:
            bad.append(f"{name}: {len(lines) - 1} lines; split it, or give a reason in sizes.txt")
        bad += [f"{name}:{n}: {len(line.expandtabs(8))} columns" for n, line in enumerate(lines, 1)
                if len(line.expandtabs(8)) > 100]
    if lines[-1]:
        bad.append(f"{name}: no newline at its end")
    bad += [f"{name}:{n}: trailing blanks" for n, line in enumerate(lines, 1)
            if line != line.rstrip()]
bad += [f"sizes.txt: {name} is gone or small again: drop the line" for name in reasons
        if name not in names or len(tree.text(name).split("\n")) <= MOST + 1]
tree.end(bad, len(names))
