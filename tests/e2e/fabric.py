# SPDX-License-Identifier: BSD-3-Clause
"""Networks between two daemons that own a port each: a shared-memory interface, a virtual switch's
vhost socket, a cable between two network namespaces. Made for a test, gone after it."""

import contextlib
import ctypes
import os
import pathlib
import socket
import struct
import subprocess
import threading

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000
ETH_P_ALL = 3
SOL_PACKET, PACKET_AUXDATA, TP_STATUS_VLAN_VALID = 263, 8, 0x10
AUXDATA = struct.Struct("I12xHH")
ADDRESSES = {"ipv4": ("198.51.100.1/24", "198.51.100.2/24"),
             "ipv6": ("2001:db8:7::1/64", "2001:db8:7::2/64")}
COUNT = iter(range(1000))


class Missing(Exception):
    """This host can't have that network; the reason."""


def section(name, device, number, mtu, queues, family, more=""):
    return (f"[port {name}]\ndevice = {device}\n{family} = {ADDRESSES[family][number]}\n"
            f"mtu = {mtu}\nqueues = {queues}\n{more}")


class Network:
    """What a daemon needs to be on it: for side 0 (source) and 1 (target) the sections of its
    configuration file, its network namespace, and the address of its control port."""

    def __init__(self, folder, queues=1, mtu=1500, family="ipv4", more=""):
        self.folder = folder
        self.queues, self.mtu, self.family, self.more = queues, mtu, family, more
        self.make()

    def make(self):
        pass

    def close(self):
        pass

    def device(self, side):
        raise NotImplementedError

    def daemon(self, side):
        name = ("data0", "wire1")[side]
        return {"ports": section(name, self.device(side), side, self.mtu, self.queues, self.family,
                                 self.more)}


class Memif(Network):
    """The target serves, so it has to be there first."""

    def device(self, side):
        role = ("client", "server")[side]
        size = 1 << (self.mtu + 63).bit_length()
        return f"net_memif0,role={role},id=0,socket={self.folder}/memif,bsize={size}"


class Vhost(Network):
    """A virtio device at the source, its other half at the target, which has to be there first."""

    def device(self, side):
        path = f"{self.folder}/vhost"
        return f"net_vhost0,iface={path},queues={self.queues}" if side else \
            f"virtio_user0,path={path},queues={self.queues}"


class Cable(Network):
    """Two network namespaces with a veth for pages, on which the kernel has no address, and one for
    the daemons' control connection."""

    def make(self):
        stem = f"gw{os.getpid()}-{next(COUNT)}"
        self.spaces = [f"{stem}s", f"{stem}t"]
        self.dumps = []
        try:
            for space in self.spaces:
                self.ip("netns", "add", space)
                self.ip("-n", space, "link", "set", "lo", "up")
            self.veth("data", self.mtu)
            self.veth("ctl", 1500)
            for n, space in enumerate(self.spaces):
                self.ip("-n", space, "addr", "add", f"192.0.2.{n + 1}/24", "dev", "ctl")
        except Missing:
            self.close()
            raise

    @staticmethod
    def ip(*args):
        done = subprocess.run(["ip", *map(str, args)], capture_output=True, text=True, timeout=180,
                              stdin=subprocess.DEVNULL)
        if done.returncode:
            raise Missing(f"ip {' '.join(map(str, args))}: {done.stderr.strip()}")

    def veth(self, name, mtu):
        here, there = self.spaces
        self.ip("link", "add", name, "netns", here, "mtu", mtu, "type", "veth",
                "peer", "name", name, "netns", there, "mtu", mtu)
        for space in self.spaces:
            self.ip("-n", space, "link", "set", name, "up")

    def close(self):
        for dump in self.dumps:
            dump.child.kill()
            dump.child.wait()
        for space in self.spaces:
            subprocess.run(["ip", "netns", "del", space], capture_output=True, timeout=180,
                           stdin=subprocess.DEVNULL, check=False)

    def device(self, side):
        # A frame of the ring holds a packet with its headers; four are a block.
        frame = 2048 if self.mtu <= 1500 else 16384
        return f"net_af_packet0,iface=data,qpairs={self.queues},framesz={frame}," \
               f"blocksz={4 * frame},framecnt=512"

    def daemon(self, side):
        return dict(super().daemon(side), netns=self.spaces[side], host=f"192.0.2.{side + 1}")

    def shrink(self, mtu):
        """What passes is less than what the ports were told."""
        for space in self.spaces:
            self.ip("-n", space, "link", "set", "data", "mtu", mtu)

    def cut(self):
        self.ip("-n", self.spaces[1], "link", "set", "data", "down")

    def mend(self):
        self.ip("-n", self.spaces[1], "link", "set", "data", "up")

    @contextlib.contextmanager
    def inside(self, side):
        """The calling thread is in that network namespace."""
        with open("/proc/thread-self/ns/net", "rb") as home, \
                open(pathlib.Path("/run/netns") / self.spaces[side], "rb") as there:
            if LIBC.setns(there.fileno(), CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")
            try:
                yield
            finally:
                LIBC.setns(home.fileno(), CLONE_NEWNET)

    def capture(self, *names):
        """Of both directions: each is seen where it arrives. names: of the cables."""
        made = []
        for name in names or ("data",):
            for side in (0, 1):
                with self.inside(side):
                    made.append(Capture(name))
        return made


    def dump(self):
        """The same of the pages' cable, by tcpdump."""
        for side in (0, 1):
            self.dumps.append(Dump(self.spaces[side], "data", self.folder / f"side{side}.pcap"))
        return self.dumps


class Taps(Network):
    """Two tap devices, which the daemons make, on a bridge of the kernel's. Nothing says of their
    driver that it has read a packet when it took it, so guest memory is mapped for it."""

    def make(self):
        self.space = f"gw{os.getpid()}-{next(COUNT)}b"
        Cable.ip("netns", "add", self.space)
        try:
            Cable.ip("-n", self.space, "link", "set", "lo", "up")
            Cable.ip("-n", self.space, "link", "add", "bridge", "mtu", self.mtu, "type", "bridge")
            Cable.ip("-n", self.space, "link", "set", "bridge", "up")
        except Missing:
            self.close()
            raise

    def close(self):
        subprocess.run(["ip", "netns", "del", self.space], capture_output=True, timeout=180,
                       stdin=subprocess.DEVNULL, check=False)

    def device(self, side):
        return f"net_tap0,iface=tap{side}"

    def daemon(self, side):
        return dict(super().daemon(side), netns=self.space)

    def up(self):
        """Both daemons run: their devices are there. The kernel's end of each gets an address of
        its own, for a bridge keeps what is for its ports' ends."""
        for side in (0, 1):
            Cable.ip("-n", self.space, "link", "set", f"tap{side}", "address",
                     f"02:00:00:00:00:{side + 1:02x}", "master", "bridge", "up")


class Capture:
    """All that arrives at an interface from now on, with the VLAN tags that the kernel took off."""

    def __init__(self, interface, most=20000):
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 20)
        self.socket.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        self.socket.bind((interface, 0))
        self.socket.settimeout(0.2)
        self.frames = []
        self.most = most
        self.over = False
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.over and len(self.frames) < self.most:
            try:
                frame, more, _, _ = self.socket.recvmsg(65536, socket.CMSG_SPACE(AUXDATA.size))
            except TimeoutError:
                continue
            for level, kind, data in more:
                if level == SOL_PACKET and kind == PACKET_AUXDATA:
                    status, tci, tpid = AUXDATA.unpack(data[:AUXDATA.size])
                    if status & TP_STATUS_VLAN_VALID:
                        frame = frame[:12] + struct.pack("!HH", tpid, tci) + frame[12:]
            self.frames.append(frame)

    def close(self):
        """Returns the frames."""
        self.over = True
        self.thread.join(5)
        self.socket.close()
        return self.frames


