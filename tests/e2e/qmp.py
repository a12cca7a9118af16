# SPDX-License-Identifier: BSD-3-Clause
"""A QEMU's monitor, for tests, measurements and the demo."""

import json
import socket
import threading
import time


class Qmp:
    """One QMP connection, for one thread at a time: an answer is that of the command before."""

    class Refused(Exception):
        """An error that QEMU answered."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(180)
        self._connect(str(path))
        self.file = self.socket.makefile("rb")
        self.events = []
        self.lock = threading.Lock()
        assert "QMP" in self._read()
        self.run("qmp_capabilities")

    def _connect(self, path):
        for _ in range(1000):
            try:
                return self.socket.connect(path)
            except ConnectionRefusedError:  # it is bound, and about to listen
                time.sleep(0.05)
        return self.socket.connect(path)

    def _read(self):
        line = self.file.readline()
        if not line:
            raise ConnectionError("QEMU closed its monitor")
        return json.loads(line)

    def run(self, command, **arguments):
        asked = {"execute": command}
        if arguments:
            asked["arguments"] = {name.replace("_", "-"): v for name, v in arguments.items()}
        with self.lock:
            self.socket.sendall(json.dumps(asked).encode() + b"\n")
            while True:
                said = self._read()
                if "return" in said:
                    return said["return"]
                if "error" in said:
                    raise self.Refused(said["error"]["desc"])
                self.events.append(said["event"])

    def close(self):
        self.file.close()
        self.socket.close()
