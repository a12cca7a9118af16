# SPDX-License-Identifier: BSD-3-Clause
"""Bytes from outside that nobody should send: they end their own session, with a sentence, and no
other one."""

import os
import random
import re
import socket
import struct

import pytest

import godwit
import wire

pytestmark = pytest.mark.insecure  # these tests stand between the daemons, and read

RANDOM = random.Random(7).randbytes
AGENT_VERSION = int(re.search(r"#define AGENT_VERSION +(\d+)", (
    godwit.ROOT / "kvm/agent_proto.h").read_text(encoding="utf-8"))[1])


def dial(daemon):
    return socket.create_connection(("127.0.0.1", daemon.port), timeout=godwit.WAIT_S)


def bad_preambles():
    good = wire.preamble()
    yield "random", RANDOM(32)
    yield "http", b"GET / HTTP/1.1\r\nHost: godwit\r\n\r\n"
    yield "version", wire.preamble(version=9)
    yield "kind", wire.preamble(kind=7)
    yield "token", wire.preamble(kind=wire.FLOW, token=RANDOM(16))
    yield "control with token", wire.preamble(token=RANDOM(16))
    yield "reserved", good[:28] + b"\1\0\0\0"


def bad_capabilities():
    yield "can nothing", None
    yield "can no links", dict(wire.CAN, links=["tcp"])
    yield "can version", dict(wire.CAN, links={"tcp": "1"})
    yield "can long name", dict(wire.CAN, codecs={"x" * 999: 1})
    yield "can much", dict(wire.CAN, features={str(i): 1 for i in range(65)})


def bad_messages():
    hello = {"op": "hello", "seq": 1, "protocol": 1, "godwit": "0", "name": "guest",
             "can": wire.CAN}
    yield "random", RANDOM(400)
    yield "magic", wire.message(hello, magic=1)
    yield "version", wire.message(hello, version=9)
    yield "kind", wire.message(hello, kind=9)
    yield "blob", wire.message(b"x" * 100, kind=wire.BLOB)
    yield "oversized", wire.message(b"", length=0xFFFFFFFF)
    yield "no JSON", wire.message(b"{nonsense")
    yield "no object", wire.message(b"[1, 2]")
    yield "deep", wire.message(b'{"a":' * 40 + b"1" + b"}" * 40)
    yield "twice", wire.message(b'{"op": "hello", "op": "commit", "seq": 1}')
    yield "nothing in it", wire.message({})
    yield "op", wire.message({"op": 7, "seq": 1})
    yield "no such op", wire.message(dict(hello, op="x" * 5000))
    yield "out of turn", wire.message(dict(hello, op="commit"))
    yield "no name", wire.message({"op": "hello", "seq": 1, "protocol": 1})
    yield "seq", wire.message(dict(hello, seq=-1))
    for name, can in bad_capabilities():
        yield name, wire.message(dict(hello, can=can))
    yield "replayed", wire.message(hello) * 2
    yield "jumped", wire.message(hello) + wire.message({"op": "load", "seq": 2})
    yield "regions", wire.message(hello) + wire.message(
        {"op": "preflight", "seq": 2, "regions": [{"name": "x" * 999, "bytes": -1}],
         "hypervisor": "kvm", "link": "tcp", "codec": "raw", "flows": 1,
         "populated_bytes": 1 << 62})


@pytest.fixture(scope="module")
def both(shared):
    """Two daemons, which none of these tests may hurt."""
    source, target = shared.source(), shared.target()
    yield source, target
    assert source.alive() and target.alive()


@pytest.fixture(scope="module")
def beside(shared, both):
    """Daemons with a session under way, which all of these tests must leave alone."""
    source, target = both
    # Held for longer than its limit of passes, which holds only once the operator lets go.
    bystander = shared.migrate(source, target, shared.vm(), shared.waiting(), "bystander", "--hold",
                               "--max-passes", "2")
    source.wait_state("bystander", "holding")
    yield target, shared.waiting()
    source.ok("switch-now", "bystander")
    bystander.done()
    assert not [line for line in target.lines if "[warn]" in line], "libevent was used wrongly"


@pytest.fixture
def waiting(shared, beside):
    """The target daemon of that session, and a VM that awaits a guest."""
    target, vm = beside
    yield target, vm
    target.run("cancel", "guest")
    assert vm.alive() and not vm.ticks()
    assert target.status("bystander")["state"] not in ("ending", "ended")


