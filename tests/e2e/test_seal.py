# SPDX-License-Identifier: BSD-3-Clause
"""Sealed flows: what an attacker on the wire can see and do. Flows are not TLS, so a wire can stand
between their ends; the control connection is."""

import contextlib
import socket
import threading

import pytest

import godwit
import wire


class Tap:
    """Forwards to a daemon's port, keeps what went by on the flows, and spoils it as told."""

    def __init__(self, port, spoil=None):
        self.to = ("127.0.0.1", port)
        self.spoil = spoil
        self.flows = []  # what went to the target on each connection of a flow
        self.replay = False  # what the first one carried, and no more, goes on the next ones
        self.seen = {False: bytearray(), True: bytearray()}  # by direction: to the target, back
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.socks = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self):
        return "127.0.0.1:%d" % self.listener.getsockname()[1]

    def _accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            far = socket.create_connection(self.to)
            self.socks += [near, far]
            head = wire.receive(near, 32)
            far.sendall(head)
            flow = bytearray() if head[6] == wire.FLOW else None
            if flow is not None:
                if self.replay:
                    with contextlib.suppress(OSError):
                        far.sendall(self.flows[0])
                    continue
                self.flows.append(flow)
            for back, a, b in ((False, near, far), (True, far, near)):
                threading.Thread(target=self._pump, args=(flow, back, a, b), daemon=True).start()

    def _pump(self, flow, back, a, b):
        try:
            while True:
                data = a.recv(1 << 18)
                if not data:
                    break
                if flow is not None:
                    self.seen[back] += data
                    if not back:
                        flow += data
                    if self.spoil is not None:
                        data = self.spoil(self, back, data)
                b.sendall(data)
            b.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def cut(self):
        for sock in self.socks:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def close(self):
        self.listener.close()
        for sock in self.socks:
            sock.close()


@pytest.fixture
def tapped(stage):
    """source, target, guest, waiting VM and a tap before the target."""
    made = []

    def make(spoil=None, receive=(), **how):
        source, target = stage.source(**how), stage.target(**how)
        vm = stage.vm(memory="16M", args=["--rate", "200", "--pattern", "random"])
        waiting = stage.waiting(memory="16M")
        made.append(Tap(target.port, spoil))
        target.ok("receive", "guest", "--agent", waiting.agent, "--detach", *receive)

        def migrate(*args):
            child = godwit.Migration(source, "guest", vm, made[0].address, *args)
            stage.children.append(child)
            return child
        return source, target, vm, waiting, made[0], migrate
    yield make
    for tap in made:
        tap.close()


@pytest.mark.smoke
def test_nothing_of_a_page_is_on_the_wire(tapped):
    source, target, vm, waiting, tap, migrate = tapped()
    last = vm.wait_ticks()
    secrets = [page[i:i + 16] for page in godwit.pages_of(vm)[:200] for i in (0, 1024, 4080)]
    assert len(secrets) > 100
    report = migrate("--verify", "memory").done()
    assert report["seal"].startswith("aes-256-gcm by ")
    assert report["pages_torn"] == 0
    assert target.status("guest")["report"]["seal"] == report["seal"]
    assert waiting.wait_ticks() > last
    waiting.whole()
    seen = bytes(tap.seen[False] + tap.seen[True])
    assert len(seen) > 1 << 20
    assert not [s for s in secrets if any(s) and s in seen], "a piece of a page went in plain text"


def test_plain_text_would_show_them(tapped):
    """The test above can see what it looks for."""
    source, target, vm, waiting, tap, migrate = tapped(receive=["--seal", "none"])
    vm.wait_ticks()
    secrets = [page[i:i + 16] for page in godwit.pages_of(vm)[:200] for i in (0, 1024, 4080)]
    report = migrate("--seal", "none").done()
    assert report["seal"] == "none"
    seen = bytes(tap.seen[False])
    assert [s for s in secrets if any(s) and s in seen]
    waiting.wait_ticks()
    waiting.whole()


def flip(tap, back, data):
    if not back and len(tap.seen[False]) > 300000 and not hasattr(tap, "done"):
        tap.done = True
        data = bytearray(data)
        data[len(data) // 2] ^= 1
    return data


def repeat(tap, back, data):
    if not back and len(tap.seen[False]) > 300000 and not hasattr(tap, "done"):
        tap.done = True
        return data + data
    return data


def leave_out(tap, back, data):
    if not back and len(tap.seen[False]) > 300000 and not hasattr(tap, "done"):
        tap.done = True
        return data[:len(data) // 2]
    return data


def reflect(tap, back, data):
    """The source gets back what it sent, as if it were an answer."""
    if back and not hasattr(tap, "done") and len(tap.seen[False]) > 300000:
        tap.done = True
        return bytes(tap.seen[False][:len(data)])
    return data


@pytest.mark.parametrize("spoil", [flip, repeat, leave_out, reflect])
def test_spoilt(tapped, stage, spoil):
    """The migration ends, the guest runs on at the source, and goes by a wire that is whole."""
    source, target, vm, waiting, tap, migrate = tapped(spoil)
    vm.wait_ticks()
    end = migrate("--bandwidth", "8M").failed()
    assert hasattr(tap, "done"), "nothing was spoilt"
    assert end["result"] == "failed"
    vm.wait_ticks()
    vm.whole()
    stage.moved(source, target, vm, memory="16M")


@pytest.mark.parametrize("replay", [pytest.param(False, marks=pytest.mark.long), True])
def test_resumed_with_new_keys(tapped, stage, replay):
    """The network was lost and is back: what a flow carried before opens nothing now. Under the
    keys of before these would be frames of a pass that is over, and nobody would say a word."""
    source, target, vm, waiting, tap, migrate = tapped()
    vm.wait_ticks()
    moving = migrate("--flows", 1, "--bandwidth", "8M", "--reconnect", "60s")
    godwit.wait_until("frames went by", lambda: len(tap.seen[False]) > 300000)
    tap.replay = replay
    tap.cut()
    if replay:
        assert moving.failed()["report"]["reconnects"] == 1
        target.wait_line("its seal does not match")
        vm.wait_ticks()
        vm.whole()
        return
    godwit.wait_until("a flow is back", lambda: len(tap.flows) > 1)
    source.ok("set", "guest", "--bandwidth", 0)
    assert moving.done()["reconnects"] == 1
    waiting.wait_ticks()
    waiting.whole()


@pytest.mark.parametrize("here,there", [("none", "auto"), ("none", "aes-256-gcm"), ("auto", "none"),
                                        ("aes-256-gcm", "none")])
def test_both_must_ask_for_none(tapped, here, there):
    source, target, vm, waiting, tap, migrate = tapped(receive=["--seal", there])
    end = migrate("--seal", here).failed()
    assert end["result"] == "refused"
    assert "ask for the same on both hosts" in end["error"]
    vm.wait_ticks()


def test_insecure_can_not_seal(tapped, stage):
    stage.secure = False
    source, target, vm, waiting, tap, migrate = tapped()
    end = migrate("--seal", "aes-256-gcm").failed()
    assert "needs keys that come from TLS" in end["error"]
    migrate_again = migrate()
    end = migrate_again.end()
    assert end["result"] in ("done", "refused"), end
