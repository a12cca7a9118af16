# SPDX-License-Identifier: BSD-3-Clause
"""The bench runs and tells what it is asked; no figure of it is judged here."""

import functools
import importlib.machinery
import importlib.util
import json
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys

import pytest

from godwit import BUILD, ROOT, WAIT_S, wait_until

BENCH = BUILD / "bench/godwit-bench"


def run(*command):
    """Again where huge pages were free as the EAL looked, and others had taken them as it began:
    tests beside these set up some and use them."""
    for _ in range(20):
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, timeout=300, check=False)
        if "EAL: Cannot init memory" not in done.stderr or "were free)" not in done.stderr:
            break
    return done


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
    assert first["settings"]["mib"] == 64 and first["settings"]["image"] == "mix"
    assert [r["way"] for r in runs] == ways
    for r in runs:
        assert r["s"] > 0 and r["wire"] > 0 and len(r["cpu_s"]) == 2 and r["limit_gbit"] == 5
        assert min(r["own_mib"]) > 1
        assert r["way"] in done.stdout


@pytest.mark.parametrize("way", ["godwit/tcp", "godwit/tcp/raw/tls", "godwit/rdma/raw",
                                 "godwit/tcp/lzma", "qemu/lz4:1", "other/raw",
                                 "godwit/nic/auto"])
def test_compare_refuses_what_is_no_way(tmp_path, way):
    """At once: nothing is built."""
    if "rdma" in way and any(pathlib.Path("/sys/class/infiniband").glob("*")):
        pytest.skip("an RDMA device is here")
    done = run(sys.executable, ROOT / "bench/compare", "--build", tmp_path / "none", way,
               *(["--limit", "1"] if "nic" in way else []))
    assert done.returncode == 1
    assert done.stderr.startswith(f"compare: {way}: ")
    assert not (tmp_path / "none").exists()


@functools.cache
def module(name):
    """A script of bench."""
    sys.path.insert(0, str(ROOT / "bench"))
    loader = importlib.machinery.SourceFileLoader(name, str(ROOT / "bench" / name))
    made = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    loader.exec_module(made)
    sys.path.pop(0)
    return made


@pytest.mark.parametrize("busy,trips,why", [
    (0, [], None), (0.09, [0, 0], None), (0.11, [], "others used 11%"),
    (0, [100, 190, 0], None), (0, [100, 210], "took 100 ns in one round and 210 ns"),
    (0, [500, 240], "took 240 ns")])
def test_compare_tells_of_a_noisy_machine(busy, trips, why):
    compare = module("compare")
    runs = [{"pingpong_ns": trip} for trip in trips]
    if why is None:
        compare.watch(runs, {"busy": busy})
    else:
        with pytest.raises(compare.Noisy, match=why):
            compare.watch(runs, {"busy": busy})


@pytest.mark.long
def test_compare_refuses_a_noisy_machine(tmp_path):
    """The whole program, beside one that keeps the CPUs busy: it ends without a table."""
    if os.geteuid() != 0 or (os.cpu_count() or 1) < 2:
        pytest.skip("bench/compare needs root and two CPUs")
    noise = [subprocess.Popen([sys.executable, "-c", "while True: pass"])
             for _ in range(os.cpu_count())]
    try:
        done = run(sys.executable, ROOT / "bench/compare", "--build", BUILD, "--size", 64,
                   "--rounds", 1, "--json", tmp_path / "out", "qemu/multifd")
    finally:
        for process in noise:
            process.kill()
            process.wait()
    assert done.returncode == 2 and "others used" in done.stderr, done.stderr
    assert "multifd" not in done.stdout


