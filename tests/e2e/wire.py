# SPDX-License-Identifier: BSD-3-Clause
"""Godwit's messages, spoken by a test: PROTOCOL.md, parts 2 and 4. And a wire that a test can
cut or hold at a message of its choice."""

import json
import socket
import struct
import threading

WAIT_S = 180.0  # for anything; no test is about speed, and a host may be busy
MAGIC = 0x6D67
JSON, BLOB = 1, 2
CONTROL, FLOW = 1, 2
BARRIER = 4
CAN = {"codecs": {"raw": 1}, "seals": {"none": 1}, "links": {"tcp": 1},
       "features": {"balloon": 1, "keep": 1, "resume": 1, "verify": 1}}


def preamble(kind=CONTROL, token=bytes(16), flow=0, magic=0x54574447, version=1):
    return struct.pack("<IHH16sII", magic, version, kind, token, flow, 0)


def message(body, kind=JSON, magic=MAGIC, version=1, length=None):
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    count = len(body) if length is None else length
    return struct.pack("<HBBI", magic, version, kind, count) + body


def receive(sock, count):
    """Exactly count bytes, or None at end of file."""
    data = b""
    while len(data) < count:
        try:
            piece = sock.recv(count - len(data))
        except ConnectionResetError:
            piece = b""
        if not piece:
            return None
        data += piece
    return data


def receive_message(sock):
    """(kind, body), or None at end of file."""
    head = receive(sock, 8)
    if head is None:
        return None
    magic, version, kind, length = struct.unpack("<HBBI", head)
    assert (magic, version) == (MAGIC, 1), "this is no message"
    body = receive(sock, length)
    if body is None:
        return None
    return kind, json.loads(body) if kind == JSON else body


def closes(sock, timeout=WAIT_S):
    """True when the other side closes; whatever it says before is returned as text."""
    sock.settimeout(timeout)
    said = b""
    try:
        while True:
            piece = sock.recv(65536)
            if not piece:
                return said.decode(errors="replace") or "closed"
            said += piece
    except ConnectionResetError:
        return said.decode(errors="replace") or "closed"
    except socket.timeout:
        return None


class Wire:
    """Listens, and forwards to a daemon's port. hold("load") stops at the request of that name,
    hold("load", answer=True) at its answer; held is set then, and let_go() or cut() goes on.
    hold_barriers() stops each flow before the end of a pass: a pass that is held can't be over.
    change(op, answer, body) may return another body; double(op, answer) lets a message come
    twice."""

    def __init__(self, port):
        self.to = ("127.0.0.1", port)
        self.held = threading.Event()
        self.holding = False
        self.barrier_held = threading.Event()
        self.barriers_free = threading.Semaphore(0)
        self.free = threading.Event()
        self.stop_at = None
        self.op = None
        self.change = None
        self.twice = None
        self.socks, self.flows = [], []
        self.control = None
        self.closing = False
        self.listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self):
        return "127.0.0.1:%d" % self.listener.getsockname()[1]

    def hold(self, op, answer=False):
        self.stop_at = (op, answer)
        self.held.clear()
        self.free.clear()

    def double(self, op, answer=False):
        self.twice = (op, answer)

    def wait(self):
        assert self.held.wait(WAIT_S), f"{self.stop_at} never came over the wire"

    def say(self, body):
        """To the source, on its control connection, as if the target had said it."""
        self.control.sendall(message(body))

    def hold_barriers(self):
        self.holding = True

    def wait_barrier(self):
        assert self.barrier_held.wait(WAIT_S), "no pass came to its end"

    def let_barrier_go(self):
        self.barrier_held.clear()
        self.barriers_free.release()

    def let_go(self):
        self.stop_at = None
        self.free.set()
        self.holding = False

    def cut(self, socks=None):
        """Ends all connections, or these; the message that is held never arrives."""
        self.closing = True
        for sock in list(self.socks if socks is None else socks):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.free.set()
        self.holding = False
        self.closing = False

    def close(self):
        self.listener.close()
        self.cut()
        for sock in self.socks:
            sock.close()

    def _accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near):
        try:
            head = receive(near, 32)
            far = socket.create_connection(self.to)
            self.socks += [near, far]
            far.sendall(head)
        except (OSError, TypeError):
            near.close()
            return
        control = struct.unpack_from("<H", head, 6)[0] == CONTROL
        if control:
            self.control = near
        else:
            self.flows += [near, far]
        pump = self._messages if control else self._bytes
        for answer, a, b in ((False, near, far), (True, far, near)):
            threading.Thread(target=pump, args=(a, b, answer), daemon=True).start()

    def _bytes(self, a, b, answer):
        try:
            while True:
                data = a.recv(1 << 18) if answer else self._frame(a)
                if not data:
                    break
                b.sendall(data)
            b.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def _frame(self, a):
        """A frame of the source, PROTOCOL.md part 3: its header names its kind and its length."""
        head = receive(a, 64)
        if head is None:
            return None
        body = receive(a, struct.unpack_from("<I", head, 28)[0])
        if head[3] == BARRIER and self.holding:
            self.barrier_held.set()
            while self.holding and not self.barriers_free.acquire(timeout=0.1):
                pass
        return None if body is None else head + body

    def _messages(self, a, b, answer):
        try:
            while True:
                head = receive(a, 8)
                if head is None:
                    break
                _, _, kind, length = struct.unpack("<HBBI", head)
                body = receive(a, length)
                if kind == JSON:
                    said = json.loads(body)
                    if not answer:
                        self.op = said.get("op")
                    if self.stop_at == (self.op, answer) and "error" not in said:
                        self.held.set()
                        self.free.wait()
                    if self.change:
                        head, body = b"", message(self.change(self.op, answer, said))
                b.sendall(head + body)
                if kind == JSON and self.twice == (self.op, answer):
                    b.sendall(head + body)
            b.shutdown(socket.SHUT_WR)
        except (OSError, TypeError, ValueError):
            pass
