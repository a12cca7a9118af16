# SPDX-License-Identifier: BSD-3-Clause
"""Who may ask what of a daemon on its host."""

import os
import pathlib
import subprocess

import pytest

import godwit

NOBODY = 65534
PTRACE, ADMIN = 1 << 19, 1 << 21
# And CAP_CHECKPOINT_RESTORE, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH: as in control/confine.c.
ATTACH = PTRACE | ADMIN | 1 << 40 | 1 << 1 | 1 << 2


def status_of(task):
    """Nothing where it has ended."""
    return dict(line.split(":\t", 1) for line in
                godwit.read_there(pathlib.Path(task) / "status").splitlines() if ":\t" in line)


@pytest.fixture
def as_user(stage):
    """godwit as another user, with a group."""
    if os.geteuid() != 0:
        pytest.skip("only root can ask as somebody else")
    os.chmod(stage.folder, 0o755)

    def run(daemon, group, *words):
        def become():
            os.setgroups([group])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        # What nobody may read may not be the folder of the build.
        with open(godwit.GODWIT, "rb") as program:
            return subprocess.run(
                [f"/proc/self/fd/{program.fileno()}", *words, "--api", daemon.api],
                pass_fds=[program.fileno()], preexec_fn=become, timeout=godwit.WAIT_S,
                capture_output=True, text=True)
    return run


def test_readers_read_and_no_more(stage, as_user):
    daemon = stage.source(args=["--api-readers", "4242", "--api-group", "4343"])
    assert as_user(daemon, 4242, "status").returncode == 0
    assert as_user(daemon, 4242, "list").returncode == 0
    done = as_user(daemon, 4242, "migrate", "x", "--agent", "/a", "--to", "127.0.0.1:1")
    assert done.returncode == 1
    assert "you may ask how migrations stand, and no more" in done.stderr
    assert "no more" in as_user(daemon, 4242, "cancel", "x").stderr
    daemon.wait_line(r"uid 65534 pid \d+ may not migrate")
    # The group of the socket may ask all; others nothing.
    assert "there is no migration" in as_user(daemon, 4343, "cancel", "x").stderr
    assert as_user(daemon, 4444, "status").returncode != 0
    daemon.wait_line(r"uid 65534 pid \d+ has no right to ask anything")


def test_everybody_may_read(stage, as_user):
    daemon = stage.source(args=["--api-readers", "everybody"])
    assert as_user(daemon, 4444, "status").returncode == 0
    assert as_user(daemon, 4444, "cancel", "x").returncode == 1


def test_nobody_else_by_default(stage, as_user):
    daemon = stage.source()
    assert as_user(daemon, 4444, "status").returncode != 0


def test_the_daemon_has_given_up_what_it_can(stage):
    """In each of its threads: nothing can be gained, calls are filtered, capabilities are few."""
    daemon = stage.source()
    tasks = list(pathlib.Path(f"/proc/{daemon.popen.pid}/task").iterdir())
    found = [status for status in map(status_of, tasks) if status]
    assert len(found) > 1
    for status in found:
        assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"
        assert int(status["CapEff"], 16) & (
            1 << 7 | 1 << 16 | PTRACE | ADMIN | 1 << 25 | 1 << 27) == 0


def test_what_looks_into_vmms_keeps_what_that_takes(stage):
    """godwit-attach, the daemon's child, has of what this test has exactly its list."""
    pid = stage.source().popen.pid
    children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    found = [status_of(f"/proc/{child}") for child in children]
    found = [status for status in found if status.get("Name") == "godwit-attach"]
    assert len(found) == 1, children
    own = int(status_of("/proc/self")["CapEff"], 16)
    for name in ("CapEff", "CapPrm", "CapBnd"):
        assert int(found[0][name], 16) == own & ATTACH, name
    assert int(found[0]["CapInh"], 16) == 0
    assert found[0]["NoNewPrivs"] == "1" and found[0]["Seccomp"] == "2"
