# SPDX-License-Identifier: BSD-3-Clause
"""A raw flow that writes pages to their place over RDMA, beside perftest's ib_write_bw with writes
of the same size over the same device, in alternating rounds. There is no RDMA device here: both
run in a virtual machine that has Soft-RoCE, see tests/rdma/vm. As a program it is what runs there:

    rdma_bars.py GODWIT_BENCH ROUNDS MIB       a JSON line each round"""

import json
import pathlib
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
ADDRESS, DEVICE = "10.77.0.1", "rxe0"
MIB = 32
SIZES = {4: "rdma/direct-4k", 16: "rdma/direct-16k", 256: "rdma/direct-256k"}  # KiB a write


def gid():
    """Which of the device's the address is."""
    folder = pathlib.Path(f"/sys/class/infiniband/{DEVICE}/ports/1/gids")
    tail = "{:02x}{:02x}:{:02x}{:02x}".format(*map(int, ADDRESS.split(".")))
    return next(f.name for f in sorted(folder.iterdir(), key=lambda f: int(f.name))
                if f.read_text().strip().endswith("ffff:" + tail))


def perftest(kib, mib):
    """GiB/s of ib_write_bw, its client on CPU 0, its server on CPU 1."""
    command = ["ib_write_bw", "-d", DEVICE, "-x", gid(), "-m", "4096", "-F", "-s", str(kib << 10),
               "-n", str((mib << 10) // kib)]
    with subprocess.Popen(["taskset", "-c", "1", *command], stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL) as server:
        time.sleep(1)
        done = subprocess.run(["taskset", "-c", "0", *command, ADDRESS], capture_output=True,
                              text=True, timeout=300)
        server.wait(60)
    rows = map(str.split, done.stdout.splitlines())
    row = [words for words in rows if words[:1] == [str(kib << 10)]]
    if not row:
        raise SystemExit(f"ib_write_bw: {done.stdout}{done.stderr}")
    return float(row[0][3]) / 1024


def flow(program, mib):
    done = subprocess.run([program, "rdma", ADDRESS, "--json", "--content", "random", "--size",
                           str(mib), "--rounds", "1"], capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise SystemExit(done.stderr)
    events = map(json.loads, done.stdout.splitlines())
    return {e["stage"]: e for e in events if "stage" in e}  # the first tells of the machine


def inside(program, rounds, mib):
    for number in range(rounds):
        ours = flow(program, mib)
        theirs = {kib: perftest(kib, mib) for kib in SIZES}
        print(json.dumps({"round": number, "ours": ours, "theirs": theirs}), flush=True)


def measure(program, rounds, mib=None):
    """The rounds, as inside() printed them. OSError or SystemExit where they can't be had."""
    done = subprocess.run([ROOT / "tests/rdma/make", ROOT / "build/rdma"], capture_output=True,
                          text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise OSError(done.stderr.strip())
    done = subprocess.run(
        [ROOT / "tests/rdma/vm", "-k", ROOT / "build/rdma", "-t", "1800",
         f"python3 -B bench/rdma_bars.py {program} {rounds} {mib or MIB}"], cwd=ROOT,
        capture_output=True, text=True, stdin=subprocess.DEVNULL)
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"round')]
    if done.returncode or len(found) != rounds:
        raise OSError(done.stdout[-2000:] + done.stderr)
    return found


def beside(rounds):
    """For each size of writes: both rates, and the cycles of ours."""
    def median(values):
        return round(statistics.median(values), 4)
    return {f"{kib}k": {
        "gib_per_s": median(r["ours"][stage]["gib_per_s"] for r in rounds),
        "ib_write_bw_gib_per_s": median(r["theirs"][str(kib)] for r in rounds),
        "cycles_a_page": [round(median(r["ours"][stage][f"cycles_a_page_{side}"] for r in rounds))
                          for side in ("source", "target")]} for kib, stage in SIZES.items()}


if __name__ == "__main__":
    inside(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
