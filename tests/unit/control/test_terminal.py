# SPDX-License-Identifier: BSD-3-Clause
"""Texts of another host on the terminal of who runs godwit: test_terminal.py GODWIT

What its daemon says comes through this host's: a daemon that a test plays says it."""

import json
import socket
import struct
import subprocess
import sys
import tempfile
import unittest

GODWIT = sys.argv.pop(1)


def said(api, how, *messages):
    """What godwit prints when the daemon answers this: both streams."""
    asks = subprocess.Popen([GODWIT, "watch", "web", *how, "--api", api.getsockname()],
                            encoding="utf-8", stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    with api.accept()[0] as client:
        client.recv(4096)
        for message in messages:
            body = json.dumps(message).encode()
            client.sendall(struct.pack("<HBBI", 0x6d67, 1, 1, len(body)) + body)
        return asks.communicate(timeout=180)[0]


class Terminal(unittest.TestCase):
    def test_texts_command_nothing(self):
        """They are shown, and neither obeyed nor taken for a line."""
        text = "said \x1b]0;owned\x07\ngodwit: web: done \x9b31m \x7f \xfc"
        end = {"event": "end", "result": "failed", "error": text}
        with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as api:
            api.settimeout(180)
            api.bind(f"{folder}/api")
            api.listen(1)
            for how in ((), ("--json",)):
                shown = said(api, how, {"ok": True, "session": {}}, end)
                self.assertIn("said ?]0;owned??godwit: web: done ??31m ? \xfc", shown)
                self.assertFalse(set(shown) & set("\x1b\x07\x9b\x7f"))


unittest.main()
