# SPDX-License-Identifier: BSD-3-Clause
"""Sealed flows over a port: what an attacker on the cable can see and do. He reads every datagram,
and sends what he likes, as it would come from either daemon."""

import random
import socket
import struct
import threading

import pytest

import godwit
from fabric import Cable, Capture, Memif, checksum, udp_of
from godwit import pages_of

HEAD, TAG, DATA, ACK = 40, 24, 1, 3
GUEST = {"memory": "16M", "args": ["--rate", "500", "--pattern", "random"]}


def secrets_of(vm):
    return [page[at:at + 16] for page in pages_of(vm)[:100] for at in (0, 4080)]


def moved_in_sight(stage, receive=(), *args):
    """A migration over a cable, and all datagrams that passed it."""
    source, target, net = stage.joined(Cable)
    seen = net.capture()
    vm, waiting = stage.vm(**GUEST), stage.waiting(memory="16M")
    last = vm.wait_ticks()
    secrets = secrets_of(vm)
    assert len(secrets) > 100
    report = stage.migrate(source, target, vm, waiting, "guest", "--link", "nic", "--verify",
                           "memory", *args, receive=receive).done()
    assert waiting.wait_ticks() > last
    waiting.whole()
    datagrams = [found[2] for side in seen for found in map(udp_of, side.close()) if found]
    return report, secrets, b"".join(datagrams), datagrams


def test_nothing_of_a_page_is_on_the_cable(stage):
    report, secrets, seen, datagrams = moved_in_sight(stage)
    assert report["seal"].startswith("aes-256-gcm by ") and report["pages_torn"] == 0
    assert not report["port"]["zero_copy"]
    assert len(seen) > 1 << 20 and {d[3] for d in datagrams} == {1, 2, 3, 4}
    assert not [s for s in secrets if any(s) and s in seen], "a piece of a page went in plain text"


def test_plain_text_would_show_them(stage):
    """The test above can see what it looks for."""
    report, secrets, seen, _ = moved_in_sight(stage, ["--seal", "none"], "--seal", "none")
    assert report["seal"] == "none"
    assert [s for s in secrets if any(s) and s in seen]


@pytest.mark.parametrize("seal", ["auto", pytest.param("none", marks=pytest.mark.long)])
def test_nothing_of_a_page_goes_by_the_kernel_either(stage, seal):
    """Flows over tcp, with what the daemons say to each other: all that is on either cable. Without
    a seal the same look finds pages."""
    source, target, net = stage.joined(Cable)
    seen = net.capture("data", "ctl")
    vm, waiting = stage.vm(**GUEST), stage.waiting(memory="16M")
    vm.wait_ticks()
    secrets = secrets_of(vm)
    assert len(secrets) > 100
    report = stage.migrate(source, target, vm, waiting, "guest", "--link", "tcp", "--seal", seal,
                           "--verify", "memory", receive=["--seal", seal]).done()
    assert (report["seal"] == "none") == (seal == "none")
    waiting.wait_ticks()
    waiting.whole()
    wire = b"".join(frame for side in seen for frame in side.close())
    assert len(wire) > 1 << 20
    assert any(s in wire for s in secrets if any(s)) == (seal == "none")


class Attacker:
    """Sees what comes to the target and to the source, and answers with packets of his own."""

    def __init__(self, net):
        self.sent = {"replayed": 0, "forged": 0, "reflected": 0, "moved on": 0}
        self.token = None  # that the source wants to see
        self.chance = random.Random(1)
        self.over = False
        self.out, self.taps = [], []
        for side in (0, 1):
            with net.inside(side):
                raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
                raw.bind(("data", 0))
                self.out.append(raw)
                self.taps.append(Capture("data", most=1 << 20))
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        at = [0, 0]
        while not self.over:
            for side in (0, 1):
                frames = self.taps[side].frames
                for frame in frames[at[side]:at[side] + 64]:
                    at[side] += 1
                    found = udp_of(frame)
                    if found:
                        self.meet(frame, found[2])

    def meet(self, frame, datagram):
        if datagram[3] == ACK:
            self.token = datagram[8:16]
        if datagram[3] != DATA or len(datagram) < 200 or self.chance.random() > 0.1:
            return
        head = len(frame) - len(datagram)
        self.inject("replayed", 0, frame)
        spoilt = bytearray(frame)
        spoilt[head + self.chance.randrange(HEAD, len(datagram))] ^= 1
        self.inject("forged", 0, spoilt)
        later = bytearray(frame)
        number = struct.unpack_from("<Q", frame, head + 16)[0]
        struct.pack_into("<Q", later, head + 16, number + 3000)
        self.inject("moved on", 0, later)
        if self.token:
            self.inject("reflected", 1, self.reflection(frame, head))

    def reflection(self, frame, head):
        """What the source said, as if the target did, with the token that the source looks for."""
        back = bytearray(frame)
        back[0:12] = frame[6:12] + frame[0:6]
        back[26:34] = frame[30:34] + frame[26:30]
        back[34:38] = frame[36:38] + frame[34:36]
        back[head + 8:head + 16] = self.token
        assert checksum(bytes(back[14:34])) == 0
        return back

    def inject(self, what, side, frame):
        """From that side, to the other."""
        try:
            self.out[side].send(frame)
            self.sent[what] += 1
        except OSError:
            pass

    def close(self):
        self.over = True
        self.thread.join(5)
        for tap in self.taps:
            tap.close()
        for raw in self.out:
            raw.close()


def test_attacked(stage):
    """None of it reaches the guest, ends the migration, or passes for what it claims to be."""
    source, target, net = stage.joined(Cable)
    vm, waiting = stage.vm(**GUEST), stage.waiting(memory="16M")
    last = vm.wait_ticks()
    attacker = Attacker(net)

    def is_met(daemon):
        port = (daemon.status("guest") or {}).get("report", {}).get("port", {})
        return port.get("packets_bad", 0) > 0

    try:
        migration = stage.migrate(source, target, vm, waiting, "guest", "--link", "nic",
                                  "--bandwidth", "16M", "--verify", "memory", "--hold")
        godwit.wait_until("all kinds of attack were tried", lambda: all(attacker.sent.values()))
        godwit.wait_until("what was forged came to the target", lambda: is_met(target))
        godwit.wait_until("what was reflected came to the source", lambda: is_met(source))
        source.ok("switch-now", "guest")
        report = migration.done()
    finally:
        attacker.close()
    assert report["verified_pages"] > 0 and report["pages_torn"] == 0
    assert waiting.wait_ticks() > last
    waiting.whole()


def test_zero_copy_and_seal_exclude_each_other(stage):
    """Who asks for both is told, and which of them to leave out."""
    source, target, _ = stage.joined(Memif, mtu=9000, more="zero-copy = yes\n")
    vm, waiting = stage.vm(memory="32M"), stage.waiting(memory="32M")
    vm.wait_ticks()
    end = stage.migrate(source, target, vm, waiting, "guest", "--link", "nic").failed()
    assert end["result"] == "refused" and "sealed ones can't be" in end["error"]
    target.run("cancel", "guest")
    vm.wait_ticks()
    report = stage.migrate(source, target, vm, waiting, "again", "--link", "nic", "--seal",
                           "none", receive=["--seal", "none"]).done()
    assert report["port"]["zero_copy"]
    waiting.wait_ticks()
    waiting.whole()
