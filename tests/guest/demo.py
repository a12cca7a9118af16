# SPDX-License-Identifier: BSD-3-Clause
"""What ./demo --qemu shows: a running Linux guest moves from one stock QEMU to another. It computes
and checks its memory, writes a disk, and answers on a TCP connection, and its console goes on."""

import argparse
import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "e2e"))

parser = argparse.ArgumentParser()
parser.add_argument("--build", required=True)
parser.add_argument("--memory", default="1G")
parser.add_argument("--codec", default="raw")
parser.add_argument("--flows", type=int, default=1)
parser.add_argument("--rate", type=int, default=5000)
parser.add_argument("--hugepages", help="a hugetlbfs with enough pages for two guests")
options = parser.parse_args()
os.environ["GODWIT_BUILD"] = options.build

import godwit  # noqa: E402
import net  # noqa: E402
import qemu  # noqa: E402


def told_to_end(number, frame):
    raise KeyboardInterrupt


def say(text):
    print(f"\n== {text}", flush=True)


def cores(cpu):
    return ",".join([str(cpu)] * options.flows)


def console(at, number):
    for line in [line for line in list(at.lines) if line.startswith("guest: beat")][:number]:
        print(f"    {line}", flush=True)


def show(folder, keep):
    """keep: remembers what is to be closed."""
    mib = int(options.memory[:-1]) * (1024 if options.memory[-1] == "G" else 1)
    wire = keep(net.Net())
    shape = qemu.Shape(
        ram=(qemu.Ram(mib, folder=options.hugepages or "/dev/shm"),),
        disk=qemu.disk(folder / "disk"), net=wire,
        checker=f"--memory {mib // 4} --rate {options.rate} --beat 500")

    say("two hosts: source and target")
    last_cpu = os.cpu_count() - 1
    source = keep(godwit.Daemon("source", folder, cores=cores(0)))
    target = keep(godwit.Daemon("target", folder, cores=cores(last_cpu)))
    print(f"godwitd of the source moves pages on CPU 0, that of the target on CPU {last_cpu}, "
          f"port {target.port}")

    say("a Linux guest starts in QEMU at the source")
    here = keep(qemu.Qemu("here", folder, shape))
    here.wait_line("guest: ready")
    talk = keep(wire.talk())
    here.wait_beats(4)
    console(here, 3)
    talk.goes_on()
    print(f"its TCP connection through virtio-net: {talk.turns} turns; its disk is being written")
    there = keep(qemu.Qemu("there", folder, shape, incoming=True))
    print("at the target another QEMU waits")

    say("migrate")
    target.ok("receive", "demo", *there.way, "--detach")
    how = ["--flows", options.flows, "--codec", options.codec, "--verify", "memory"]
    print(f"$ godwit migrate demo --qmp {here.qmp} --to {target.address} "
          + " ".join(map(str, how)), flush=True)
    subprocess.run([str(word) for word in (
        godwit.GODWIT, "migrate", "demo", *here.way, "--to", target.address, *how, "--api",
        source.api)], stdin=subprocess.DEVNULL, check=True)

    say("the guest goes on at the target")
    last, now = here.beats()[-1], there.wait_beats(4)
    console(there, 3)
    print(f"heartbeat: last at the source {last}, now at the target {now}")
    talk.goes_on()
    print(f"its TCP connection stayed up: {talk.turns} turns")
    print(f"the guest checked its memory: {there.check()} pages, all as it wrote them")
    there.disk_clean()
    print("the guest's disk is clean: its files are whole, and fsck finds nothing")
    report = source.status("demo")["report"]
    print(f"verified: {report['verified_pages']} pages identical")


signal.signal(signal.SIGTERM, told_to_end)
scratch = pathlib.Path(tempfile.mkdtemp(prefix="gwdemo"))
with contextlib.ExitStack() as stack:
    stack.callback(shutil.rmtree, scratch, ignore_errors=True)
    children = []

    def kept(thing):
        stack.callback(thing.close)
        children.append(thing)
        return thing

    try:
        show(scratch, kept)
    except KeyboardInterrupt:
        sys.exit(130)
    except (AssertionError, qemu.NoGuest, OSError, subprocess.SubprocessError) as why:
        for child in children:
            if isinstance(child, godwit.Child):
                print(f"-- what {child.name} said last:", *child.lines[-8:], sep="\n",
                      file=sys.stderr)
        sys.exit(f"demo: {why}")
