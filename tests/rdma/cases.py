# SPDX-License-Identifier: BSD-3-Clause
"""What is done in the virtual machines, case by case: each takes the source's host and the
target's, whose daemons run, and leaves them running. The last ones need a cable between two."""

import time

import godwit

LOSS_PORT = 4791  # RoCE v2; all other packets of the cable go their way


def keys_of(folder, name):
    return {f.name: f.read_bytes() for f in (folder / name).iterdir()}


def prepare(source, target, alone):
    """Daemons with keys of one authority. alone: both are on this machine, a core each."""
    source.keys = godwit.make_keys(
        source.folder / "keys", "source.test,10.77.0.1", "target.test,10.77.0.2")
    source.alone = alone
    source.fabric = "trusted"  # nothing is registered where the target's memory is not all there
    with open("/proc/sys/vm/nr_hugepages", "w", encoding="utf-8") as f:
        f.write("32" if alone else "16")
    source.start(keys_of(source.keys, "source.test"), "0", True, ["--rdma-fabric", source.fabric])
    start_target(source, target)


def start_target(source, target):
    source.to = target.start(
        keys_of(source.keys, "target.test"), "1" if source.alone else "0", True,
        ["--rdma-fabric", source.fabric])


def begin(source, target, *args, seal="none", vm=(), memory="8M", rate="100",
          reserve="book", downtime="10000"):
    """A guest that writes, and a VM that waits for it; the migration has begun."""
    huge = [a for a in vm if a == "--hugepages"]
    target.guest(huge, memory, True)
    source.guest(["--rate", rate, "--stay", *vm], memory)
    source.ticks()
    target.receive("guest", "--seal", seal, "--reserve", reserve)
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


def raw(source, target):
    report = move(source, target, "--flows", "1")
    assert report["seal"] == "none" and report["flows"] == 1
    assert report["rdma"]["registered_bytes"] == 0
    assert report["pages_data"] > 0 and report["pages_zero"] > 0


def deflate(source, target):
    assert move(source, target, "--flows", "2", "--codec", "deflate:1")["ratio"] > 1.5


def sealed(source, target):
    report = move(source, target, "--flows", "4", seal="auto")
    assert report["seal"].startswith("aes-256-gcm")


def sealed_deflate(source, target):
    move(source, target, "--flows", "2", "--codec", "deflate:1", seal="auto")


def direct(source, target):
    """Where both trust the fabric, pages are written to their place; and a guest gives some up."""
    report = move(source, target, "--flows", "2", reserve="populate",
                  vm=("--balloon", "20", "--free", "10", "--churn", "50"))
    assert "directly" in report["rdma"]["way"], report["rdma"]
    assert report["rdma"]["registered_bytes"] > 0
    report = move(source, target, "--flows", "2", seal="auto", reserve="populate")
    assert report["rdma"]["way"].startswith("sealed")


def direct_huge(source, target):
    report = move(source, target, "--flows", "1", reserve="populate", vm=("--hugepages",))
    assert "directly" in report["rdma"]["way"] and report["rdma"]["registered_bytes"] > 0


def huge(source, target):
    report = move(source, target, "--flows", "1", vm=("--hugepages",))
    assert "2 MiB" in report["memory"]


def no_device(source, target):
    """A target without the option is told of at preflight, and nothing is touched."""
    target.close()
    source.to = target.start(keys_of(source.keys, "target.test"), "0", False)
    stays(source, begin(source, target), "target's daemon has no RDMA device", "--rdma")
    target.close()
    start_target(source, target)


def stray(source, target):
    """A connection with a token that nobody waits for is refused, and costs the session nothing."""
    since = target.lines()
    migration = begin(source, target, "--hold")
    source.daemon.wait_state("guest", "holding")
    port = target.log(r"rdma: device rxe0 at \S+ port \d+").split()[-1]
    said = source.run(str(godwit.BUILD / "tests/rdma/stray"), source.address, target.address, port)
    assert "refused the connection" in said, said
    target.log("was refused: nobody waits for it", since)
    source.daemon.ok("switch-now", "guest")
    moved(target, migration)


