# SPDX-License-Identifier: BSD-3-Clause
"""A TCP cord between two daemons that a test cuts and joins again, whatever is spoken in it: bytes
go through, stop, or their connections are reset on one side or both."""

import select
import socket
import struct
import threading


def reset(sock):
    """As a network's end looks like to the one who has to hear of it at once."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except OSError:
        pass
    sock.close()


class Pair:
    def __init__(self, near, far):
        self.near, self.far = near, far


class Cord:
    """passing: bytes go on, and new connections are taken."""

    def __init__(self, port):
        self.to = ("127.0.0.1", port)
        self.passing = True
        self.pairs = []
        self.lock = threading.Lock()
        self.over = False
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    @property
    def address(self):
        return "127.0.0.1:%d" % self.listener.getsockname()[1]

    def silence(self):
        """Nothing passes, and nobody is told."""
        with self.lock:
            self.passing = False

    def cut(self, near=True, far=True, which=slice(None)):
        """Nothing passes; the source (near), the target (far) or both hear of it: for those of the
        connections, in the order they were made."""
        with self.lock:
            self.passing = False
            for pair in self.pairs[which]:
                if near and pair.near:
                    reset(pair.near)
                    pair.near = None
                if far and pair.far:
                    reset(pair.far)
                    pair.far = None

    def join(self):
        with self.lock:
            self.passing = True

    def close(self):
        self.over = True
        self.thread.join(5)
        self.listener.close()
        self.cut()

    def _run(self):
        while not self.over:
            with self.lock:
                ends = {}
                for pair in self.pairs:
                    if self.passing and pair.near and pair.far:
                        ends[pair.near], ends[pair.far] = pair.far, pair.near
                listen = [self.listener] if self.passing else []
            try:
                ready = select.select([*ends, *listen], [], [], 0.02)[0]
            except (OSError, ValueError):
                continue  # cut meanwhile
            with self.lock:
                if not self.passing:
                    continue
                for sock in ready:
                    if sock is self.listener:
                        self._accept()
                    elif sock.fileno() >= 0:
                        self._pass(sock, ends[sock])

    def _accept(self):
        near, _ = self.listener.accept()
        try:
            far = socket.create_connection(self.to)
        except OSError:
            reset(near)
            return
        self.pairs.append(Pair(near, far))

    def _pass(self, a, b):
        """What one end has said, and its end."""
        try:
            data = a.recv(1 << 18)
            if data:
                b.sendall(data)
                return
        except OSError:
            pass
        for pair in self.pairs:
            if a in (pair.near, pair.far) and pair.near and pair.far:
                pair.near.close()
                pair.far.close()
                pair.near = pair.far = None
