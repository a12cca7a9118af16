# SPDX-License-Identifier: BSD-3-Clause
"""Someone on the cable between two machines that speak RoCE v2: he sees every packet, keeps what
the connections carry, cuts them, and gives the next ones what he kept in place of their own, with
sums that are right. The machine of a case tells him what to do with a datagram to port 9, which he
swallows: a word, and what it is about."""

import collections
import pathlib
import socket
import struct
import threading
import zlib

ROCE_PORT, TELL_PORT = 4791, 9
TELL = b"on the cable: "
BTH, RETH, IMM, SUM = 12, 16, 4, 4
CM_QPN = 1
# Of reliable connections: what stands between the first header and the payload, by opcode; other
# packets carry none. Those that end a message of the link.
EXTENDED = {0: 0, 1: 0, 2: 0, 4: 0, 6: RETH, 7: 0, 8: 0, 9: IMM, 10: RETH, 11: RETH + IMM}
ENDS = (2, 4, 9, 11)
KEEPS = 12, 2  # messages there and back, before a cut


def datagram_of(frame):
    """Where IP and UDP begin, and the port that it goes to; None: it is none, or not IPv4."""
    if frame[12:14] != b"\x08\x00" or frame[23] != 17:
        return None
    udp = 14 + 4 * (frame[14] & 15)
    return 14, udp, struct.unpack_from(">H", frame, udp + 2)[0]


def sum_of(frame, ip, udp):
    """The invariant CRC: of all but what changes on the way, which counts as ones."""
    text = bytearray(b"\xff" * 8 + frame[ip:-SUM])
    ip, udp = 8, 8 + udp - ip
    for at in (ip + 1, ip + 8, ip + 10, ip + 11, udp + 6, udp + 7, udp + 8 + 4):
        text[at] = 0xff
    return struct.pack("<I", zlib.crc32(text))


class Packet:
    """One of a connection, whose payload may be exchanged."""

    def __init__(self, frame, ip, udp):
        self.frame, self.ip, self.udp = frame, ip, udp
        bth = udp + 8
        self.opcode = frame[bth]
        self.qpn = int.from_bytes(frame[bth + 5:bth + 8], "big")
        self.psn = int.from_bytes(frame[bth + 9:bth + 12], "big")
        self.at = bth + BTH + EXTENDED.get(self.opcode, 0)
        self.carries = self.qpn != CM_QPN and self.opcode in EXTENDED

    @property
    def payload(self):
        return self.frame[self.at:-SUM]

    def carrying(self, payload):
        frame = bytearray(self.frame)
        frame[self.at:-SUM] = payload
        frame[self.udp + 6:self.udp + 8] = b"\0\0"
        frame[-SUM:] = sum_of(frame, self.ip, self.udp)
        return bytes(frame)


class Connection:
    """What goes to one queue pair, message by message."""

    def __init__(self, kept):
        self.kept = kept    # messages of one before the cut, or none
        self.messages = []  # payloads of the packets of each
        self.held = []      # packets of the one that comes
        self.next_psn = None
        self.given = {}     # what was given for a packet, by number: it may be sent again


class Eavesdropper:
    """Stands between a machine that listens at one path and one that connects to another."""

    def __init__(self, path, to):
        self.to = pathlib.Path(to)
        self.lock = threading.Lock()
        self.told("keep", "")
        self.seen = collections.defaultdict(bytearray)  # payloads, by the name of the case
        self.replayed = collections.Counter()           # messages, the same way
        self.wrong = 0  # sums
        self.socks = []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(1)
        threading.Thread(target=self._run, daemon=True).start()

    def told(self, word, about):
        """keep NAME: from now on; keep-and-cut NAME: and no RoCE comes through once there is
        something to give back; replay WAY: it does again, and what goes there or back is what was
        kept."""
        if word != "replay":
            self.name = about
            self.connections = ({}, {})  # there and back
            self.kept = None
        self.cuts = word == "keep-and-cut"
        self.cut = False
        self.way = about if word == "replay" else None

    def _run(self):
        near, _ = self.listener.accept()
        far = socket.socket(socket.AF_UNIX)
        far.connect(str(self.to))
        self.socks = [near, far]
        # The one that listens is the source's.
        for back, a, b in ((True, near, far), (False, far, near)):
            threading.Thread(target=self._pump, args=(back, a, b), daemon=True).start()

    def _pump(self, back, a, b):
        try:
            file = a.makefile("rb")
            while head := file.read(4):
                frame = file.read(struct.unpack(">I", head)[0])
                with self.lock:
                    frames = self._meet(back, frame)
                for passed in frames:
                    b.sendall(struct.pack(">I", len(passed)) + passed)
        except (OSError, struct.error):
            pass  # a machine has ended
        for sock in self.socks:
            sock.close()

    def _meet(self, back, frame):
        """What passes for it."""
        found = datagram_of(frame)
        if found is None:
            return [frame]
        ip, udp, port = found
        frame = frame[:ip + struct.unpack_from(">H", frame, ip + 2)[0]]
        text = frame[udp + 8:]
        if port == TELL_PORT and text.startswith(TELL):
            self.told(*text[len(TELL):].decode().split(" "))
            return []
        if port != ROCE_PORT:
            return [frame]
        if self.cut:
            return []
        packet = Packet(frame, ip, udp)
        self.wrong += sum_of(frame, ip, udp) != frame[-SUM:]
        return self._carry(back, packet) if packet.carries else [frame]

    def _carry(self, back, packet):
        """Held until its message is whole."""
        known = self.connections[back]
        if packet.qpn not in known:
            known[packet.qpn] = Connection(self.kept[back] if self.kept else [])
        c = known[packet.qpn]
        if c.next_psn is not None and packet.psn != c.next_psn:
            return [c.given.get(packet.psn, packet.frame)]  # again
        c.next_psn = (packet.psn + 1) & 0xffffff
        c.held.append(packet)
        if packet.opcode not in ENDS:
            return []
        held, c.held = c.held, []
        message = [p.payload for p in held]
        self.seen[self.name] += b"".join(message)
        c.messages.append(message)
        frames = [p.frame for p in held]
        if self.way == ("back" if back else "there") and self._fits(c):
            frames = [p.carrying(payload) for p, payload in zip(held, c.kept[len(c.messages) - 1])]
            c.given.update((p.psn, frame) for p, frame in zip(held, frames))
            self.replayed[self.name] += 1
        if self.cuts:
            self._cut_in_time()
        return frames

    @staticmethod
    def _fits(c):
        """The message of its number that was kept is another one of the same shape."""
        at = len(c.messages) - 1
        if at >= len(c.kept) or c.kept[at] == c.messages[at]:
            return False
        return list(map(len, c.kept[at])) == list(map(len, c.messages[at]))

    def _cut_in_time(self):
        most = [max((c.messages for c in way.values()), key=len, default=[])
                for way in self.connections]
        if all(len(messages) >= least for messages, least in zip(most, KEEPS)):
            self.kept = most
            self.cut, self.cuts = True, False

    def close(self):
        self.listener.close()
        for sock in self.socks:
            sock.close()
