# SPDX-License-Identifier: BSD-3-Clause
"""A QEMU without a guest's system: the firmware runs, finds nothing to boot, and waits. Up at once;
for what is asked of QEMU before, after and besides the guest. And a monitor between it and Godwit
that a test makes misbehave."""

import array
import json
import pathlib
import socket
import threading
import time

from godwit import Child, wait_until
from qmp import Qmp

QEMU = "qemu-system-x86_64"


class Machine(Child):
    """before: what starts it."""

    def __init__(self, stage, *args, ram="share=on", mib=32, machine="q35", incoming=False,
                 folder="/dev/shm", before=()):
        stage.count += 1
        name = f"machine{stage.count}"
        self.qmp, own = stage.folder / f"{name}.qmp", stage.folder / f"{name}.own"
        self.path = pathlib.Path(folder) / f"{stage.folder.name}.{name}"
        if ram is not None:
            args = ("-object", f"memory-backend-file,id=ram0,size={mib}M,mem-path={self.path},"
                    + ram, *args)
            machine += ",memory-backend=ram0"
        super().__init__(name, [
            *before, QEMU, "-machine", machine + ",accel=tcg", "-m",
            f"{mib}M,slots=2,maxmem={max(1024, 2 * mib)}M", "-display", "none", "-nodefaults",
            "-no-user-config",
            *[arg for path in (self.qmp, own) for arg in
              ("-qmp", f"unix:{path},server=on,wait=off")],
            *(["-incoming", "defer", "-S"] if incoming else []), *args])
        stage.children.append(self)
        self.monitor = None
        wait_until(f"{name} opens its monitors", lambda: self._listens(own))
        self.monitor = Qmp(own)

    def _listens(self, path):
        if not self.alive():
            self.reader.join(5)
            raise AssertionError(f"{self.name} ended at its start: {self.lines[-1]}")
        return path.exists()

    @property
    def way(self):
        return ["--qmp", self.qmp]

    def state(self):
        return self.monitor.run("query-status")["status"]

    def settings(self):
        """What a migration changes for its time."""
        found = {c["capability"]: c["state"]
                 for c in self.monitor.run("query-migrate-capabilities")}
        found["max-bandwidth"] = self.monitor.run("query-migrate-parameters")["max-bandwidth"]
        return found

    def close(self):
        if self.monitor:
            self.monitor.close()
        super().close()
        self.path.unlink(missing_ok=True)


class Between:
    """A monitor's socket that passes on what both say, until plan() says what happens at a command:
    "error" (QEMU refuses), "always" (and goes on refusing), "garbage", "late" (after a while),
    "silence" (for ever), "behind" (QEMU does as it is told, and is not heard until meanwhile() has
    returned: called at once, as the daemon does not wait long)."""

    def __init__(self, machine, path):
        self.machine = machine
        self.path = path
        self.at = self.then = self.meanwhile = None
        self.seen = []
        self.socks = []
        self.heard = threading.Event()
        self.heard.set()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(1)
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def way(self):
        # Not QEMU itself listens: so its process is named.
        return ["--qmp", self.path, "--pid", self.machine.popen.pid]

    def plan(self, command, what, then=None, meanwhile=None):
        """then: what comes after that, of the same kind."""
        self.seen = []
        self.at, self.then, self.meanwhile = (command, what), then, meanwhile

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            real = socket.socket(socket.AF_UNIX)
            real.connect(str(self.machine.qmp))
            self.socks += [client, real]
            back = threading.Thread(target=self._pass_back, args=(real, client), daemon=True)
            back.start()
            self._pass_on(client, real)
            real.shutdown(socket.SHUT_RDWR)  # one client at a time
            back.join()
            real.close()
            client.close()

    def _pass_back(self, real, client):
        try:
            while data := real.recv(65536):
                self.heard.wait()
                client.sendall(data)
        except OSError:
            pass

    def _pass_on(self, client, real):
        data, fds = b"", array.array("i")
        while True:
            try:
                more, control, _, _ = client.recvmsg(65536, socket.CMSG_SPACE(4))
            except OSError:
                return
            if not more:
                return
            for _, _, held in control:
                fds.frombytes(held[:4])
            data += more
            while b"\n" in data:
                line, data = data.split(b"\n", 1)
                if self._command(client, line):
                    sent = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)] if fds else []
                    real.sendmsg([line + b"\n"], sent)
                    if not self.heard.is_set():
                        threading.Thread(target=self._hold, daemon=True).start()
                for fd in fds:
                    socket.close(fd)
                fds = array.array("i")

    def _command(self, client, line):
        """True when it is to be passed on."""
        try:
            asked = json.loads(line)
        except ValueError:
            return True
        name = asked.get("execute")
        self.seen.append(name)
        if self.at is None or self.at[0] != name:
            return True
        what = self.at[1]
        if what != "always":
            self.at, self.then = self.then, None
        if what in ("error", "always"):
            client.sendall(json.dumps({"error": {"class": "GenericError", "desc": "planted"},
                                       "id": asked["id"]}).encode() + b"\r\n")
        elif what == "garbage":
            client.sendall(b"(qemu) unknown command\r\n")
        elif what == "late":
            time.sleep(1)
        elif what == "behind":
            self.heard.clear()
        return what in ("late", "behind")

    def _hold(self):
        self.meanwhile()
        self.heard.set()

    def close(self):
        self.heard.set()
        self.listener.close()
        for sock in self.socks:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
