# SPDX-License-Identifier: BSD-3-Clause
"""./demo, as a new user sees it, with a small guest and the build that is there."""

import os
import re
import subprocess

import pytest

from conftest import kvm_missing
from godwit import BUILD, ROOT


MASKED = ["unshare", "--mount", "--propagation", "private", "sh", "-c",
          'mount --bind /dev/null /dev/kvm || exit 77; exec "$@"', "sh"]


@pytest.mark.parametrize("how", ["kvm", pytest.param("soft", marks=pytest.mark.long),
                                 pytest.param("masked", marks=pytest.mark.long)])
def test_demo(how):
    """masked: /dev/kvm is withheld, and it says so."""
    soft = how != "kvm"
    if how != "soft" and kvm_missing():
        pytest.skip(f"no KVM guest here: {kvm_missing()}")
    if how == "masked" and subprocess.run([*MASKED, "true"], capture_output=True).returncode != 0:
        pytest.skip("no mount namespace can be made here")
    done = subprocess.run([*(MASKED if how == "masked" else ()), ROOT / "demo", "--build",
                           BUILD.resolve(), "--memory", "64M",
                           *(["--soft"] if how == "soft" else [])], capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=600, check=False)
    said = done.stdout
    assert done.returncode == 0, said + done.stderr
    assert "packages" not in said, "it installed and built"
    report = said.split("demo: done\n")[1]
    for line in (r"total time +[\d.]+ s, \d+ passes", r"pause +[\d.]+ ms",
                 r"pages +\d+ sent, \d+ zero, \d+ made holes", r"left out +\d+ holes, .*",
                 r"wire +[\d.]+ MiB for [\d.]+ MiB of guest memory, ratio [\d.]+",
                 r"throughput +[\d.]+ GiB/s of guest memory",
                 r"guest +.*, writes seen by .*, memory on 4 KiB pages"):
        assert re.search(rf"^  {line}$", report, re.M), f"no line {line} in:\n{report}"
    assert ("software guest" in report) == soft
    assert ("No KVM here" in said) == (how == "masked")
    assert ("The guest is a software guest, as asked" in said) == (how == "soft")
    ticks = re.search(r"last at the source: tick (\d+), now at the target: tick (\d+)", said)
    assert 0 < int(ticks[1]) < int(ticks[2])
    assert re.search(r"the guest checked its memory: [1-9]\d* pages ok, 0 bad", said)
    assert re.search(r"^verified: [1-9]\d* pages identical$", said, re.M)
    for pid in re.findall(r"\(pid (\d+)\)", done.stderr):
        assert not os.path.exists(f"/proc/{pid}"), "a VM was left running"


def test_programs_that_are_not_there(tmp_path):
    done = subprocess.run([ROOT / "demo", "--build", tmp_path], capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=180, check=False)
    assert done.returncode == 2 and "no control/godwit is there" in done.stderr
