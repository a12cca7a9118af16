# SPDX-License-Identifier: BSD-3-Clause
"""The guest's network: a bridge in a network namespace of its own, with a tap for each QEMU, as two
hosts on one segment have it; and the other end of the guest's TCP connection."""

import ctypes
import fcntl
import itertools
import os
import socket
import struct
import subprocess
import threading

from godwit import LIBC, WAIT_S, wait_until

CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x0002, 0x1000, 0x4000
GUEST = ("10.77.0.2", 7)
numbers = itertools.count()


def ip(*args):
    done = subprocess.run(["ip", *map(str, args)], capture_output=True, text=True)
    assert done.returncode == 0, f"ip {' '.join(map(str, args))}: {done.stderr.strip()}"


class Net:
    def __init__(self):
        self.name = f"gw{os.getpid()}n{next(numbers)}"
        self.taps = itertools.count()
        ip("netns", "add", self.name)
        try:
            # An address of its own: else it is that of a tap, and goes with the QEMU that left.
            ip("-n", self.name, "link", "add", "br0", "address", "52:54:00:77:00:01", "type",
               "bridge", "forward_delay", 0)
            ip("-n", self.name, "addr", "add", "10.77.0.1/24", "dev", "br0")
            ip("-n", self.name, "link", "set", "br0", "up")
        except AssertionError:
            self.close()
            raise

    def within(self, function):
        """What function returns in the namespace: a thread goes there, and ends."""
        found = []

        def run():
            try:
                with open(f"/run/netns/{self.name}", "rb") as space:
                    if LIBC.setns(space.fileno(), CLONE_NEWNET) != 0:
                        raise OSError(ctypes.get_errno(), "setns")
                found.append((function(), None))
            except OSError as e:
                found.append((None, e))

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        value, error = found[0]
        if error:
            raise error
        return value

    def tap(self):
        """The descriptor of a new tap on the bridge; it is gone when the last one is closed."""
        name = f"tap{next(self.taps)}"

        def make():
            fd = os.open("/dev/net/tun", os.O_RDWR)
            fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(),
                                                   IFF_TAP | IFF_NO_PI | IFF_VNET_HDR))
            return fd

        fd = self.within(make)
        ip("-n", self.name, "link", "set", name, "master", "br0", "up")
        return fd

    def talk(self):
        return Talk(self)

    def close(self):
        subprocess.run(["ip", "netns", "del", self.name], capture_output=True)


class Talk:
    """One TCP connection to the guest's echo, kept busy by a thread until closed."""

    def __init__(self, net):
        def connect():
            with socket.socket() as s:
                s.settimeout(5)
                if s.connect_ex(GUEST) == 0:
                    return s.dup()
            return None
        self.socket = wait_until("the guest takes a connection", lambda: net.within(connect))
        self.socket.settimeout(WAIT_S)
        self.turns = 0
        self.error = None
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        try:
            while not self.stop.wait(0.02):
                said = struct.pack(">Q", self.turns) * 64
                self.socket.sendall(said)
                heard = b""
                while len(heard) < len(said):
                    more = self.socket.recv(len(said) - len(heard))
                    if not more:
                        raise ConnectionError("the guest closed the connection")
                    heard += more
                if heard != said:
                    raise ConnectionError(f"turn {self.turns}: the echo is another one")
                self.turns += 1
        except OSError as e:
            self.error = e

    def goes_on(self):
        """The same connection takes more."""
        before = self.turns
        wait_until("the guest's TCP connection goes on",
                   lambda: self.error or self.turns >= before + 5)
        assert not self.error, f"the guest's TCP connection after {self.turns} turns: {self.error}"

    def close(self):
        self.stop.set()
        self.socket.close()
        self.thread.join(5)
