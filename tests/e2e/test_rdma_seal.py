# SPDX-License-Identifier: BSD-3-Clause
"""Sealed flows over RDMA: what an attacker on the cable between two machines can see and do. The
cases stand in tests/rdma/cable.py; he is here, in roce.py."""

import functools
import os
import pathlib
import re
import subprocess
import tempfile

import pytest

import godwit
from roce import Eavesdropper
from test_rdma import machine, outcome

CASES = ["warm", "overheard*auto", "overheard*none", "replayed*auto*there", "replayed*auto*back",
         "replayed*none*there"]
pytestmark = [pytest.mark.long, pytest.mark.skipif(
    os.environ.get("GODWIT_RDMA") == "skip", reason="GODWIT_RDMA=skip")]


@functools.cache
def overheard():
    """What came of each case, what its machine said, and who listened."""
    with tempfile.TemporaryDirectory(prefix="rdma") as folder:
        cable, tap = pathlib.Path(folder) / "cable", pathlib.Path(folder) / "tap"
        source = machine(f"--with {' '.join(CASES)}", "-s", "1", "-n", cable, "-l")
        godwit.wait_until("the cable is there", lambda: cable.exists() or
                          source.poll() is not None)
        between = Eavesdropper(tap, cable)
        target = machine("--peer", "-s", "1", "-n", tap, "-c", "-a", "10.77.0.2/24", "-6",
                         "fd77::2/64")
        log = source.communicate()[0]
        try:
            target.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            target.kill()
        between.close()
    return outcome(log), log, between


def look(name):
    outcomes, log, between = overheard()
    if outcomes.get(name) != "ok":
        print(log[-20000:])
        pytest.fail(f"{name}: {outcomes.get(name, 'its machine never came to it')}")
    assert between.wrong == 0, "sums of packets are not understood"
    return log, between


@pytest.mark.parametrize("seal", ["auto", "none"])
def test_what_is_on_the_cable(seal):
    """Nothing of a page; without a seal the same look finds pages."""
    log, between = look(f"overheard*{seal}")
    secrets = {bytes.fromhex(s) for s in re.findall(r"^secret (\S+)\r?$", log, re.M)}
    assert len(secrets) > 100
    seen = bytes(between.seen[f"overheard*{seal}"])
    assert len(seen) > 1 << 20
    assert any(s in seen for s in secrets if any(s)) == (seal == "none")


@pytest.mark.parametrize("seal,way", [("auto", "there"), ("auto", "back"), ("none", "there")])
def test_replayed_to_the_next_connection(seal, way):
    """What was kept opens nothing under the new keys, and ends the session; without a seal it
    passes for what it claims to be."""
    name = f"replayed*{seal}*{way}"
    _, between = look(name)
    assert between.replayed[name] > 0, "nothing fitted"
