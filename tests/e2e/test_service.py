# SPDX-License-Identifier: BSD-3-Clause
"""The systemd unit, as it is installed, under a systemd that is process 1 of a virtual machine:
godwitd says when it is ready, its hardening stands in no migration's way, and it is started anew
and ended as its unit says. What is looked at there stands in service_inside.py."""

import os
import re
import subprocess

import pytest

import godwit
from test_rdma import kernel

pytestmark = [pytest.mark.long, pytest.mark.skipif(
    os.environ.get("GODWIT_RDMA") == "skip", reason="GODWIT_RDMA=skip")]


def test_unit():
    installed = godwit.BUILD / "installed"
    subprocess.run(["meson", "install", "-C", godwit.BUILD, "--no-rebuild", "--quiet", "--destdir",
                    installed], check=True, stdin=subprocess.DEVNULL, timeout=120)
    prefix = next(installed.glob("**/lib/systemd/system/godwitd.service")).parents[3]
    inside = f"GODWIT_BUILD={godwit.BUILD.relative_to(godwit.ROOT)} python3 -B " \
             f"tests/e2e/service_inside.py {prefix}"
    done = subprocess.run(
        [godwit.ROOT / "tests/rdma/vm", "-k", kernel(), "-m", "1536", "-t", "900", "-u", inside],
        cwd=godwit.ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, errors="replace", timeout=960, check=False,
        preexec_fn=godwit.die_with_parent)
    seen = dict(re.findall(r"^case (\w+) (ok|failed)", done.stdout, re.M))
    if done.returncode != 0 or set(seen.values()) != {"ok"}:
        print(done.stdout[-20000:])
        pytest.fail(f"{seen or 'the machine never came to it'}")
