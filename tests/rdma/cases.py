# SPDX-License-Identifier: BSD-3-Clause
"""What is done in the virtual machines, case by case: each takes the source's host and the
target's, whose daemons run as the case needs them. Those that need a cable between two machines
are in cable.py."""

import concurrent.futures
import json
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
import godwit  # noqa: E402
import matrix  # noqa: E402

# Its thread lives to the end: what a thread has started dies with it.
OTHER = concurrent.futures.ThreadPoolExecutor(1)
HOLD = "/tmp/hold"  # as long as it is there, a source stands at a planted stage
LOCKED = 8 << 20  # bytes; less than three flows want
TURNS = 35 << 20  # two flows, before and after a cut, and four windows of 4 MiB

CODECS = {"raw": ("--codec", "raw"), "deflate": ("--codec", "deflate:1"), "sealed": ()}
MOVES = [f"moves*{codec}*{flows}*{pages}" for codec in CODECS for flows in (1, 2, 4)
         for pages in ("4K", "2M")]
KILLS = [f"kill*{stage}*{who}" for stage in matrix.STAGES for who in ("source", "target")
         if matrix.expected(stage, f"kill {who} daemon") is not None]


def needs(source=None, target=None, both=None):
    """How the daemons have to run for a case, where that is not the usual way; see Host.ready()."""
    def mark(case):
        case.needs = (dict(both or {}, **(source or {})), dict(both or {}, **(target or {})))
        return case
    return mark


def prepare(source, target, alone):
    """Keys of one authority. alone: both hosts are this machine, a core each."""
    keys = godwit.make_keys(
        source.folder / "keys", "source.test,10.77.0.1", "target.test,10.77.0.2")
    source.alone = alone
    for host, name in ((source, "source.test"), (target, "target.test")):
        host.give({f.name: f.read_bytes() for f in (keys / name).iterdir()})
    for host, pages in ((source, 32),) if alone else ((source, 16), (target, 16)):
        host.run("sysctl", "-q", f"vm.nr_hugepages={pages}")


def together(there, here):
    """What the target's host does, at once with what the source's does."""
    later = OTHER.submit(there)
    here()
    return later.result()


def ready(source, target, case):
    """Only what runs otherwise is started again: that takes longer than most cases."""
    here, there = getattr(case, "needs", ({}, {}))
    source.to = together(lambda: target.ready("1" if source.alone else "0", there),
                         lambda: source.ready("0", here))


def begin(source, target, *args, seal="none", vm=(), memory="8M", rate="100",
          reserve="book", downtime="10000"):
    """A guest that writes, and a VM that waits for it; the migration has begun."""
    def there():
        target.guest([a for a in vm if a == "--hugepages"], memory, True)
        target.receive("guest", "--seal", seal, "--reserve", reserve)

    def here():
        source.guest(["--rate", rate, "--stay", *vm], memory)
        source.ticks()
    together(there, here)
    if "--peer-timeout" not in args:  # a machine that gets no CPU for long is not gone
        args = (*args, "--peer-timeout", "120")
    return godwit.Migration(source.daemon, "guest", source.vm, source.to, "--link", "rdma",
                            "--seal", seal, "--verify", "memory", "--downtime", downtime, *args)


def moved(target, migration):
    migration.end(900)
    report = migration.done()
    assert report["link"] == "rdma" and report["rdma"]["device"] == "rxe0"
    assert report["verified_pages"] > 0
    target.ticks()
    target.whole()
    return report


def move(source, target, *args, **how):
    return moved(target, begin(source, target, *args, **how))


def stays(source, migration, *words):
    """It failed, for a reason that says all of this, and the guest runs on at the source."""
    error = migration.failed()["error"]
    for word in words:
        assert word in error, f"the reason does not say {word!r}: {error}"
    source.ticks()
    source.whole()
    return error


def told(source, target, since, words):
    """One of the daemons says so; what it has printed may not be read yet."""
    godwit.wait_until(f"a daemon says: {words}", lambda: words in source.told(
        since[0]) + target.told(since[1]))


def through_slots(report):
    assert report["rdma"]["way"] == "through slots" and report["rdma"]["registered_bytes"] == 0


def directly(report):
    rdma = report["rdma"]
    assert "directly" in rdma["way"] and rdma["registered_bytes"] > 0, rdma
    assert rdma["register_ms"] > 0 and rdma["deregister_ms"] > 0, rdma


def read_by_the_device(report, lent):
    """Where pages lie; what is not registered yet is copied."""
    uncopied = report["counters"]["pages_uncopied"]
    assert (report["rdma"]["lent_bytes"] > 0) == lent, report["rdma"]
    assert uncopied <= report["pages_data"] and (uncopied > 0) == lent
    assert (report["rdma"]["copied"] == "") == lent, report["rdma"]