@pytest.mark.smoke
@pytest.mark.parametrize("data", [pytest.param(d, id=n) for n, d in bad_preambles()])
def test_preamble(waiting, data):
    target, _ = waiting
    with dial(target) as sock:
        sock.sendall(data)
        assert wire.closes(sock) is not None, "the connection was kept"


def test_half_a_preamble_is_not_awaited_for_ever(waiting):
    target, _ = waiting
    with dial(target) as sock:
        sock.sendall(wire.preamble()[:20])
        assert wire.closes(sock) is not None


def test_many_half_open_connections(waiting):
    target, _ = waiting
    crowd = [dial(target) for _ in range(100)]
    for sock in crowd:
        sock.close()
    assert target.ok("list")


@pytest.mark.smoke
@pytest.mark.parametrize("data", [pytest.param(d, id=n) for n, d in bad_messages()])
def test_message(waiting, data):
    target, vm = waiting
    target.ok("receive", "guest", "--agent", vm.agent, "--detach")
    with dial(target) as sock:
        sock.sendall(wire.preamble() + data)
        assert wire.closes(sock) is not None, "the connection was kept"


def test_truncated_message(waiting):
    target, vm = waiting
    whole = wire.message({"op": "hello", "seq": 1, "protocol": 1, "godwit": "0", "name": "guest"})
    for cut in (1, 7, 8, len(whole) - 1):
        with dial(target) as sock:
            sock.sendall(wire.preamble() + whole[:cut])
    target.ok("receive", "guest", "--agent", vm.agent, "--detach")
    target.ok("cancel", "guest")


def say_hello(target, name, protocol=1):
    sock = dial(target)
    sock.sendall(wire.preamble() + wire.message(
        {"op": "hello", "seq": 1, "protocol": protocol, "godwit": "9.9", "name": name}))
    return sock, wire.receive_message(sock)


def test_versions_that_do_not_match(waiting):
    target, vm = waiting
    target.ok("receive", "guest", "--agent", vm.agent, "--detach")
    sock, (_, said) = say_hello(target, "guest", protocol=99)
    sock.close()
    assert said["op"] == "abort" and "99" in said["error"]


@pytest.mark.parametrize("told_by", ["source", "target"])
def test_capabilities_that_do_not_match(stage, waiting, told_by):
    """What the other side has in another version is refused by its name in preflight, and what is
    not used does not matter. A target that was not asked for anything yet waits again."""
    target, vm = waiting
    source, guest = stage.source(), stage.vm()
    between = stage.wire(target)
    can = {}

    def change(op, answer, body):
        if op == "hello" and answer == at_target and "can" in body:
            for name, versions in can.items():
                body["can"][name].update(versions)
        return body

    at_target = told_by == "target"
    between.change = change
    guest.wait_ticks()

    def migrate(*options):
        if (target.status("guest") or {}).get("state") not in ("waiting", "preparing"):
            target.ok("receive", "guest", "--agent", vm.agent, "--detach")
        child = godwit.Migration(source, "guest", guest, between.address, *options)
        stage.children.append(child)
        return child

    cases = [({"links": {"tcp": 7}}, [],
              "link tcp in version 7, and the source's in version 1" if at_target else
              "link tcp in version 1, and the source's in version 7"),
             ({"codecs": {"zstd": 9}}, ["--codec", "auto"], "codec zstd in version")]
    if at_target:  # nothing of the target's hangs on these at the source
        cases.append(({"features": {"verify": 2}}, ["--verify", "memory"],
                      "feature verify in version 2"))
    for can, options, why in cases:
        error = migrate(*options).failed()["error"]
        assert why in error and "same version" in error
    can = {"codecs": {"lz4": 9}, "features": {"tele": 1}}
    assert migrate("--codec", "raw", "--dry-run").end()["result"] == "dry-run"


def test_name_that_nobody_awaits(waiting):
    target, _ = waiting
    sock, (_, said) = say_hello(target, "stranger")
    sock.close()
    assert said["op"] == "abort" and "stranger" in said["error"]


