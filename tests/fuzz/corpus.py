# SPDX-License-Identifier: BSD-3-Clause
"""Seeds for the fuzz targets, made when they run: corpus.py TARGET SECONDS PROTOCOL.md FOLDER
COMMAND... writes the examples of PROTOCOL.md that the target reads, and what else it knows of, to
the folder, plays what has broken the target before (found/TARGET/*.hex), and runs the command for
so long with the folder behind it: ten times as long with ./check --long."""

import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys

FOUND = pathlib.Path(__file__).parent / "found"


def bpf(*code):
    """A filter of seccomp: (code, jt, jf, k) each."""
    return b"".join(struct.pack("<HBBI", *one) for one in code)


def udp(what, *fields):
    """A frame of Ethernet behind the two bytes that fuzz_udp takes for itself."""
    ether = bytes.fromhex("020000000001 020000000002" + what)
    return b"\0\0" + ether + b"".join(fields)


IP4 = bytes.fromhex("4500002c 00000000 4011f6bd c0000202 c0000201")
IP6 = bytes.fromhex("60000000 0018 11 ff" + "fd" + "00" * 14 + "02" + "fd" + "00" * 14 + "01")
UDP = bytes.fromhex("c000 1236 0018 0000") + bytes(16)
ARP = bytes.fromhex("0001 0800 0604 0001 020000000002 c0000202 000000000000 c0000201")
SOLICIT = bytes.fromhex("8700 0000 00000000" + "fd" + "00" * 14 + "01" + "0101 020000000002")

# First words of the names of vectors.
VECTORS = {"agent": ["agent"], "conn": ["message", "preamble"],
           "frame": ["frame"], "stream": ["frame"], "packet": ["packet"], "rdma": ["rdma"]}
TEXTS = {
    "conn": [b'{"do": "migrate", "name": "web", "agent": "/run/a.sock", "to": "[::1]:4646"}',
             b'{"op": "resume", "seq": 1, "protocol": 1, "name": "web", "pass": 7}',
             b'{"re": 3, "ok": true, "token": "00112233445566778899aabbccddeeff"}'],
    "qmp": [b'{"QMP": {"version": {"qemu": {"major": 7}}, "capabilities": ["oob"]}}\r\n',
            b'{"return": {"status": "running", "running": true}, "id": 1}\r\n'
            b'{"event": "STOP", "data": {}, "timestamp": {"seconds": 1, "microseconds": 2}}\r\n',
            b'{"error": {"class": "GenericError", "desc": "no"}, "id": 2}\r\n'],
    "config": [b"listen = :4646\ncores = 2-3\nallow = *.example\n\n[port data0]\n"
               b"device = net_tap0\naddress = 192.0.2.1/24\n# a comment\n"],
    # A line of /proc/PID/maps; filters of seccomp: the architecture, the call, a jump, a verdict.
    "vmm": [b"7f0000000000-7f0040000000 rw-s 00001000 00:1c 77    /dev/shm/guest ram (deleted)",
            b"55d0c8a00000-55d0c8a01000 r-xp 00000000 fe:01 1234  /usr/bin/qemu-system-x86_64",
            bpf((0x20, 0, 0, 4), (0x15, 1, 0, 0xc000003e), (0x06, 0, 0, 0x80000000),
                (0x20, 0, 0, 0), (0x15, 0, 1, 323), (0x06, 0, 0, 0x7fff0000), (0x06, 0, 0, 0)),
            bpf((0x20, 0, 0, 16), (0x54, 0, 0, 0xff), (0x02, 0, 0, 3), (0x60, 0, 0, 3),
                (0x35, 0, 1, 2), (0x05, 0, 0, 0), (0x16, 0, 0, 0))],
    "udp": [udp("0800", IP4, UDP), udp("86dd", IP6, UDP), udp("0806", ARP),
            udp("8100 0005 0800", IP4, UDP).replace(b"\0\0", b"\2\0", 1),
            b"\1\0" + udp("86dd", IP6[:4] + b"\0\x20\x3a\xff" + IP6[8:], SOLICIT)[2:]],
    # A good answer to the third frame, one to a barrier, a wrong one; fuzz_ack.c.
    "ack": [b"\x30\0\2\0\0", b"\x21\x10\0\7\0\3\0\2\0", b"\x40\1\1\0\0\x08\0\0\0",
            b"\x40\4\0\0\0" + bytes(60)],
    # Each operation; a list of one file, good and spoilt; fuzz_helper.c.
    "helper": [*(bytes((op, 0, 0, 0, 9, 0, 0, 1)) + b"/" for op in range(8)),
               bytes((4, 0, 1, 2, 9, 0, 0, 0)), bytes((4, 0, 1, 2, 9, 2, 32, 8)) + b"\2" * 8,
               bytes((5, 0, 0, 1, 9, 0, 0, 0))],
    "journal": [b'{"is":"begin","side":"source","to":"h:1","driver":"agent","socket":"/a"}\n'
                b'{"is":"commit","paused":false,"direct":["d0"]}\n{"is":"running"}\n',
                b'{"is":"begin","driver":"qemu","socket":"/q","pid":7}\nnonsense\n{"is":'],
    "offer": [b"\1\x23\x28a\x00192.0.2.7\0::1\0\1\5\xdcb\0\0fd00::2\0",
              b"\0\x23\x28a\x00192.0.2.7\0\0"],
    # Behind a byte that stands for a good first line.
    "record": [b'\1{"event":"pass","pass":0,"t_ms":1,"dirty_pages":9}\n'
               b'{"event":"progress","t_ms":2,"pages_per_s":5,"cores":[{"cpu":1,"scan":0.5}]}\n'
               b'{"event":"passed","pass":0,"t_ms":3}\n'
               b'{"event":"end","t_ms":4,"result":"done","report":{"pause_ms":9}}\n',
               b'\1{"event":"end","result":"failed","error":"why"}\n'],
    # A stage, then what is said there, a line each: fuzz_peer.c, fuzz_answer.c.
    "peer": [b'\0{"codec": "lz4", "can": {"codecs": {"lz4": 2}, "seals": {"none": 1}, "links": '
             b'{"tcp": 1}, "features": {}}}\n',
             b'\0{"codec": "auto", "codecs": ["raw", "lz4"], "link": "nic", "can": {"codecs": '
             b'{"raw": 1, "lz4": 1}, "seals": {}, "links": {"nic": 3}, "features": {"x": 7}}}\n',
             b"\0\n\n", b'\4{"codec": "zip"}\n', b'\0{"codec": "auto", "codecs": ["raw"]}\n',
             b'\x08{"lanes": [{"udp_port": 1, "queue": 16, "token": "0"}]}\n',
             b'\x08{"address": "::1", "spread": {"key": "00", "queues": "f"}}\n',
             b'\x11{"op": "rdma_windows", "drop": [], "want": [0, 3]}\n'
             b'{"op": "rdma_windows", "drop": [3], "want": [1]}\n',
             b'\x12{"op": "rdma_windows", "drop": [], "want": [4]}\n',
             b"\1\nbstate\n\n\n", b'\2{"op": "load"}\n', b'\3{"op": "abort", "taken": true}\n'],
    "answer": [b"\0\n\n", b"\1\n\n", b'\2{"kept": [0, 1]}\n', b'\2{"kept": [99999]}\n',
               b'\x0a{"rdma_keys": [null]}\n',
               b'\x0a{"rdma_keys": ["00112233445566778899aabb"]}\n', b'\3{"digest": "0"}\n',
               b"\4\n\n", b'\5{"outcome": "refused", "error": "no"}\n',
               b'\5{"outcome": "maybe"}\n{"outcome": "running"}\n',
               b'\x0a{"rdma_windows": {"window": 4194304, "most": 4, '
               b'"base": ["0000000000001000"]}}\n',
               b'\x24{"op": "rdma_keys", "keys": [[0, "00000077"]]}\n',
               b'\x23{"op": "rdma_keys", "keys": [[0, null], [1, null]]}\n',
               b'\x10{"lanes": [], "address": "::1"}\n',
               b'\x10{"lanes": [{"udp_port": 0, "token": "fedcba9876543210"}]}\n',
               b'\5{"op": "abort", "taken": false}\n', b'\6{"token": "xyz"}\n', b"\6\n"],
}