def moves(source, target, codec, flows, pages):
    report = move(source, target, "--flows", flows, *CODECS[codec],
                  seal="auto" if codec == "sealed" else "none",
                  # Memory that raw pages would be written to by themselves, in plain text.
                  reserve="populate" if codec == "sealed" else "book",
                  vm=("--hugepages",) if pages == "2M" else ())
    assert report["flows"] == int(flows) and report["memory"].startswith(
        "2 MiB" if pages == "2M" else "4 KiB")
    assert report["seal"].startswith("aes-256-gcm") == (codec == "sealed")
    assert report["rdma"]["way"].startswith("sealed") == (codec == "sealed")
    assert report["rdma"]["registered_bytes"] == 0
    assert report["pages_data"] > 0 and report["pages_zero"] > 0
    read_by_the_device(report, codec == "raw")
    if codec == "deflate":
        assert report["ratio"] > 1.5


def raw(source, target, number="0"):
    """Again and again; sealed and directly in turn."""
    way = int(number) % 3
    if way < 2:
        moves(source, target, ("raw", "sealed")[way], "1", "4K")
    else:
        directly(move(source, target, "--flows", "2", reserve="populate"))


def sealed_deflate(source, target):
    move(source, target, "--flows", "2", "--codec", "deflate:1", seal="auto")


def direct(source, target):
    """Where both trust the fabric, pages are written to their place; and a guest gives some up."""
    report = move(source, target, "--flows", "2", reserve="populate",
                  vm=("--balloon", "20", "--free", "10", "--churn", "50"))
    directly(report)
    read_by_the_device(report, False)


@needs(both={"window": "4M"})
def direct_windows(source, target):
    """Regions that are larger than what is registered at a time; the last window is shorter."""
    report = move(source, target, "--flows", "2", reserve="populate", memory="14M")
    directly(report)
    read_by_the_device(report, True)
    target.log("is registered in windows: device rxe0 takes 4 MiB at a time")
    assert report["rdma"]["registered_bytes"] >= 14 << 20


def no_odp(source, target):
    """Soft-RoCE of this kernel has no pages on demand."""
    done = source.try_to_run(str(godwit.BUILD / "control/godwitd"), "--insecure", "--rdma",
                             source.address, "--rdma-odp", "--state-dir", str(source.folder),
                             "--listen", "127.0.0.1:0", "--memory", "32M")
    assert "device rxe0 has no on-demand paging" in done and "rdma-odp" in done, done


def direct_huge(source, target):
    directly(move(source, target, "--flows", "1", reserve="populate", vm=("--hugepages",)))


@needs(target={"fabric": "untrusted"})
def source_trusts(source, target):
    through_slots(move(source, target, "--flows", "1", reserve="populate"))


@needs(source={"fabric": "untrusted"})
def target_trusts(source, target):
    through_slots(move(source, target, "--flows", "1", reserve="populate"))


@needs(both={"fabric": "untrusted"})
def nobody_trusts(source, target):
    through_slots(move(source, target, "--flows", "1", reserve="populate"))


def by_turns(report):
    """The target may not lock all of the guest: some windows at a time, others' pages by slots."""
    rdma, counters = report["rdma"], report["counters"]
    directly(report)
    assert rdma["window_bytes"] == 4 << 20 and rdma["windows_most"] == 4, rdma
    assert rdma["windows_asked"] >= rdma["windows_dropped"] > 0 == rdma["windows_refused"], rdma
    assert rdma["registered_bytes"] <= 16 << 20
    assert counters["pages_direct"] > 0, counters
    assert counters["pages_direct"] + counters["pages_keyless"] == report["pages_data"], counters


def window_by_window(source):
    """Until some have come and gone."""
    def gone():
        report = source.daemon.status("guest")["report"]
        return report["rdma"]["windows_dropped"] > 0 and report["counters"]["pages_direct"] > 0
    source.daemon.wait_state("guest", "copying", "holding")
    godwit.wait_until("windows come and go", gone)


@needs(both={"rdma": 6}, source={"mtu": 1024}, target={"locked": TURNS})
def ipv6(source, target):
    """And one host has packets of a quarter of what the other one takes, the other one little
    memory to lock."""
    before = source.counter("sent_pkts")
    migration = begin(source, target, "--flows", "2", "--bandwidth", "8M", "--hold",
                      reserve="populate", memory="40M")
    window_by_window(source)
    source.daemon.ok("set", "guest", "--bandwidth", "0")
    source.daemon.ok("switch-now", "guest")
    report = moved(target, migration)
    assert report["rdma"]["address"] == "fd77::1"
    assert report["rdma"]["mtu"] == 1024
    assert source.counter("sent_pkts") - before >= report["bytes_wire"] // 1024
    by_turns(report)
    read_by_the_device(report, True)


@needs(target={"most": 1500})
def small_target(source, target):
    """The target's interface takes shorter packets than the source's."""
    report = move(source, target, "--flows", "2", reserve="populate")
    assert report["rdma"]["mtu"] == 1024
    directly(report)
    target.close()
    try:
        target.ready("0", {"most": 1500, "mtu": 4096})
    except AssertionError as why:
        assert "take 1024 bytes, not 4096" in str(why), why
    else:
        raise AssertionError("the daemon started with packets that its device can't have")
    target.close()