class Dump:
    """All that arrives at an interface from now on, as tcpdump writes it to a file."""

    HEAD, RECORD = struct.Struct("=IHHiIII"), struct.Struct("=IIII")

    def __init__(self, space, interface, path):
        self.path = path
        self.child = subprocess.Popen(
            ["ip", "netns", "exec", space, "tcpdump", "-i", interface, "-Q", "in", "-U", "-s", "0",
             "-B", "16384", "-Z", "root", "-w", str(path)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        said = self.child.stderr.readline()
        while said and "listening on" not in said:
            said = self.child.stderr.readline()
        assert said, "tcpdump does not listen"

    def frames(self):
        """What it has written so far: up to a second behind what came."""
        data = self.path.read_bytes()
        frames, at = [], self.HEAD.size
        if len(data) < at:
            return frames
        magic, _, _, _, _, _, link = self.HEAD.unpack_from(data)
        assert magic in (0xa1b2c3d4, 0xa1b23c4d) and link == 1, "not a capture of Ethernet frames"
        while at + self.RECORD.size <= len(data):
            _, _, kept, whole = self.RECORD.unpack_from(data, at)
            at += self.RECORD.size
            assert kept == whole, "a frame is not whole"
            if at + kept > len(data):
                break
            frames.append(data[at:at + kept])
            at += kept
        return frames

    def close(self):
        """Returns the frames; those of the last second may not be among them."""
        self.child.terminate()
        self.child.communicate(timeout=30)
        return self.frames()


def checksum(data):
    """RFC 1071; 0 over data that holds a right checksum."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return total ^ 0xffff


def udp_of(frame):
    """(source address, source port, payload) of a frame that is UDP over IPv4 or IPv6, checked;
    None for another one."""
    kind, at = struct.unpack("!H", frame[12:14])[0], 14
    if kind == 0x8100:
        kind, at = struct.unpack("!H", frame[16:18])[0], 18
    if kind == 0x0800:
        header = frame[at:at + 4 * (frame[at] & 15)]
        if header[9] != socket.IPPROTO_UDP:
            return None
        assert checksum(header) == 0, "the checksum of an IPv4 header is wrong"
        total = struct.unpack("!H", header[2:4])[0]
        source, pseudo = header[12:16], header[12:20]
        udp = frame[at + len(header):at + total]
    elif kind == 0x86dd:
        header = frame[at:at + 40]
        if header[6] != socket.IPPROTO_UDP:
            return None
        source, pseudo = header[8:24], header[8:40]
        udp = frame[at + 40:at + 40 + struct.unpack("!H", header[4:6])[0]]
    else:
        return None
    port, _, length, said = struct.unpack("!HHHH", udp[:8])
    assert length == len(udp), "the length of a UDP datagram is wrong"
    if said or kind == 0x86dd:
        # In IPv6 the pseudo header has length and protocol at other places; the sum is the same.
        assert checksum(pseudo + struct.pack("!HH", length, socket.IPPROTO_UDP) + udp) == 0, \
            "the checksum of a UDP datagram is wrong"
    return source, port, udp[8:]
