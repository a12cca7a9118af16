# SPDX-License-Identifier: BSD-3-Clause
"""What a migration tells while it runs: events, records, the log, one who comes late."""

import json
import os
import shutil
import struct
import subprocess
import xml.etree.ElementTree

import pytest

import events
import godwit


def told(stage, pair, *args, guest=("--rate", "3000"), memory="64M"):
    source, target = pair
    vm, waiting = stage.vm(memory=memory, args=guest), stage.waiting(memory=memory)
    vm.wait_ticks()
    migration = stage.migrate(source, target, vm, waiting, "guest", *args)
    return migration, vm, waiting


def follow(stage, daemon, record):
    """One who comes when it has begun."""
    child = godwit.Child(record, [
        godwit.GODWIT, "status", "guest", "--watch", "--record", stage.folder / record, "--json",
        "--api", daemon.api])
    stage.children.append(child)
    return child


def rates_add_up(told):
    """Whoever else looks at the counters meanwhile: a rate is that since the event before, and a
    core had no more time than there was. What it did while it was off its CPU counts where it came
    back, hence the slack."""
    for last, event in zip(told, told[1:]):
        seconds = (event["elapsed_ms"] - last["elapsed_ms"]) / 1e3
        assert event["wire_per_s"] * seconds == pytest.approx(
            event["bytes_wire"] - last["bytes_wire"], rel=1e-3, abs=1)
    used = [sum(v for k, v in c.items() if k not in ("flow", "cpu"))
            for e in told for c in e["cores"]]
    assert any(used) and max(used) < 2


def test_schema_is_read():
    assert set(events.EVENTS) == {"state", "stage", "pass", "progress", "placing", "passed",
                                  "throttle", "log", "end"}
    assert len(events.EVENTS["progress"]) > 15 and len(events.OBJECTS["report"]) > 30
    assert events.compare({"flow": 0}, events.OBJECTS["core"], "core")
    assert events.compare([], events.OBJECTS["core"], "core")
    assert events.of_kind([1, "x"], "array of integer", "a") == ["a[1] is 'x', no integer"]
    assert events.of_kind(True, "integer", "a") and events.of_kind(1, "number", "a")


def test_events(stage, pair):
    """Both sides' events, and those of a record, are as documented, and agree with each other."""
    source, target = pair
    record = stage.folder / "record"
    vm, waiting = stage.vm(args=["--rate", "3000"]), stage.waiting()
    vm.wait_ticks()
    receive = godwit.Child("receive", [
        godwit.GODWIT, "receive", "guest", *waiting.way, "--json", "--record",
        stage.folder / "theirs", "--api", target.api])
    stage.children.append(receive)
    receive.wait_line('"event":"state"')
    migration = godwit.Migration(source, "guest", vm, target.address, "--record", record,
                                 "--bandwidth", "1M", "--hold")
    stage.children.append(migration)
    migration.wait_line('"event":"progress"')
    amid = follow(stage, source, "amid")
    amid.wait_line('"event":"progress"')
    source.ok("set", "guest", "--bandwidth", "40M")
    migration.wait_line('"event":"passed"')
    migration.wait_line('"event":"progress"')
    source.wait_state("guest", "holding")
    late = follow(stage, source, "late")
    late.wait_line('"event":"passed"')
    late.wait_line('"event":"progress"')
    plain = godwit.Child("plain", [godwit.GODWIT, "watch", "guest", "--api", source.api])
    stage.children.append(plain)
    plain.wait_line(r"^guest: holding \(")  # though no state follows that it does not know
    assert "under_way" not in source.ok("list", "--json")
    source.ok("switch-now", "guest")
    report = migration.done()
    assert late.wait() == amid.wait() == receive.wait() == 0
    told = migration.events()
    theirs = [json.loads(line) for line in receive.lines if line.startswith("{")]
    for event in told + theirs:
        events.check(event)
    assert {e["event"] for e in told} >= {"state", "stage", "pass", "progress", "passed", "end"}
    placed = [e for e in theirs if e["event"] == "placing"]
    assert placed and placed[-1]["pages_data"] <= report["pages_data"]
    assert any(c["place"] > 0 or c["recv"] > 0 for e in placed for c in e["cores"])
    rates_add_up(placed)
    passed = [e for e in told if e["event"] == "passed"]
    assert all("elapsed_ms" in e for e in passed)
    assert len(passed) == report["passes"] == len({e["pass"] for e in told if e["event"] == "pass"})
    for key in ("pages_data", "pages_zero", "pages_hole"):
        assert sum(p[key] for p in passed) == report[key]
    rates_add_up([e for e in told if e["event"] == "progress"])
    stages = [e["stage"] for e in told if e["event"] == "stage"]
    assert stages[:3] == ["vmm", "hello", "preflight"] and stages[-1] == "finish"
    for daemon, side in ((source, "source"), (target, "target")):
        daemon.wait_line(rf"<info> guest: stage=commit side={side} ms=[\d.]+$")
        daemon.wait_line(rf"<info> guest: result=done side={side} ms=[\d.]+ passes=\d+ pause_ms=")
    lines = [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines()]
    assert lines[0]["event"] == "record" and lines[0]["name"] == "guest"
    for line in lines[1:]:
        events.check(line)
    assert [e for e in told if e["event"] != "progress"] == [
        {k: v for k, v in e.items() if k != "t_ms"} for e in lines[1:] if e["event"] != "progress"]
    late, amid = ([json.loads(line) for line in
                   (stage.folder / name).read_text(encoding="utf-8").splitlines()]
                  for name in ("late", "amid"))
    first = next(e for e in late if e["event"] == "passed")
    assert first["pass"] == 0 and first["t_ms"] == 0, "one who comes late sees earlier passes"
    rates_add_up([e for e in late if e["event"] == "progress"])
    assert (amid[1]["event"], amid[1]["pass"], amid[1]["t_ms"]) == ("pass", 0, 0), \
        "one who comes amid a pass sees which it is"
    for event in late[1:] + amid[1:]:
        events.check(event)
    made = target.run("plot", stage.folder / "theirs", api=False)
    assert made.returncode == 0 and not made.stderr, made.stderr
    assert "decode" in (stage.folder / "theirs.svg").read_text(encoding="utf-8")


