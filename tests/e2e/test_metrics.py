# SPDX-License-Identifier: BSD-3-Clause
"""What machines look at: metrics over HTTP, conforming to OpenMetrics, and DPDK's telemetry."""

import http.client
import json
import re
import socket

import pytest
from prometheus_client.openmetrics import parser

import godwit

DASHBOARD = godwit.ROOT / "control/dist/godwit-dashboard.json"
CLIENTS = 8  # METRICS_CLIENTS


class Unix(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path):
        super().__init__("localhost", timeout=godwit.WAIT_S)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def ask(connection, method="GET", path="/metrics"):
    connection.request(method, path)
    answer = connection.getresponse()
    body = answer.read().decode()
    return answer, body


def families(where):
    """Parsed by Prometheus' own reader, which refuses what does not conform. where: a port or a
    path."""
    answer, body = ask(http.client.HTTPConnection("127.0.0.1", where, timeout=godwit.WAIT_S)
                       if isinstance(where, int) else Unix(where))
    assert answer.status == 200
    assert answer.headers["Content-Type"] == \
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert body.endswith("# EOF\n")
    return {family.name: family for family in parser.text_string_to_metric_families(body)}


def value(found, family, suffix="", **labels):
    samples = [s.value for s in found[family].samples if s.name == family + suffix and
               labels.items() <= s.labels.items()]
    assert len(samples) == 1, f"{family}{suffix} {labels}: {samples}"
    return samples[0]


@pytest.mark.smoke
def test_metrics(stage):
    port = godwit.free_port()
    source = stage.source(args=["--metrics", f"127.0.0.1:{port}"])
    target = stage.target(args=["--metrics", stage.folder / "metrics"])
    before = families(port)
    assert value(before, "godwit_sessions_ended", "_total", side="source", result="done") == 0
    vm, waiting = stage.vm(args=["--rate", "3000"]), stage.waiting()
    vm.wait_ticks()
    migration = stage.migrate(source, target, vm, waiting, "guest", "--hold")
    source.wait_state("guest", "holding")
    during = godwit.wait_until("a rate is known", lambda: (
        found := families(port))["godwit_session_dirty_pages"].samples and found)
    state = during["godwit_session_state"].samples[0]
    assert state.labels == {"name": "guest", "side": "source", "state": "holding", "stage": "copy"}
    assert value(during, "godwit_session_pass", name="guest") > 0
    assert value(during, "godwit_pages_data", "_total", side="source") > 0
    check_dashboard(during)
    source.ok("switch-now", "guest")
    report = migration.done()
    godwit.wait_until("the target has ended too", lambda: target.status("guest")["state"] ==
                      "ended")
    ended = godwit.wait_until("the text is made anew", lambda: (found := families(port)) and
                              not found["godwit_session_state"].samples and found)
    for name, count in report["counters"].items():
        assert value(ended, f"godwit_{name}", "_total", side="source") == count
        assert count >= value(during, f"godwit_{name}", "_total", side="source")
        assert ended[f"godwit_{name}"].documentation
    assert value(ended, "godwit_sessions_ended", "_total", side="source", result="done") == 1
    assert value(ended, "godwit_pause_seconds", "_count") == 1
    assert value(ended, "godwit_pause_seconds", "_sum") == \
        pytest.approx(report["pause_ms"] / 1e3, rel=1e-6)
    assert value(ended, "godwit_core_busy_seconds", "_total", lcore="1") > 0
    theirs = families(stage.folder / "metrics")
    assert value(theirs, "godwit_pages_data", "_total", side="target") > 0
    assert value(theirs, "godwit_sessions_ended", "_total", side="target", result="done") == 1
    its, childs = sockets(target.popen.pid), sockets(target.child_of("godwit-attach"))
    assert its and childs and not its & childs, "a child has them too"
    # The same name anew: what the first one counted stays.
    vm, waiting = stage.vm(memory="8M"), stage.waiting(memory="8M")
    vm.wait_ticks()
    more = stage.migrate(source, target, vm, waiting, "guest").done()["counters"]
    total = report["counters"]["pages_data"] + more["pages_data"]
    godwit.wait_until("both are counted", lambda: value(
        families(port), "godwit_pages_data", "_total", side="source") == total)


def sockets(pid):
    """Those that a process has."""
    return {name for _, name in godwit.files_of(pid) if name.startswith("socket:")}