@pytest.mark.long
def test_compare_gives_back_what_it_took():
    """Told to end in the middle: its network namespace and its programs are gone."""
    if os.geteuid() != 0 or (os.cpu_count() or 1) < 2:
        pytest.skip("bench/compare needs root and two CPUs")
    with subprocess.Popen(
            [sys.executable, ROOT / "bench/compare", "--build", BUILD, "--size", "64", "--rounds",
             "99", "--even-if-noisy", "qemu/multifd"], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as running:
        space = pathlib.Path(f"/run/netns/gwbars{running.pid}")
        wait_until("it has begun", lambda: space.exists() or running.poll() is not None)
        running.terminate()
        assert running.wait(WAIT_S) == 143, running.stderr.read()
    assert not space.exists()


@pytest.mark.long
def test_scale_tells_a_point():
    done = run(sys.executable, ROOT / "bench/scale", "--build", BUILD, "--rounds", 1, "--most", 64,
               "--json", "populated")
    assert done.returncode == 0, done.stderr
    first, point = map(json.loads, done.stdout.splitlines())
    assert first["machine"]["kernel"] and first["settings"]["rounds"] == 1
    assert point["curve"] == "populated" and point["x"] == 64 and point["values"]["sent MiB"] > 1


def image(path, kib, *arguments):
    path.write_bytes(bytes(kib << 10))
    done = run(BENCH, "image", path, *arguments)
    assert done.returncode == 0, done.stderr
    return path.read_bytes()


def test_images_of_seeds_files_and_processes(tmp_path):
    ram, source = tmp_path / "ram", tmp_path / "source"
    first = image(ram, 4096, "--seed", 1)
    assert any(first) and image(ram, 4096) == first
    assert image(ram, 4096, "--seed", 2) != first
    source.write_bytes(bytes(range(256)) * 16 + b"second page" + bytes(4085))
    assert image(ram, 64, "--from", source) == source.read_bytes() * 8
    program = "x = bytearray(b'what it has in memory') * 9999; print(); input()"
    with subprocess.Popen([sys.executable, "-S", "-c", program], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        assert b"what it has in memory" * 999 in image(ram, 32 << 10, "--pid", process.pid)
        process.kill()
    source.write_bytes(b"less than a page")
    assert run(BENCH, "image", ram, "--from", source).returncode == 1
    assert run(BENCH, "image", ram, "--from", tmp_path / "none").returncode == 1


@pytest.mark.parametrize("words,why", [
    (["rdma", "192.0.2.1", "--codec", "lz4"], "--codec means nothing to rdma"),
    (["rdma"], "rdma: it takes ADDRESS"), (["image"], "image: it takes FILE"),
    (["image", "/tmp/x", "--size", 1], "--size means nothing to image"),
    (["tcp", "--cpu", 1], "--cpu means nothing to tcp"),
    (["nic", "x"], "nic: it takes two devices or none"),
    (["nic", "x", "y", "z"], 'nic: "z" is one word too many'),
    (["nic", "--mtu", 1000], '--mtu: "1000" is no number from 1280'),
    (["tcp", "--mtu", 1500], "--mtu means nothing to tcp"),
    (["--codec", "lz4"], "--codec means nothing to stages"),
    (["tcp", "--codec", "lz5"], 'unknown compression "lz5"'),
    (["track", "x", "/tmp/x"], 'PID: "x" is no number'), (["pingpong", "--json"], "--json means"),
    (["--size", "1"], '--size: "1" is no number from 2'),
    (["--rounds", "x"], '--rounds: "x" is no number from 1'),
    (["--content", "all"], '--content: "all" is none of'),
    (["--bogus"], "--bogus: there is no such option"),
    (["--size"], "--size needs a value"), (["--from", "a", "--pid", 1], "--from and --pid: "),
    (["nothing"], "no stage has that name")])
def test_what_means_nothing_is_refused(words, why):
    done = run(BENCH, *words)
    assert done.returncode == 2 and not done.stdout
    assert done.stderr.startswith("godwit-bench: ") and why in done.stderr, done.stderr


def test_what_the_image_is_of():
    """Results say it, and what a codec makes of it."""
    asked = (BENCH, "--size", 8, "--rounds", 1, "--pid", os.getpid(), "zero", "encode/lz4")
    done = run(*asked, "--json")
    assert done.returncode == 0, done.stderr
    first, zero, lz4 = map(json.loads, done.stdout.splitlines())
    assert [line["content"] for line in (first["settings"], zero, lz4)] == 3 * ["process"]
    assert first["settings"]["mib"] == 8 and "ratio" not in zero and lz4["ratio"] > 1
    done = run(*asked)
    assert done.stdout.startswith("8 MiB of process, ") and "-: say 'read/*'" in done.stdout


def test_each_stage_runs():
    done = run(BENCH, "--size", 8, "--rounds", 1, "--json")
    assert done.returncode == 0, done.stderr
    first, *lines = map(json.loads, done.stdout.splitlines())
    assert first["machine"]["cpus"] >= 1 and first["settings"]["rounds"] == 1
    told = {line["stage"] for line in lines}
    listed = {line.split()[0] for line in run(BENCH, "--list").stdout.splitlines()}
    missing = {name for name in listed - told if f"{name} is left out" not in done.stderr}
    assert not missing


FLOWS = {
    "tcp": {"pingpong", "tcp/flow", "tcp/sealed", "tcp/plain-256k", "tcp/fresh-flow"},
    "nic": {"pingpong", "nic/bare", "nic/flow", "nic/sealed", "nic/flow-loss-1",
            "nic/flow-loss-10", "nic/cycles/send", "nic/sealed-cycles/receive"}}


@pytest.mark.parametrize("link", FLOWS)
def test_each_link_runs(link, tmp_path):
    """What came is compared with the image by the program itself."""
    if (os.cpu_count() or 1) < 2:
        pytest.skip("a flow takes two CPUs")
    done = run(BENCH, link, "--size", 8, "--rounds", 1, "--content", "random", "--json")
    assert done.returncode == 0, done.stderr
    first, *lines = map(json.loads, done.stdout.splitlines())
    assert first["settings"]["tsc_mhz"] > 0
    assert FLOWS[link] <= {line["stage"] for line in lines}
    assert all(line["gib_per_s"] > 0 for line in lines if "gib_per_s" in line)
    (tmp_path / "result").write_text(done.stdout)
    done = run(BENCH, "report", tmp_path / "result", "--out", tmp_path / "page")
    assert done.returncode == 0 and f"<td>{link}/flow</td>" in (tmp_path / "page").read_text()
    done = run(sys.executable, ROOT / "bench/model", tmp_path / "result")
    told = run(BENCH, link, "--size", 8, "--rounds", 1) if link == "tcp" else None
    assert told is None or re.search(r"^tcp/flow .* \d+%$", told.stdout, re.M), told.stdout
    if link == "nic":
        assert done.returncode == 0 and "400 Gbit/s" in done.stdout, done.stderr
    else:
        assert done.returncode == 1 and "is no result of godwit-bench nic" in done.stderr


@pytest.fixture
def cable():
    """A network namespace with a pair of interfaces, here and there."""
    if os.geteuid() != 0 or (os.cpu_count() or 1) < 2:
        pytest.skip("network namespaces need root, and a flow two CPUs")
    name = f"gwbench{os.getpid()}"
    try:
        for words in (f"netns add {name}", f"-n {name} link add here mtu 9000 type veth peer name "
                      "there mtu 9000", *(f"-n {name} link set {end} up"
                                          for end in ("here", "there"))):
            done = run("ip", *words.split())
            assert done.returncode == 0, done.stderr
        yield name
    finally:
        run("ip", "netns", "del", name)


def test_nic_over_two_devices(cable):
    """Without the bare loop, which would wait for what the devices lose."""
    devices = [f"net_af_packet{n},iface={name},framesz=16384,blocksz=65536,framecnt=512"
               for n, name in enumerate(("here", "there"))]
    bench = ["ip", "netns", "exec", cable, BENCH, "nic"]
    done = run(*bench, *devices, "--size", 8, "--rounds", 1, "--json")
    assert done.returncode == 0, done.stderr
    lines = [line for line in map(json.loads, done.stdout.splitlines()) if "device" in line]
    assert {line["stage"] for line in lines} == FLOWS["nic"] - {"pingpong", "nic/bare"} - {
        line for line in FLOWS["nic"] if "cycles" in line}
    assert all(line["device"] == "net_af_packet" and line["mtu"] == 9000 for line in lines)
    done = run(*bench, "net_af_packet0,iface=none", devices[1], "--size", 8)
    assert done.returncode == 1 and "godwit-bench: port source: " in done.stderr, done.stderr


def test_rdma_needs_a_device():
    """With one: tests/rdma/cases.py."""
    if any(pathlib.Path("/sys/class/infiniband").glob("*")):
        pytest.skip("an RDMA device is here")
    done = run(BENCH, "rdma", "192.0.2.1", "--size", 8, "--rounds", 1, "--json")
    assert done.returncode == 1 and len(done.stdout.splitlines()) == 1
    assert re.match("godwit-bench: rdma: .* RDMA ", done.stderr), done.stderr


def test_model_is_that_of_the_readme():
    """Its tables are what the cycles in it give."""
    model = module("model")
    text = (ROOT / "bench/README.md").read_text(encoding="utf-8")
    mhz = 1000 * float(re.search(r"At ([\d.]+) GHz", text)[1])
    rows = {(way, side): float(sum_of) for way, side, sum_of in re.findall(
        r"^\| (plain|sealed) (source|target) \|.*\| (\d+) \|", text, re.M)}
    assert len(rows) == 4
    for (way, side), cycles in rows.items():
        told = re.search(rf"^\| {way}, {side} \| (.*) \|$", text, re.M)[1].split(" | ")
        assert told == [f"{model.cores(cycles, gbit, mhz):.2f}" for gbit in model.WIRES]
    for tib in model.GUESTS:
        for written in (0, 2) if tib == 12 else (0,):
            name = f"{tib} TiB" + (f", d = {written} GB/s" if written else "")
            told = re.search(rf"^\| {name} \| (.*) \|$", text, re.M)[1].split(" | ")
            assert told[:3] == [f"{model.seconds(tib, gbit, written):.0f} s"
                                for gbit in model.WIRES]
            if not written:
                assert told[3:] == [
                    ", ".join(f"{model.core_seconds(tib, rows[way, side], mhz):.0f}"
                              for side in model.SIDES) for way in model.WAYS]


# Results of every kind that a page can be made of.
RESULTS = [
    {"machine": {"cpu": "one <script>alert(1)</script>", "cpus": 2, "libraries": {"a": "1"}}},
    {"bar": "zero-scan", "ratio": 0.8, "need": 0.9, "min": 0.7, "max": 1, "rounds": 3},
    {"bar": "auto-fixed", "ratio": 1, "need": 0.9, "min": 1, "max": 1, "beside": {"mix": {
        "1": {"godwit/tcp/auto": 2.0, "times": {"godwit/tcp/raw": 3}, "by": {"lz4": 1}},
        "10": {"godwit/tcp/auto": 1.0, "by": {}},
        "unlimited": {"godwit/tcp/auto": 0.5, "by": {}}}}},
    {"stage": "zero", "round": 0, "mib": 64, "cycles_a_page": 300.0, "gib_per_s": 30.0},
    {"stage": "read/avx2", "round": 0, "mib": 64, "cycles_a_page": 225.0, "gib_per_s": 40.0},
    {"stage": "tcp/plain-1m", "round": 0, "gib_per_s": 4.0},
    {"stage": "tcp/flow", "round": 0, "gib_per_s": 3.0},
    *[{"way": "godwit/tcp/raw", "s": s, "cpu_s": [1, 2], "own_mib": [3, 4], "wire": 1 << 20,
       "pause_ms": 7, "limit_gbit": limit} for s, limit in ((3.0, 1), (1.0, None))],
    *[{"curve": "guests", "unit": "guests", "x": x, "values": {"total ms": x * 10.0}}
      for x in (1, 2, 100)],
]


def results(path, events):
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    return path


def test_report_tells_what_changed(tmp_path):
    now = results(tmp_path / "now", RESULTS)
    then = results(tmp_path / "then", [dict(RESULTS[3], cycles_a_page=600.0)])
    done = run(BENCH, "report", now, "--against", then)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[:3] == ["zero", "600.0", "300.0"] and "0.500" in done.stdout
    then = results(tmp_path / "then", [{"settings": {"rounds": 3}}, dict(RESULTS[3], mib=1024)])
    done = run(BENCH, "report", now, "--against", then)
    assert done.stdout.splitlines()[0] == "not alike: mib was 1024, and is 64"
    then = results(tmp_path / "then", [dict(RESULTS[-1], values={"total ms": 500})])
    done = run(BENCH, "report", now, "--against", then, "--out", tmp_path / "page")
    assert done.stdout.split() == "guests 100: total 500.0 1000.0 ms 2.000 times".split()
    page = (tmp_path / "page").read_text()
    assert "<td>75 %</td>" in page, "the zero scan of reading, and the flow of the bare loop"
    then = results(tmp_path / "then", [dict(RESULTS[1], ratio=0.4)])
    done = run(BENCH, "report", now, "--against", then)
    assert done.stdout.split() == "bar zero-scan 225.0 112.5 % needed 0.500 times".split()
    then = results(tmp_path / "then", [dict(e, s=6.0) for e in RESULTS if "way" in e])
    done = run(BENCH, "report", now, "--against", then)
    assert [line.split() for line in done.stdout.splitlines() if line.split()[-2] == "0.500"] == [
        "godwit/tcp/raw, 1 Gbit/s 6000.0 3000.0 ms 0.500 times".split()]
    then = results(tmp_path / "then", [{"settings": {"mib": 1}},
                                       *[e for e in RESULTS if "way" in e]])
    assert not run(BENCH, "report", now, "--against", then).stdout, "a guest of another size"
    assert "Against the reference" in (tmp_path / "page").read_text()
    assert "2.000</span>" in (tmp_path / "page").read_text()


def test_each_reference_is_one():
    """What has the figures of a reference is compared with that one."""
    for name in ("", "-bars", "-compare", "-scale"):
        name = f"reference{name}.jsonl"
        done = run(BENCH, "report", ROOT / "bench" / name)
        assert done.returncode == 0, done.stderr
        ratios = [line.split()[-2] for line in done.stdout.splitlines()]
        assert len(ratios) > (3 if "bars" in name else 20) and set(ratios) == {"1.000"}


@pytest.mark.parametrize("line", ["{", "[1]", '{"bar": "x"}', ""])
def test_report_refuses_what_is_no_result(tmp_path, line):
    (tmp_path / "now").write_text(line)
    done = run(BENCH, "report", tmp_path / "now", "--out", tmp_path / "page")
    assert done.returncode == 1
    assert done.stderr.startswith("godwit-bench report: ")


def test_report_is_a_page_that_a_browser_draws(tmp_path):
    page, picture = tmp_path / "page.html", tmp_path / "page.png"
    done = run(BENCH, "report", results(tmp_path / "now", RESULTS), ROOT / "bench/reference.jsonl",
               "--out", page)
    assert done.returncode == 0, done.stderr
    assert "http" not in page.read_text() and "<script>" not in page.read_text()
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("no chromium here")
    done = run(browser, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
               f"--user-data-dir={tmp_path}/browser", "--window-size=1100,900",
               f"--screenshot={picture}", page.as_uri())
    assert "CONSOLE" not in done.stderr, done.stderr
    head = picture.read_bytes()[:24]
    assert struct.unpack(">II", head[16:24]) == (1100, 900)
    assert picture.stat().st_size > 20000, "the picture is empty"