def test_events_of_a_failure(stage, pair):
    migration, vm, _ = told(stage, pair, "--max-passes", "1", "--downtime", "1",
                            guest=("--rate", "20000", "--pattern", "random"))
    assert "gave up" in migration.failed()["error"]
    for event in migration.events():
        events.check(event)
    assert vm.wait_ticks() > 0


def test_terminal(stage, pair):
    """The picture of a real migration, as a terminal gets it."""
    source, target = pair
    vm, waiting = stage.vm(args=["--rate", "3000"]), stage.waiting()
    vm.wait_ticks()
    target.ok("receive", "guest", *waiting.way, "--detach")
    done = subprocess.run(
        ["script", "-qec", " ".join(map(str, (
            godwit.GODWIT, "migrate", "guest", *vm.way, "--to", target.address, "--bandwidth",
            "60M", "--api", source.api))), "/dev/null"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=godwit.WAIT_S)
    assert done.returncode == 0, done.stdout
    assert "\033[J" in done.stdout and "flow 0, CPU " in done.stdout
    assert "guest: done" in done.stdout and "stall" in done.stdout


def test_plot(stage, pair):
    """Pictures of a real migration; they are looked at for what must stand in them."""
    record = stage.folder / "it's a record"
    migration, _, waiting = told(stage, pair, "--record", record, "--bandwidth", "60M")
    report = migration.done()
    source = pair[0]
    made = source.run("plot", record, "--out", stage.folder / "picture", api=False)
    assert made.returncode == 0, made.stderr
    assert source.run("plot", record, api=False).returncode == 0
    assert (stage.folder / "it's a record.svg").exists()
    assert made.stdout.splitlines() == [str(stage.folder / f"picture.{kind}")
                                        for kind in ("svg", "png")]
    svg = (stage.folder / "picture.svg").read_text(encoding="utf-8")
    root = xml.etree.ElementTree.fromstring(svg)
    text = " ".join(root.itertext())
    for word in ("GiB/s", "stall", f"pause {report['pause_ms']:.1f} ms", "left out", "encode",
                 "flow 0, CPU 0", "guest, 20", f"{report['passes']} passes"):
        assert word in text, word
    assert len(root.findall(".//{*}path")) > 20
    png = (stage.folder / "picture.png").read_bytes()
    assert png[:8] == b"\x89PNG\r\n\x1a\n" and struct.unpack(">II", png[16:24]) == (1200, 1500)
    keep = os.environ.get("GODWIT_KEEP")  # to look at them
    if keep:
        for kind in ("svg", "png"):
            shutil.copy(stage.folder / f"picture.{kind}", keep)
        shutil.copy(record, keep)