def seeds(target, text):
    found = re.findall(r"^```vector (\w+)[^\n]*\n(.*?)^```", text, re.M | re.S)
    vectors = [bytes.fromhex("".join(body.split())) for name, body in found
               if name in VECTORS.get(target, [])]
    yield from vectors
    if target == "stream":  # one after another; the last byte says whether they are sealed
        yield b"".join(vectors) + b"\0"
        yield b"".join(vectors) + b"\1"
    if target == "conn":
        yield b"".join(v for v in vectors if v[:2] == b"gm")
    yield from TEXTS.get(target, [])


def play_found(target, folder, command):
    """Each is a regression test: the target lives through it."""
    files = []
    for file in sorted(FOUND.joinpath(target).glob("*.hex")):
        files.append(folder / file.stem)
        files[-1].write_bytes(bytes.fromhex(file.read_text(encoding="ascii")))
    if files:
        print(f"{len(files)} found before", flush=True)
        subprocess.run([command, *files], check=True)


def main():
    target, seconds, protocol, folder, *command = sys.argv[1:]
    seconds = int(seconds) * (10 if os.environ.get("GODWIT_LONG") else 1)
    folder = pathlib.Path(folder)
    shutil.rmtree(folder, ignore_errors=True)  # what the run before found there
    folder.mkdir(parents=True)
    made = 0
    text = pathlib.Path(protocol).read_text(encoding="utf-8")
    for made, seed in enumerate(seeds(target, text), 1):
        folder.joinpath(f"seed{made}").write_bytes(seed)
    print(f"{made} seeds", flush=True)
    if made == 0:
        sys.exit(f"there are no seeds for {target}")
    play_found(target, folder, command[0])
    os.execv(command[0], [*command, f"-max_total_time={seconds}", str(folder)])


if __name__ == "__main__":
    main()
