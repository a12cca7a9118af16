# SPDX-License-Identifier: BSD-3-Clause
"""The rdma link on Soft-RoCE, in virtual machines that start a kernel with rdma_rxe: whole
migrations, between two processes of one machine and between two machines with a cable between them.
The cases stand in tests/rdma/cases.py; a machine runs several, and the tests here look at what came
of each. No RDMA device is needed. Where kernel or QEMU are missing the tests fail; GODWIT_RDMA=skip
skips them."""

import functools
import itertools
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import pytest

import godwit

HERE = godwit.ROOT / "tests/rdma"
sys.path.insert(0, str(HERE))
import cases  # noqa: E402
FOLDER = godwit.ROOT / "build/rdma"
# Flows, codecs and backings that each run tries.
COVER = ["moves*sealed*4*4K", "moves*deflate*2*2M"]
# For one machine and all of its cases; nothing here is about speed.
BOOT_S = 3600 if os.environ.get("GODWIT_LONG") else 600


def long(*names):
    return [pytest.param(name, id=name, marks=pytest.mark.long) for name in names]


pytestmark = pytest.mark.skipif(
    os.environ.get("GODWIT_RDMA") == "skip", reason="GODWIT_RDMA=skip")


@functools.cache
def kernel():
    done = subprocess.run([HERE / "make", FOLDER], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr or done.stdout
    stray = godwit.BUILD / "tests/rdma/stray"
    assert stray.exists(), f"{godwit.BUILD} was built without rdma-core: .ci/packages build"
    return FOLDER


def machine(command, *options):
    env = dict(os.environ, TMPDIR=tempfile.gettempdir())
    inside = f"GODWIT_BUILD={godwit.BUILD.relative_to(godwit.ROOT)} " \
             f"python3 -B tests/rdma/inside.py {command}"
    return subprocess.Popen(
        [HERE / "vm", "-k", kernel(), "-t", str(BOOT_S), *options, inside], cwd=godwit.ROOT,
        env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, errors="replace", preexec_fn=godwit.die_with_parent)


def outcome(log):
    return dict(re.findall(r"^case (\S+) (ok|failed: .*?)(?: [\d.]+ s)?\r?$", log, re.M))


@functools.cache
def one(names):
    """Both hosts in one machine: what came of each case, and the log."""
    log = machine(" ".join(names)).communicate()[0]
    return outcome(log), log


@functools.cache
def two(names):
    """A machine each, a cable between them."""
    with tempfile.TemporaryDirectory(prefix="rdma") as folder:
        cable = pathlib.Path(folder) / "cable"
        source = machine(f"--with {' '.join(names)}", "-s", "1", "-n", cable, "-l")
        try:
            godwit.wait_until("the cable is there", lambda: cable.exists() or
                              source.poll() is not None)
        except AssertionError:
            source.kill()
        if not cable.exists():  # an answer too: or each test would start machines anew
            return {}, source.communicate()[0] + "\n--- there was no cable\n"
        target = machine("--peer", "-s", "1", "-n", cable, "-c", "-a", "10.77.0.2/24",
                         "-6", "fd77::2/64")
        log = source.communicate()[0]
        try:  # it was told to leave
            log += "\n--- the other machine\n" + target.communicate(timeout=60)[0]
        except subprocess.TimeoutExpired:
            target.kill()
            log += "\n--- the other machine\n" + target.communicate()[0]
    return outcome(log), log


def look(request, machines, name):
    """What came of a case; the machine does all that this run asks for, once."""
    wanted = tuple(item.callspec.params["name"] for item in request.session.items
                   if item.function is request.function)
    outcomes, log = machines(wanted)
    if outcomes.get(name) != "ok":
        print(log[-20000:])
        pytest.fail(f"{name}: {outcomes.get(name, 'its machine never came to it')}")


# In an order in which few daemons are started again.
@pytest.mark.parametrize("name", [
    "doctor", "direct", "bench", *COVER, "kill_target", "no_device", "kill_source", "bad_key",
    "ipv6", "removed",
    *long("source_trusts", "sealed_deflate", "target_trusts", "nobody_trusts", "locked",
          "direct_huge", "direct_windows", "no_odp", "port_down", "removed_ready",
          *(m for m in cases.MOVES if m not in COVER), *cases.KILLS)])
def test_one_machine(request, name):
    look(request, one, name)


@pytest.mark.parametrize("name", [
    *(f"raw*{n}" for n in range(5)), "slow_target", "loss_half", "cut_3s", "cut_for_ever",
    "cut_and_back",
    *long(*(f"raw*{n}" for n in range(5, 50)), "loss_15", "direct_loss_15", "loss_half_ipv6",
          "direct_cut_and_back", "turns_cut_and_back", "sealed_cut_and_back", "direct_huge",
          "sealed_deflate", "kill_target", "kill_source", "small_target", *cases.MOVES,
          *cases.KILLS)])
def test_two_machines(request, name):
    look(request, two, name)


@pytest.mark.long
@pytest.mark.parametrize("sanitizer", ["thread", "address,undefined"])
def test_threads(sanitizer):
    """Both ends of flows, their control thread and the one that registers memory, with a
    sanitizer, over the device."""
    build = FOLDER / sanitizer.split(",", maxsplit=1)[0]
    setup = ["meson", "setup", "-Dbuildtype=debugoptimized", "-Db_lundef=false",
             f"-Db_sanitize={sanitizer}", build, godwit.ROOT]
    commands = ([] if (build / "build.ninja").exists() else [setup],
                [["ninja", "-C", build, "tests/rdma/pair"]])
    for command in itertools.chain(*commands):
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, timeout=1200)
    inside = f"setarch -R {build.relative_to(godwit.ROOT)}/tests/rdma/pair 10.77.0.1"
    done = subprocess.run([HERE / "vm", "-k", kernel(), "-m", "2048", "-t", "600", inside],
                          cwd=godwit.ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          errors="replace", timeout=700, check=False)
    assert done.returncode == 0 and "PASSED" in done.stdout, done.stdout[-20000:]
