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


def short(stage, fault):
    """What belongs to each run of the tests: all that touch the commit but a mere stop, the deaths
    of daemons from the first page on, those of VMMs at the end, and some of the rest."""
    if fault.startswith("stop"):
        return (stage, fault) == ("late", "stop source daemon")
    if stage == "commit" or fault.startswith("kill") and (
            after(stage, "verify") or "daemon" in fault and after(stage, "track")):
        return True
    return (STAGES.index(stage) + FAULTS.index(fault)) % 12 == 0


SHORT = {cell for cell in CELLS if short(*cell)}


WINDOW = """\
A guest that is paused does not wait long for its own QEMU: 10 s without an answer or a byte
more of the device state, which otherwise takes a part of a second, end the migration. (Only `stop`
itself has 30 s: it writes the guest's disks out, and QEMU resumes nothing before that.) The guest
runs on, and the error says how far QEMU was. One that hangs just then gets its guest back from
godwit-keeper, once it goes on, however long that takes.

## When neither side can know

**It opens** when the source fences its guest, right before it sends the commit, which its
journal has on disk by then: should the daemon or the host die from here on, the guest does not
come to life by itself. Up to there every fault gives it back. **It closes** when the target's
answer comes: `running`, or `refused` once its VMM has ended. In between is one round trip and
what the target does for the answer: two records in its journal, not synced, and the resume of a
VMM that has all memory and state; a QEMU that does not answer to that is waited for longer than
the source waits. All else that takes long was done before, but for one thing: the target's QEMU
may still be putting its migration settings back (two commands of its monitor), and is told to run
after that. A target's daemon that is killed just then leaves these settings changed in its QEMU.
Where the connection ends first, or nothing comes within 30 s (the deadline of the stage), the
source is *undecided* and neither side acts; an answer that comes later on the same connection
still decides, and so does `godwit resolve`.

**It can't be done without**: whoever sends the last message can't know that it arrived, and
with each acknowledgement more there is another last one. What can be chosen is who stays in
doubt, and what he does then: the source does, and waits, so that the guest never runs twice. A
target whose VMM is dead for sure says so, which closes the window at once. Nor can the source
cut its waiting short and take the guest back: a target that is merely slow would run it too.
""".splitlines()


def table():
    lines = [
        "# What becomes of the guest when something fails",
        "",
        "A fault when a stage is about to begin (`ARCHITECTURE.md` has the stages), or at its",
        "message between the daemons, and whose the guest is afterwards. Made by",
        "`tests/e2e/matrix.py`, played by `tests/e2e/test_matrix_faults.py`: all of it by",
        "`./check --long`, a part by `./check`. In each the guest's memory is checked, and both",
        "sides never run. Where the guest is to run on at the source, daemons that died are",
        "started anew, and a second migration moves it.",
        "",
        "The guest is `godwit-vm`'s, and goes over tcp in plain text. With a QEMU both daemons",
        "and the target's QEMU are killed at the stages up to load too (`test_qemu_faults.py`),",
        "and the source's, godwit-attach of both sides and godwit-keeper at each stage, and who",
        "has a part in the commit (`test_qemu_deaths.py`); over nic (`test_nic.py`) and rdma",
        "(`test_rdma.py`) each daemon is, while pages are copied. What dies between two steps of",
        "the commit is in `test_faults.py`.",
        "",
    ]
    lines += [f"- **{what}**: {means}." for what, means in MEANING.items()]
    lines += [
        "",
        "*stop* is SIGSTOP for a second and a half (half a second in the short form); *lost* is a",
        "message that is swallowed with the connection, *late* one that comes as much later. A cut",
        "is noticed before the stage begins; the network comes back at once.",
        "",
        "| stage | " + " | ".join(FAULTS) + " |",
        "|---" * (len(FAULTS) + 1) + "|",
    ]
    for stage in STAGES:
        cells = [expected(stage, fault) or "" for fault in FAULTS]
        lines.append("| " + " | ".join([stage, *cells]) + " |")
    lines += ["", *WINDOW]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table(), end="")
