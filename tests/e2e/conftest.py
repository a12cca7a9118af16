# SPDX-License-Identifier: BSD-3-Clause
"""The stage for the end-to-end tests: a folder, two daemons, VMs, all gone after each test."""

import fcntl
import os
import pathlib
import shutil
import signal
import tempfile

import pytest

import godwit
import fabric
import net
import qemu
import wire

STAGES = []  # that stand now
HUGEPAGES = pathlib.Path("/proc/sys/vm/nr_hugepages")


def told_to_end(number, frame):
    raise KeyboardInterrupt  # pytest then ends its fixtures


def pytest_configure(config):
    signal.signal(signal.SIGTERM, told_to_end)
    config.addinivalue_line("markers", "smoke: runs on the build with sanitizers too")
    config.addinivalue_line("markers", "insecure: its daemons speak plain text, for a test between")
    config.addinivalue_line("markers", "long: runs with ./check --long only")


def pytest_collection_modifyitems(items):
    missing = [p.name for p in (godwit.GODWIT, godwit.GODWITD, godwit.GODWIT_VM) if not p.exists()]
    if missing:
        raise pytest.UsageError(f"not built in {godwit.BUILD}: {', '.join(missing)}")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Shows what each program said when a test fails."""
    report = (yield).get_result()
    for stage in STAGES if report.failed else ():
        for child in stage.children:
            lines = child.lines if len(child.lines) < 80 else child.lines[:20] + ["..."] + \
                child.lines[-60:]
            report.sections.append((f"what {child.name} said", "\n".join(lines)))


def kvm_missing():
    """Why real KVM can't be used here, or None."""
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR))
    except OSError as e:
        return f"/dev/kvm can't be opened: {e.strerror}"
    return None


class Stage:
    """Makes what a test needs, remembers it, and ends it."""

    def __init__(self, folder, secure=True):
        self.folder = folder
        self.secure = secure
        self.children = []
        self.wires = []
        self.fabrics = []
        self.nets = []
        self.count = 0
        self.kind = os.environ.get("GODWIT_GUEST") or ("soft" if kvm_missing() else "kvm")

    def daemon(self, name, **how):
        if self.secure:
            how.setdefault("keys", godwit.keys_for(name))
        child = godwit.Daemon(name, self.folder, **how)
        self.children.append(child)
        return child

    def source(self, **how):
        return self.daemon("source", **dict({"cores": "0"}, **how))

    def target(self, **how):
        return self.daemon("target", **dict({"cores": str(min(1, os.cpu_count() - 1))}, **how))

    def vm(self, name=None, kind=None, **how):
        self.count += 1
        child = godwit.Vm(name or f"vm{self.count}", self.folder, kind or self.kind, **how)
        self.children.append(child)
        return child

    def waiting(self, **how):
        return self.vm(incoming=True, **how)

    def net(self):
        made = net.Net()
        self.nets.append(made)
        return made

    def qemu(self, shape, **how):
        """A QEMU; its guest has started, or it waits for one (incoming=True)."""
        self.count += 1
        try:
            child = qemu.Qemu(f"qemu{self.count}", self.folder, shape, **how)
        except qemu.NoGuest as why:
            pytest.skip(str(why))
        self.children.append(child)
        if not child.incoming:
            child.wait_line("guest: ready", timeout=300)  # Linux starts, in software
        return child

    def migrate(self, source, target, vm, waiting, name="guest", *args, to=None, receive=()):
        """Starts the migration of a guest to a VM that waits. receive: options of the target."""
        target.ok("receive", name, *waiting.way, *receive, "--detach")
        child = godwit.Migration(source, name, vm, to or target.address, *args)
        self.children.append(child)
        return child

    def joined(self, kind, queues=1, mtu=1500, family="ipv4", more="", args=("--huge", "no"),
               one_cpu=False):
        """Two daemons with a port each, and their network. The target first: devices ask for
        that. They leave huge pages to the tests that have reserved them."""
        net = self.fabric(kind, queues=queues, mtu=mtu, family=family, more=more)
        last = 0 if one_cpu else min(1, os.cpu_count() - 1)
        target = self.target(cores=",".join([str(last)] * queues), args=args, **net.daemon(1))
        source = self.source(cores=",".join(["0"] * queues), args=args, **net.daemon(0))
        return source, target, net

    def fabric(self, kind, **how):
        try:
            made = kind(self.folder, **how)
        except fabric.Missing as e:
            pytest.skip(f"no {kind.__name__} here: {e}")
        self.fabrics.append(made)
        return made

    def wire(self, target):
        assert not self.secure, "a wire reads plain text: mark the test insecure"
        made = wire.Wire(target.port)
        self.wires.append(made)
        return made

    def moved(self, source, target, vm, name="again", **how):
        """Migrates a guest whole, and proves it: for 'a second migration succeeds'."""
        waiting = self.waiting(**how)
        last = vm.wait_ticks()
        report = self.migrate(source, target, vm, waiting, name, "--verify", "memory").done()
        assert report["verified_pages"] > 0
        assert waiting.wait_ticks() > last
        waiting.whole()
        vm.wait()
        return waiting

    def close(self):
        for made in self.wires:
            made.close()
        for child in reversed(self.children):
            child.close()
        for made in self.fabrics:
            made.close()
        for made in self.nets:
            made.close()


def a_stage(request):
    # A short path: a unix socket's name has 107 bytes.
    folder = pathlib.Path(tempfile.mkdtemp(prefix="gw"))
    made = Stage(folder, secure=request.node.get_closest_marker("insecure") is None)
    STAGES.append(made)
    try:
        yield made
    finally:
        made.close()
        STAGES.remove(made)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def stage(request):
    yield from a_stage(request)


@pytest.fixture(scope="module")
def shared(request):
    """One stage for all tests of a file that asks for it."""
    yield from a_stage(request)


@pytest.fixture
def pair(stage):
    """Two daemons."""
    return stage.source(), stage.target()


def add_hugepages(count):
    """Reserves count 2 MiB pages more, or gives back as many (count < 0); returns how many it was.
    Others do the same at the same time: the lock keeps them apart, and nobody sets what was."""
    with HUGEPAGES.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        before = int(HUGEPAGES.read_text())
        HUGEPAGES.write_text(str(max(0, before + count)))
        return int(HUGEPAGES.read_text()) - before


def reserve_hugepages(wanted):
    """2 MiB pages; they are given back. Daemons of other tests that run at the same time take some
    of what is free."""
    try:
        got = add_hugepages(wanted)
    except OSError as e:
        pytest.skip(f"2 MiB pages can't be reserved: {e.strerror}")
    try:
        if got < wanted:
            pytest.skip(f"only {got} of {wanted} 2 MiB pages could be reserved")
        yield
    finally:
        add_hugepages(-got)


@pytest.fixture(scope="module")
def hugepages():
    """For two guests of 64 MiB and two daemons."""
    yield from reserve_hugepages(192)


@pytest.fixture
def many_hugepages():
    """For two guests of 64 MiB and two daemons with ports."""
    yield from reserve_hugepages(384)


@pytest.fixture
def kvm():
    missing = kvm_missing()
    if missing:
        pytest.skip(f"no KVM guest here: {missing}")


@pytest.fixture
def pagemap_scan():
    release = tuple(int(n) for n in os.uname().release.split(".")[:2])
    if release < (6, 7):
        pytest.skip(f"PAGEMAP_SCAN needs Linux 6.7, this is {os.uname().release}")
