# SPDX-License-Identifier: BSD-3-Clause
"""Runs in the virtual machine: migrations over its RDMA device, each a case by name.

    inside.py CASE...             both hosts are this machine; 10.77.0.1 and 10.77.0.2
    inside.py --peer              this machine is the target's host: does what the other one asks
    inside.py --with CASE...      this machine is the source's host

A line for each case, `case NAME ok` or `case NAME failed: WHY`, the latter with what each program
said. The cases themselves are in cases.py, cable.py and device.py."""

import multiprocessing.managers
import os
import pathlib
import sys
import tempfile
import time
import traceback

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
import godwit  # noqa: E402
import cable  # noqa: E402
import cases  # noqa: E402
import device  # noqa: E402

PORT = 7000
KEY = b"the two machines of one test"
HERE, THERE = "10.77.0.1", "10.77.0.2"
IPV6 = {HERE: "fd77::1", THERE: "fd77::2"}


class Host:
    """Programs of one host; its methods can be called from the other machine."""

    def __init__(self, name="target", address=THERE):
        self.name = name
        self.address = address
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=name))
        self.daemon = None
        self.how = None
        self.vm = None
        self.old = []

    def give(self, keys):
        for file, data in keys.items():
            (self.folder / file).write_bytes(data)
            (self.folder / file).chmod(0o600)

    def ready(self, cores, how):
        """A daemon that runs so: rdma, 4 or 6, the family of its device's address, or None: no
        device; fabric, trusted or not; plant, a bug; locked, bytes that it may lock; mtu, bytes of
        a packet; most, of its interface; window, of memory to register. Returns its address."""
        if self.daemon is None or self.how != how or not self.daemon.alive():
            self.close()
            self.start(cores, **how)
            self.how = how
        return self.daemon.address

    def start(self, cores, rdma=4, fabric="trusted", plant=None, locked=None, mtu=None,
              most=4200, window=None):
        godwit.subprocess.run(["ip", "link", "set", "eth0", "mtu", str(most)], check=True)
        address = IPV6[self.address] if rdma == 6 else self.address
        before = [] if locked is None else [
            "setpriv", "--bounding-set=-ipc_lock", "--inh-caps=-ipc_lock",
            "prlimit", f"--memlock={locked}:{locked}"]
        self.daemon = godwit.Daemon(
            self.name, self.folder, cores=cores, keys=self.folder, host=self.address, plant=plant,
            before=before,
            args=[*(["--rdma", address, "--rdma-fabric", fabric] if rdma else []),
                  *(["--rdma-mtu", str(mtu)] if mtu else []),
                  *(["--rdma-window", window] if window else [])])

    def guest(self, args=(), memory="16M", incoming=False):
        self.forget()
        self.vm = godwit.Vm(f"vm-{self.name}{len(self.old)}", self.folder, "soft", memory=memory,
                            incoming=incoming, args=args)

    def receive(self, name, *args):
        self.daemon.ok("receive", name, "--agent", self.vm.agent, "--detach", *args)

    def ended(self, name):
        """How the session here came out."""
        return self.daemon.wait_state(name, "ended")["result"]

    def forget(self):
        """The guest's VM, and its lines, are of a case before."""
        if self.vm is not None:
            self.vm.close()
            self.old.append(self.vm)
        self.vm = None

    def ticks(self, more=2):
        return self.vm.wait_ticks(more)

    def ticked(self):
        return self.vm.ticks()

    def whole(self):
        self.vm.whole()

    def log(self, pattern, since=0):
        return self.daemon.wait_line(pattern, since)[0]

    def lines(self):
        return len(self.daemon.lines)

    def told(self, since):
        return "\n".join(self.daemon.lines[since:])

    def kill(self, what):
        getattr(self, what).kill()

    def freeze(self, what, still):
        child = getattr(self, what)
        child.freeze() if still else child.thaw()

    def run(self, *argv):
        return godwit.subprocess.run(argv, capture_output=True, text=True, check=True).stdout

    def doctor(self):
        return self.daemon.run("doctor").stdout

    def counter(self, name):
        """Of the device of this machine."""
        return int(pathlib.Path(f"/sys/class/infiniband/rxe0/ports/1/hw_counters/{name}").read_text(
            encoding="ascii"))

    def try_to_run(self, *argv):
        """What a program said that ended by itself, in failure."""
        done = godwit.subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode != 0, done
        return done.stdout + done.stderr

    def said(self):
        children = [c for c in (self.daemon, self.vm, *self.old[-1:]) if c is not None]
        return "\n".join(f"--- {c.name}\n" + "\n".join(c.lines[-40:]) for c in children)

    def close_daemon(self):
        if self.daemon is not None:
            self.daemon.close()
        self.daemon = None

    def close(self):
        if self.vm is not None:
            self.vm.close()
        self.vm = None
        self.close_daemon()


class Manager(multiprocessing.managers.BaseManager):
    pass


def serve():
    host = Host()
    Manager.register("host", callable=lambda: host)
    Manager.register("leave", callable=lambda: os._exit(0))
    server = Manager(address=(THERE, PORT), authkey=KEY).get_server()
    server.serve_forever()


def connect():
    Manager.register("host")
    Manager.register("leave")
    manager = Manager(address=(THERE, PORT), authkey=KEY)

    def there():
        try:
            manager.connect()
            return True
        except OSError:
            return False
    godwit.wait_until("the other machine is up", there, 120)
    return manager


def run(names, source, target):
    failed = 0
    for name in names:
        began = time.monotonic()
        case, *args = name.split("*")
        try:
            case = next(getattr(m, case) for m in (cases, cable, device) if hasattr(m, case))
            cases.ready(source, target, case)
            case(source, target, *args)
            print(f"case {name} ok {time.monotonic() - began:.1f} s", flush=True)
        except Exception as why:  # pylint: disable=broad-except
            failed += 1
            traceback.print_exc()
            print(source.said(), target.said(), sep="\n")
            print(f"case {name} failed: {why}", flush=True)
    return failed


def main(args):
    if args[0] == "--peer":
        serve()
    source, manager = Host("source", HERE), None
    if args[0] == "--with":
        args = args[1:]
        manager = connect()
        target = manager.host()
    else:
        target = Host()
        for address in (THERE + "/24", IPV6[THERE] + "/64"):
            godwit.subprocess.run(["ip", "addr", "add", address, "dev", "eth0",
                                   *(["nodad"] if ":" in address else [])], check=True)
    cases.prepare(source, target, alone=manager is None)
    failed = run(args, source, target)
    target.close()
    source.close()
    if manager is not None:
        try:
            manager.leave()
        except EOFError:
            pass
    return 1 if failed else 0


sys.exit(main(sys.argv[1:]))
