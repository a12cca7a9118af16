# SPDX-License-Identifier: BSD-3-Clause
"""The bench runs and tells what it is asked; no figure of it is judged here."""

import json
import os
import subprocess
import sys

import pytest

from godwit import BUILD, ROOT

BENCH = BUILD / "bench/godwit-bench"


def run(*command):
    return subprocess.run([str(word) for word in command], capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=300, check=False)


@pytest.fixture(scope="module", autouse=True)
def built():
    if not BENCH.exists():
        pytest.skip(f"no {BENCH}: this CPU is not x86-64, or it was not built")


def test_compare_tells_each_way(tmp_path):
    if os.geteuid() != 0 or (os.cpu_count() or 1) < 2:
        pytest.skip("bench/compare needs root and two CPUs")
    if run("qemu-system-x86_64", "--version").returncode != 0:
        pytest.skip("no qemu-system-x86_64 here")
    ways = ["qemu/multifd", "godwit/tcp/auto", "godwit/tcp/raw/sealed"]
    done = run(sys.executable, ROOT / "bench/compare", "--build", BUILD, "--size", 64, "--rounds",
               1, "--even-if-noisy", "--limit", "5", "--json", tmp_path / "out", *ways)
    assert done.returncode == 0, done.stderr
    first, *runs = map(json.loads, (tmp_path / "out").read_text().splitlines())
    assert first["machine"]["kernel"] and first["machine"]["godwit"]
    assert [r["way"] for r in runs] == ways
    for r in runs:
        assert r["s"] > 0 and r["wire"] > 0 and len(r["cpu_s"]) == 2 and r["limit_gbit"] == 5
        assert r["way"] in done.stdout


@pytest.mark.parametrize("way", ["godwit/tcp", "godwit/tcp/raw/tls", "qemu/lz4:1", "other/raw"])
def test_compare_refuses_what_is_no_way(way):
    done = run(sys.executable, ROOT / "bench/compare", "--build", BUILD, way)
    assert done.returncode == 1
    assert done.stderr.startswith(f"compare: {way}: ")


def test_images_of_files_and_processes(tmp_path):
    ram, source = tmp_path / "ram", tmp_path / "source"
    source.write_bytes(bytes(range(256)) * 16 + b"second page" + bytes(4085))
    for arguments, begins in ((["--from", source], source.read_bytes()),
                              (["--pid", os.getpid()], None)):
        ram.write_bytes(bytes(64 << 10))
        done = run(BENCH, "image", ram, *arguments)
        assert done.returncode == 0, done.stderr
        found = ram.read_bytes()
        assert any(found)
        assert begins is None or found == begins * 8
    source.write_bytes(b"less than a page")
    assert run(BENCH, "image", ram, "--from", source).returncode == 1
    assert run(BENCH, "image", ram, "--from", tmp_path / "none").returncode == 1


def test_each_stage_runs():
    done = run(BENCH, "--size", 8, "--rounds", 1, "--json")
    assert done.returncode == 0, done.stderr
    told = {json.loads(line)["stage"] for line in done.stdout.splitlines()}
    listed = {line.split()[0] for line in run(BENCH, "--list").stdout.splitlines()}
    missing = {name for name in listed - told if f"{name} is left out" not in done.stderr}
    assert not missing
