# SPDX-License-Identifier: BSD-3-Clause
"""The cases of cases.py that need two machines, and a cable between them that loses packets, or
that somebody listens to."""

import socket
import time

import godwit
from cases import (TURNS, begin, by_turns, directly, held, move, moved, needs,
                   read_by_the_device, stays, told)

LOSS_PORT = 4791  # RoCE v2; all other packets of the cable go their way


def spoil(source, target, *how):
    """What befalls packets of RoCE, both ways, as netem has it; nothing: no more. TCP is not
    touched."""
    for host in (source, target):
        if not how:
            host.run("tc", "qdisc", "del", "dev", "eth0", "root")
            continue
        host.run("tc", "qdisc", "add", "dev", "eth0", "root", "handle", "1:", "prio")
        host.run("tc", "qdisc", "add", "dev", "eth0", "parent", "1:3", "handle", "30:", "netem",
                 *how)
        for prio, protocol, match in (("1", "ip", "ip"), ("2", "ipv6", "ip6")):
            host.run("tc", "filter", "add", "dev", "eth0", "parent", "1:0", "prio", prio,
                     "protocol", protocol, "u32", "match", match, "dport", str(LOSS_PORT),
                     "0xffff", "flowid", "1:3")


def lose(source, target, percent):
    spoil(source, target, *(["loss", f"{percent}%"] if percent else []))


def lossy(source, target, percent, vm, reserve="book"):
    lose(source, target, percent)
    try:
        return move(source, target, "--flows", "2", "--peer-timeout", "100", "--reconnect", "300",
                    vm=vm, downtime="600000", reserve=reserve)
    finally:
        lose(source, target, 0)


def loss_half(source, target):
    lossy(source, target, 0.5, ())


def loss_15(source, target):
    lossy(source, target, 15, ("--populate", "30"))


def direct_loss_15(source, target):
    """Writes of whole chunks break on it, and small ones take their place."""
    report = lossy(source, target, 15, ("--populate", "30"), "populate")
    directly(report)
    read_by_the_device(report, True)


@needs(both={"rdma": 6})
def loss_half_ipv6(source, target):
    lossy(source, target, 0.5, ())


def cut_3s(source, target):
    """Nothing comes through for 3 s, about as long as a device is patient; then the way there and
    back takes longer than it waits for an answer, so that each completion comes after it has sent
    again what it is for."""
    migration = held(source, target, "--flows", "2", reserve="populate")
    lose(source, target, 100)
    time.sleep(3)
    lose(source, target, 0)
    source.daemon.wait_state("guest", "holding")
    before = source.counter("completer_retry_err")
    spoil(source, target, "delay", "200ms", "limit", "20000")
    try:
        passes = source.daemon.status("guest")["pass"]
        godwit.wait_until("passes go on",
                          lambda: source.daemon.status("guest")["pass"] >= passes + 3)
        source.daemon.ok("switch-now", "guest")
        report = moved(target, migration)
    finally:
        spoil(source, target)
    directly(report)
    assert source.counter("completer_retry_err") > before


def silence_was_told(source, target, since):
    """By the host that noticed first: one is cut off a little before the other one, which may still
    hear its goodbye."""
    told(source, target, since, "did not answer: check cables")


def cut_for_ever(source, target):
    migration = held(source, target, "--peer-timeout", "60", "--reconnect", "0")
    since = source.lines(), target.lines()
    lose(source, target, 100)
    try:
        stays(source, migration, "flow 0", "rdma: ")
    finally:
        lose(source, target, 0)
    assert target.ended("guest") == "failed"
    silence_was_told(source, target, since)


def cut_and_back(source, target, *args, **how):
    """Longer than a queue pair has patience: new ones are made, and the guest moves."""
    migration = held(source, target, "--peer-timeout", "60", "--reconnect", "100", *args, **how)
    since = source.lines(), target.lines()
    lose(source, target, 100)
    try:
        source.daemon.wait_line("the network was lost ", since[0])
    finally:
        lose(source, target, 0)
    silence_was_told(source, target, since)
    source.daemon.wait_line("the network is back", since[0])
    source.daemon.wait_state("guest", "holding")
    source.daemon.ok("switch-now", "guest")
    report = moved(target, migration)
    assert report["reconnects"] >= 1
    return report


def direct_cut_and_back(source, target):
    """The old queue pairs may write no page any more once new ones do."""
    directly(cut_and_back(source, target, reserve="populate", rate="1000",
                          vm=("--balloon", "20", "--churn", "50")))


@needs(target={"locked": TURNS})
def turns_cut_and_back(source, target):
    """Windows of before are forgotten on both sides, and others asked for."""
    by_turns(cut_and_back(source, target, "--flows", "2", "--bandwidth", "16M",
                          reserve="populate", rate="1000", memory="48M",
                          vm=("--balloon", "10", "--churn", "50")))


def sealed_cut_and_back(source, target):
    """New connections have the keys of a new handshake on both ends, or nothing would be opened."""
    since = target.lines()
    report = cut_and_back(source, target, seal="auto", rate="1000")
    assert report["seal"].startswith("aes-256-gcm") and report["verified_pages"] > 0
    target.log("the source is back", since)


def tell(source, word, about):
    """Who stands on the cable (tests/e2e/roce.py)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(f"on the cable: {word} {about}".encode(), (source.to.rsplit(":", 1)[0], 9))


def warm(source, target):
    """Whatever comes of it: the machines read now what a handshake needs, for which a daemon gives
    a stranger 5 s."""
    begin(source, target, "--dry-run", seal="auto").end(900)


def overheard(source, target, seal):
    """Pages that pass someone who listens, and what some of them hold."""
    tell(source, "keep", f"overheard*{seal}")
    migration = begin(source, target, seal=seal)
    for page in godwit.pages_of(source.vm)[:100]:
        for at in (0, 1024, 4080):
            print(f"secret {page[at:at + 16].hex()}")
    moved(target, migration)


def replayed(source, target, seal, way):
    """He keeps what one connection carries, cuts it, and gives it to the next one."""
    since = source.lines(), target.lines()
    tell(source, "keep-and-cut", f"replayed*{seal}*{way}")
    migration = begin(source, target, "--codec", "raw", "--bandwidth", "4M", "--peer-timeout", "60",
                      "--reconnect", "100", seal=seal, rate="1",
                      vm=("--share", "1", "--content", "random"))
    source.daemon.wait_line("the network was lost ", since[0])
    tell(source, "replay", way)
    if seal == "none":
        source.daemon.wait_line("the network is back", since[0])
        source.daemon.ok("set", "guest", "--bandwidth", "0")
        end = migration.end(900)
        (target if end["result"] == "done" else source).whole()
        print(f"without a seal: {end['result']}: {end['error']}")
        return
    stays(source, migration)
    assert target.ended("guest") == "failed"
    host, since = (target, since[1]) if way == "there" else (source, since[0])
    host.log("its seal does not match", since)
