# SPDX-License-Identifier: BSD-3-Clause
"""Which faults there are at which stages, and whose the guest is afterwards: made from the table of
stages in control/session/stage.c and a few rules. test_matrix_faults.py plays it, and
`python3 tests/e2e/matrix.py >FAULTS.md` writes it down."""

import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]
TABLE = re.search(r"stage_table\[\] = \{(.*?)\n\};", (ROOT / "control/session/stage.c").read_text(
    encoding="utf-8"), re.S)[1]
ROWS = re.findall(r'\{"(\w+)", SESSION_\w+, \w+, (\w+),', TABLE)
STAGES = [name for name, _ in ROWS]
ASKED = {name for name, target in ROWS if target != "NULL"} | {"hello"}  # of the target

PARTIES = ["source daemon", "target daemon", "source VMM", "target VMM"]
FAULTS = [f"{what} {who}" for what in ("kill", "stop") for who in PARTIES] + [
    "control cut", "flow cut"] + [
    f"{message} {what}" for message in ("request", "answer") for what in ("lost", "twice", "late")]

# Whose the guest is.
SOURCE, TARGET = "source", "target"
OPERATOR = "operator"  # it runs nowhere, or at the target; the source is undecided, and says so
LOST = "its VMM died"  # with the process that ran it
EITHER = "source or target"
MEANING = {
    SOURCE: "the guest runs on at the source, the migration has failed and can be tried again",
    TARGET: "the guest runs at the target, the migration is done",
    EITHER: "one of these, by who was faster",
    OPERATOR: "the source is undecided: its guest is fenced, `godwit resolve` says what to check",
    LOST: "the process that ran the guest was killed; nothing comes to life elsewhere",
}


def after(stage, other):
    return STAGES.index(stage) > STAGES.index(other)


def by_message(stage, fault):
    message, what = fault.split()
    if stage not in ASKED:
        return None
    if what == "late":
        return TARGET
    if what == "lost":  # as TCP loses messages: with all that would follow
        if stage == "commit":
            return OPERATOR
        return TARGET if after(stage, "flows") and not after(stage, "verify") else SOURCE
    if stage == "commit":  # nothing that comes after it undoes it
        return TARGET
    # The answer to load is followed by the commit: a second one may come before that goes out.
    return EITHER if (stage, message) == ("load", "answer") else SOURCE


def expected(stage, fault):
    """Whose the guest is after a fault that comes when the source is about to begin a stage, or for
    messages, at its request or its answer; None: there is no such fault."""
    gone = after(stage, "commit")  # the target has said that it runs the guest
    what, _, who = fault.partition(" ")
    if what in ("request", "answer"):
        return by_message(stage, fault)
    if what == "stop":
        return TARGET
    if fault == "kill source daemon":
        return OPERATOR if gone else SOURCE
    if fault == "kill target daemon":
        return TARGET if gone else SOURCE
    if fault == "kill source VMM":
        return TARGET if gone else LOST
    if fault == "kill target VMM":
        return LOST if gone else SOURCE
    # There is none yet.
    if not after(stage, "flows" if fault == "flow cut" else "hello"):
        return None
    # The network. It is waited for while pages are copied.
    if gone or (after(stage, "flows") and not after(stage, "verify")):
        return TARGET
    if stage == "commit" and fault == "flow cut":
        return TARGET  # they are not needed any more
    return SOURCE


CELLS = [(stage, fault) for stage in STAGES for fault in FAULTS
         if expected(stage, fault) is not None]
# Which of them belong to each run of the tests: all that touch the commit but a mere stop, and of
# the others some of each row and of each column.
SHORT = {(stage, fault) for n, (stage, fault) in enumerate(CELLS)
         if (stage == "commit" and not fault.startswith("stop")) or
         (stage in ("load", "finish") and fault.startswith("kill")) or n % 11 == 6}


def table():
    lines = [
        "# What becomes of the guest when something fails",
        "",
        "A fault when a stage is about to begin (`ARCHITECTURE.md` has the stages), or at its",
        "message between the daemons, and whose the guest is afterwards. Made by",
        "`tests/e2e/matrix.py`, played by `tests/e2e/test_matrix_faults.py`: all of it by",
        "`./check --long`, a part by `./check`. In each the guest's memory is checked, and both",
        "sides never run.",
        "",
    ]
    lines += [f"- **{what}**: {means}." for what, means in MEANING.items()]
    lines += [
        "",
        "*stop* is SIGSTOP for a second and a half; *lost* is a message that is swallowed with",
        "the connection, *late* one that comes a second and a half later. The network comes back",
        "at once.",
        "",
        "| stage | " + " | ".join(FAULTS) + " |",
        "|---" * (len(FAULTS) + 1) + "|",
    ]
    for stage in STAGES:
        cells = [expected(stage, fault) or "" for fault in FAULTS]
        lines.append("| " + " | ".join([stage, *cells]) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table(), end="")