def held(source, target, *args, **how):
    """Passes go on and on."""
    migration = begin(source, target, "--hold", *args, **how)
    source.daemon.wait_state("guest", "holding")
    return migration


def kill_target(source, target):
    migration = held(source, target, "--reconnect", "1")
    target.kill("daemon")
    stays(source, migration)
    target.close()
    start_target(source, target)


def kill_source(source, target):
    """Its guest runs on by itself; the target's VM waits, or ended, and never runs."""
    held(source, target, "--reconnect", "1", "--peer-timeout", "10")
    source.kill("daemon")
    source.ticks()
    source.whole()
    assert target.ended("guest") == "failed"
    source.close()
    source.start(keys_of(source.keys, "source.test"), "0", True, ["--rdma-fabric", source.fabric])


def slow_target(source, target):
    """A target that stands still for a while is waited for."""
    migration = held(source, target)
    target.freeze("daemon", True)
    time.sleep(3)
    target.freeze("daemon", False)
    source.daemon.ok("switch-now", "guest")
    assert "reconnects" not in moved(target, migration)


# Two machines, and a cable.

def lose(source, percent):
    """The source's packets of RoCE are lost; 0: none any more. TCP is not touched."""
    if percent == 0:
        source.run("tc", "qdisc", "del", "dev", "eth0", "root")
        return
    source.run("tc", "qdisc", "add", "dev", "eth0", "root", "handle", "1:", "prio")
    source.run("tc", "qdisc", "add", "dev", "eth0", "parent", "1:3", "handle", "30:", "netem",
               "loss", f"{percent}%")
    source.run("tc", "filter", "add", "dev", "eth0", "parent", "1:0", "protocol", "ip", "u32",
               "match", "ip", "dport", str(LOSS_PORT), "0xffff", "flowid", "1:3")


def lossy(source, target, percent, vm):
    lose(source, percent)
    try:
        move(source, target, "--flows", "2", "--peer-timeout", "100", "--reconnect", "300",
             vm=vm, downtime="600000")
    finally:
        lose(source, 0)


def loss_half(source, target):
    lossy(source, target, 0.5, ())


def loss_15(source, target):
    lossy(source, target, 15, ("--populate", "30"))


def cut_3s(source, target):
    """Nothing comes through for 3 s, and the guest moves."""
    migration = held(source, target)
    lose(source, 100)
    time.sleep(3)
    lose(source, 0)
    source.daemon.ok("switch-now", "guest")
    moved(target, migration)


def cut_for_ever(source, target):
    migration = held(source, target, "--peer-timeout", "60", "--reconnect", "0")
    lose(source, 100)
    try:
        stays(source, migration, "flow 0", "rdma: ", "did not answer", "cables")
    finally:
        lose(source, 0)
    assert target.ended("guest") == "failed"


def cut_and_back(source, target, **how):
    """Longer than a queue pair has patience: new ones are made, and the guest moves."""
    migration = held(source, target, "--peer-timeout", "60", "--reconnect", "100", **how)
    since = len(source.daemon.lines)
    lose(source, 100)
    try:
        source.daemon.wait_line("the network was lost .*did not answer", since)
    finally:
        lose(source, 0)
    source.daemon.wait_line("the network is back", since)
    source.daemon.wait_state("guest", "holding")
    source.daemon.ok("switch-now", "guest")
    report = moved(target, migration)
    assert report["reconnects"] >= 1
    return report


def direct_cut_and_back(source, target):
    """The old queue pairs may write no page any more once new ones do."""
    report = cut_and_back(source, target, reserve="populate", rate="1000",
                          vm=("--balloon", "20", "--churn", "50"))
    assert report["rdma"]["registered_bytes"] > 0
