# SPDX-License-Identifier: BSD-3-Clause
"""Seeds for the fuzz targets, made when they run: corpus.py TARGET SECONDS PROTOCOL.md FOLDER
COMMAND... writes the examples of PROTOCOL.md that the target reads, and what else it knows of, to
the folder, and runs the command for so long with the folder behind it: ten times as long with
./check --long."""

import os
import pathlib
import re
import shutil
import sys

# First words of the names of vectors.
VECTORS = {"agent": ["agent"], "vmm": ["agent"], "conn": ["message", "preamble"],
           "frame": ["frame"], "stream": ["frame"], "packet": ["packet"], "rdma": ["rdma"]}
TEXTS = {
    "conn": [b'{"do": "migrate", "name": "web", "agent": "/run/a.sock", "to": "[::1]:4646"}',
             b'{"op": "resume", "seq": 1, "protocol": 1, "name": "web", "pass": 7}',
             b'{"re": 3, "ok": true, "token": "00112233445566778899aabbccddeeff"}'],
    # The first byte is the stage that the session stands at; then a line a message.
    "peer": [b'\0{"codec": "lz4", "can": {"codecs": {"lz4": 2}, "seals": {"none": 1}, "links": '
             b'{"tcp": 1}, "features": {}}}\n',
             b'\0{"codec": "auto", "codecs": ["raw", "lz4"], "link": "nic", "can": {"codecs": '
             b'{"raw": 1, "lz4": 1}, "seals": {}, "links": {"nic": 2}, "features": {"x": 7}}}\n'],
    "qmp": [b'{"QMP": {"version": {"qemu": {"major": 7}}, "capabilities": ["oob"]}}\r\n',
            b'{"return": {"status": "running", "running": true}, "id": 1}\r\n'
            b'{"event": "STOP", "data": {}, "timestamp": {"seconds": 1, "microseconds": 2}}\r\n',
            b'{"error": {"class": "GenericError", "desc": "no"}, "id": 2}\r\n'],
    "config": [b"listen = :4646\ncores = 2-3\nallow = *.example\n\n[port data0]\n"
               b"device = net_tap0\naddress = 192.0.2.1/24\n# a comment\n"],
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
    os.execv(command[0], [*command, f"-max_total_time={seconds}", str(folder)])


if __name__ == "__main__":
    main()