def doctor(source, target):
    """godwit doctor asks the device, and the daemon that has it."""
    said = source.doctor()
    for words in ("RoCE on eth0", f"is {source.address}, RoCE v2", "registers regions of up to",
                  "pages on demand: no", f"rxe0 at {source.address} port", "fabric trusted"):
        assert words in said, said


@needs(target={"rdma": None})
def no_device(source, target):
    """A target without the option is told of at preflight, and nothing is touched."""
    stays(source, begin(source, target), "target's daemon has no RDMA device", "--rdma")


@needs(target={"locked": LOCKED})
def locked(source, target):
    """A target that may not lock enough says so before it registers anything."""
    error = stays(source, begin(source, target, "--flows", "3"), "3 flows", "RLIMIT_MEMLOCK")
    assert "the guest's memory" not in error
    stays(source, begin(source, target, "--flows", "1", reserve="populate"), "RLIMIT_MEMLOCK",
          "the guest's memory", "rdma-fabric")
    through_slots_is_enough = move(source, target, "--flows", "1")
    assert through_slots_is_enough["rdma"]["registered_bytes"] == 0


# One host runs as for ipv6().
@needs(both={"rdma": 6}, source={"plant": "rdma-bad-key"}, target={"locked": TURNS})
def bad_key(source, target):
    """Memory that is not registered for the key that the source has, of all and by turns."""
    for memory in "8M", "40M":
        migration = begin(source, target, "--flows", "1", "--hold", "--bandwidth", "8M",
                          reserve="populate", memory=memory)
        stays(source, migration, "writing pages to their place", "not registered for this key")
        assert target.ended("guest") == "failed"
    source.log("windows of 4 MiB are registered at a time")


def bench(source, target):
    """godwit-bench moves an image over the device in each way, and compares what came."""
    said = source.run(str(godwit.BUILD / "bench/godwit-bench"), "rdma", source.address, "--content",
                      "random", "--size", "2", "--rounds", "1", "--json")
    stages = {json.loads(line).get("stage") for line in said.splitlines()}
    assert stages >= {f"rdma/{way}-{kib}k" for way in ("slots", "copied", "direct")
                      for kib in (4, 8, 16, 256)}, stages


def held(source, target, *args, **how):
    """Passes go on and on."""
    migration = begin(source, target, "--hold", *args, **how)
    source.daemon.wait_state("guest", "holding")
    return migration


def kill_target(source, target):
    migration = held(source, target, "--reconnect", "1")
    target.kill("daemon")
    stays(source, migration)


def kill_source(source, target):
    """Its guest runs on by itself; the target's VM waits, or ended, and never runs."""
    held(source, target, "--reconnect", "0")
    source.kill("daemon")
    source.ticks()
    source.whole()
    assert target.ended("guest") == "failed"


def wrong_token(source, target):
    """A connection with a token that nobody waits for is refused."""
    since = target.lines()
    port = target.log(r"rdma: device rxe0 at \S+ port \d+").split()[-1]
    to = source.to.rsplit(":", 1)[0]
    said = source.run(str(godwit.BUILD / "tests/rdma/stray"), source.address, to, port)
    assert "refused the connection" in said, said
    target.log("was refused: nobody waits for it", since)


def slow_target(source, target):
    """A stray connection costs the session nothing, and a target that stands still for a while is
    waited for."""
    migration = held(source, target)
    wrong_token(source, target)
    target.freeze("daemon", True)
    time.sleep(3)
    target.freeze("daemon", False)
    source.daemon.ok("switch-now", "guest")
    assert "reconnects" not in moved(target, migration)


def kill(source, target, stage, who):
    """kill -9 of a daemon when a stage is about to begin: whose the guest is, tells matrix.py."""
    expected = matrix.expected(stage, f"kill {who} daemon")
    source.close()
    hold = pathlib.Path(HOLD)
    hold.touch()
    source.ready("0", {"plant": f"stage:{stage}:{hold}"})
    migration = begin(source, target, "--reconnect", "1", "--peer-timeout", "10",
                      reserve="populate")
    source.daemon.wait_state("guest", stage)
    (source if who == "source" else target).kill("daemon")
    hold.unlink()
    if expected == matrix.SOURCE:
        if who == "target":
            migration.failed()
        source.ticks()
        source.whole()
        assert not target.ticked(), "the guest ran on both sides"
    elif expected == matrix.TARGET:
        if who == "target":
            migration.done()
        target.ticks()
        target.whole()
    else:
        source.close_daemon()
        source.ready("0", {})
        assert source.daemon.status("guest")["state"] == "undecided"
        target.ticks()
        source.daemon.ok("resolve", "guest", "--keep", "target")
        target.whole()
    source.close()