def check_dashboard(found):
    """Each metric that a panel asks for is one that a daemon exposes while a guest moves, with the
    labels that the panel uses."""
    samples = {}
    for family in found.values():
        for sample in family.samples:
            samples.setdefault(sample.name, set()).update(sample.labels)
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    asked = 0
    for target in (target for panel in panels for target in panel["targets"]):
        used = re.findall(r"{{(\w+)}}", target.get("legendFormat", "")) + re.findall(
            r'(\w+)=~?"', target["expr"])
        for group in re.findall(r"by \(([^)]*)\)", target["expr"]):
            used += re.split(r",\s*", group)
        for name in re.findall(r"godwit_\w+", target["expr"]):
            asked += 1
            assert name in samples, f"{target['expr']}: no daemon has {name}"
            # The instance is the scraper's.
            assert set(used) - {"instance"} <= samples[name], target
    assert asked > 20


def test_bad_clients(stage):
    """They are answered or cut, and neither the daemon nor others suffer."""
    path = stage.folder / "metrics"
    daemon = stage.source(args=["--metrics", path])
    assert ask(Unix(path), "POST")[0].status == 405
    assert ask(Unix(path), "GET", "/etc/passwd")[0].status == 404
    answer, body = ask(Unix(path), "HEAD")
    assert answer.status == 200 and body == ""
    for junk in (b"\0" * 64, b"GET " + b"/" * 100000, b"GET /metrics HTTP/1.1\r\n" +
                 b"X: y\r\n" * 20000, b"\x16\x03\x01 no TLS here\r\n\r\n"):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(godwit.WAIT_S)
            s.connect(str(path))
            try:
                s.sendall(junk)
                while s.recv(65536):
                    pass
            except OSError:
                pass  # cut
    silent = []
    for _ in range(CLIENTS):  # all places are taken by clients that say nothing
        silent.append(socket.socket(socket.AF_UNIX))
        silent[-1].connect(str(path))
    daemon.ok("list")
    godwit.wait_until("the silent ones are cut", lambda: answered(path))
    for s in silent:
        s.close()
    daemon.ok("list")


def answered(path):
    try:
        return bool(families(path))
    except (OSError, http.client.HTTPException):
        return False


@pytest.mark.parametrize("where,why", [
    ("0.0.0.0:0", "loopback"), ("192.0.2.1:9646", "loopback"), ("[2001:db8::1]:9646", "loopback"),
    ("localhost:9646", "neither"), ("9646", "neither"), ("metrics.sock", "neither"),
    ("/dev/null", "no socket: .* --metrics$")])
def test_refused(stage, where, why):
    daemon = stage.daemon("source", args=["--metrics", where], ready=False)
    assert daemon.wait() == 1
    daemon.wait_line(f"cannot start: .*metrics.*{why}")


def test_telemetry(stage, monkeypatch):
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(stage.folder))
    source = stage.source(args=["--telemetry"])
    target = stage.target()
    monkeypatch.delenv("RUNTIME_DIRECTORY")
    found = list(stage.folder.glob("dpdk/*/dpdk_telemetry.v2*"))
    assert len(found) == 1 and found[0].parent.name == f"godwit-{source.popen.pid}", found
    shared = stage.folder / "dpdk" / "godwit" / "of somebody else"
    shared.touch()
    vm, waiting = stage.vm(), stage.waiting()
    vm.wait_ticks()
    counters = stage.migrate(source, target, vm, waiting).done()["counters"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
        s.settimeout(godwit.WAIT_S)
        s.connect(str(found[0]))
        limit = json.loads(s.recv(65536))["max_output_len"]

        def told(command):
            s.send(command.encode())
            return json.loads(s.recv(limit))[command.split(",")[0]]

        godwit.wait_until("what was counted is published",
                          lambda: told("/godwit/counters,source") == counters)
        assert told("/godwit/counters,target")["pages_data"] == 0
        assert told("/godwit/counters,nobody") is None
        assert told("/godwit/help").keys() == counters.keys()
        assert told("/godwit/cores")["1"]["busy_cycles"] > 0
    for daemon in (source, target):
        daemon.popen.terminate()
        daemon.wait()
    assert not found[0].parent.exists() and shared.exists()


def test_telemetry_of_one_that_was_killed(stage, monkeypatch):
    """Its folder goes when the next one starts."""
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(stage.folder))
    killed = stage.source(args=["--telemetry"])
    killed.kill()
    left = stage.folder / "dpdk" / f"godwit-{killed.popen.pid}"
    assert left.exists()
    stage.target()
    assert not left.exists()
