# SPDX-License-Identifier: BSD-3-Clause
"""Tracks the RAM of an idle QEMU of 4 GiB, populated, from outside."""

import json
import os
import subprocess
import tempfile
import time

GIB = 1 << 30
SIZE = 4 * GIB
STOP_LIMIT_US = 1000
IDLE_LIMIT_US = 20000


class Failed(Exception):
    pass


def qemu(ram):
    """Without a guest, but with all its threads; its RAM is populated when this returns."""
    vmm = subprocess.Popen(
        ["qemu-system-x86_64", "-S", "-display", "none", "-nodefaults", "-accel", "tcg",
         "-smp", "4", "-m", "4G", "-machine", "pc,memory-backend=ram", "-object",
         f"memory-backend-file,id=ram,size=4G,mem-path={ram},share=on,prealloc=on"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while os.stat(ram).st_blocks * 512 < SIZE:
        if vmm.poll() is not None:
            raise Failed(f"QEMU: {vmm.stderr.read().decode().strip()}")
        if time.monotonic() > deadline:
            vmm.kill()
            raise Failed("QEMU does not populate its RAM within 120 s")
        time.sleep(0.1)
    time.sleep(0.5)
    return vmm


def measure(program, rounds):
    """A dict for each round, as godwit-bench track prints it."""
    with tempfile.NamedTemporaryFile(dir="/dev/shm", prefix="godwit-bars-") as ram:
        vmm = qemu(ram.name)
        try:
            done = subprocess.run([program, "track", str(vmm.pid), ram.name, "--json",
                                   "--rounds", str(rounds)],
                                  capture_output=True, text=True, timeout=300)
        finally:
            vmm.kill()
            vmm.wait()
        if done.returncode != 0:
            raise Failed(done.stderr.strip())
        return [json.loads(line) for line in done.stdout.splitlines()]