@pytest.mark.parametrize("said,why", [
    pytest.param(wire.message({"re": 1, "ok": True, "protocol": 99, "godwit": "9"}),
                 "speaks control protocol 99", id="version"),
    pytest.param(wire.message({"re": 1, "ok": True}), "protocol is not a number", id="no version"),
    pytest.param(wire.message({"re": 1, "ok": True, "protocol": 1, "godwit": "9"}),
                 "does not tell in hello what codecs it can", id="no capabilities"),
    pytest.param(wire.message({"re": 77, "ok": True}), "what was not asked", id="wrong answer"),
    pytest.param(wire.message({"op": "abort", "error": "no", "errno": 5}), "no", id="abort"),
    pytest.param(wire.message(b"x", kind=wire.BLOB), "nobody asked for", id="blob"),
    pytest.param(RANDOM(64), "", id="random"),
    pytest.param(b"", "is gone", id="nothing"),
])
def test_target_that_answers_nonsense(stage, both, said, why):
    source, _ = both
    vm = stage.vm(memory="16M")
    vm.wait_ticks()
    with socket.create_server(("127.0.0.1", 0)) as fake:
        fake.settimeout(godwit.WAIT_S)
        migration = godwit.Migration(source, "nonsense", vm,
                                     "127.0.0.1:%d" % fake.getsockname()[1])
        stage.children.append(migration)
        sock, _ = fake.accept()
        with sock:
            wire.receive(sock, 32)
            wire.receive_message(sock)
            sock.sendall(said)
            if not said:
                sock.shutdown(socket.SHUT_RDWR)
            error = migration.failed()["error"]
            assert error and why in error
    vm.wait_ticks()
    vm.whole()


@pytest.mark.parametrize("held", ["prepare", "save", "load"])
@pytest.mark.parametrize("what", ["random", "frame"])
def test_flow_that_carries_nonsense(stage, both, held, what):
    """A second, foreign connection can't get into a session whose token it does not know."""
    source, target = both
    between = stage.wire(target)
    between.hold(held, answer=True)
    vm, waiting = stage.vm(memory="16M"), stage.waiting(memory="16M")
    migration = stage.migrate(source, target, vm, waiting, to=between.address)
    between.wait()
    junk = RANDOM(4096) if what == "random" else struct.pack("<HBB60x", 0x4757, 1, 1)
    with dial(target) as sock:
        sock.sendall(wire.preamble(kind=wire.FLOW, token=RANDOM(16)) + junk)
        assert wire.closes(sock) is not None
    between.let_go()
    migration.done()
    waiting.wait_ticks()
    waiting.whole()


@pytest.mark.parametrize("data", [
    pytest.param(RANDOM(500), id="random"),
    pytest.param(wire.message({}), id="empty"),
    pytest.param(wire.message({"do": "x" * 3000}), id="unknown"),
    pytest.param(wire.message({"do": "migrate", "name": "../../x", "agent": "a", "to": "b"}),
                 id="name"),
    pytest.param(wire.message({"do": "migrate", "name": "x", "agent": 5, "to": []}), id="kinds"),
    pytest.param(wire.message(b"", length=1 << 31), id="oversized"),
    pytest.param(wire.message(b"b", kind=wire.BLOB), id="blob"),
    pytest.param(wire.message({"do": "list"})[:-1], id="truncated"),
])
def test_api(both, data):
    source, _ = both
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(source.api))
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        assert wire.closes(sock) is not None
    assert source.ok("list") is not None


def to_agent(kind, version=AGENT_VERSION):
    return struct.pack("<IHHIiQQ", 0x31415747, version, kind, 1, 0, 0, 0)


@pytest.mark.parametrize("data", [
    pytest.param(b"x", id="short"),
    pytest.param(RANDOM(32), id="random"),
    pytest.param(RANDOM(4128), id="random, long"),
    pytest.param(RANDOM(9000), id="too long"),
    pytest.param(to_agent(8), id="pause before hello"),
    pytest.param(to_agent(14), id="end before hello"),
    pytest.param(to_agent(999), id="unknown"),
    pytest.param(to_agent(1, version=9), id="version"),
])
def test_agent_socket(stage, both, data):
    """A stranger at the VMM's socket does not hurt the guest."""
    vm = stage.vm(memory="16M")
    vm.wait_ticks()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.connect(os.fspath(vm.agent))
        sock.settimeout(godwit.WAIT_S)
        sock.send(data)
        try:
            sock.recv(5000)
        except ConnectionResetError:
            pass
    vm.wait_ticks()
    stage.moved(*both, vm, memory="16M")
