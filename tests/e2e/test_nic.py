# SPDX-License-Identifier: BSD-3-Clause
"""Pages over ports of the daemons' own: whole migrations of a guest that writes, over every kind of
device that a host without a spare card has; a wire that is cut; daemons that die; what an operator
is told; and what stands in the packets."""

import itertools
import os
import pathlib
import subprocess
import time

import pytest

import godwit
from fabric import Cable, Memif, Vhost, udp_of

VECTORS = godwit.BUILD / "tests/lint/vectors"
PACKET_AT, PACKET_MAGIC = 14 + 20 + 8, b"GN\x03"  # behind Ethernet, IPv4 and UDP
ISOLATED = pathlib.Path("/sys/devices/system/cpu/isolated")
KINDS = [Memif, Vhost, Cable]
ALL = list(itertools.product(KINDS, [1, 4], [1500, 9000], ["ipv4", "ipv6"]))
# Each kind, each number of queues, each MTU and family at least once; some in plain text.
PLAIN = [(Memif, 1, 9000, "ipv4"), (Vhost, 1, 1500, "ipv4"), (Cable, 4, 9000, "ipv6")]
SOME = [(Memif, 4, 1500, "ipv6"), (Vhost, 4, 9000, "ipv4"), (Cable, 1, 1500, "ipv4"),
        *[pytest.param(how, marks=pytest.mark.insecure) for how in PLAIN]]


def shape(how):
    return f"{how[0].__name__}-{how[1]}-{how[2]}-{how[3]}"


@pytest.fixture(params=["sealed", pytest.param("plain", marks=pytest.mark.insecure)])
def both_ways(request):
    return request.param


def move(stage, how, *args, memory="64M", rate=2000, pattern="random", backing="4K",
         daemon=("--huge", "no")):
    kind, queues, mtu, family = how
    huge = ["--hugepages"] if backing == "2M" else []
    source, target, net = stage.joined(kind, queues, mtu, family, args=daemon)
    vm = stage.vm(memory=memory, args=["--vcpus", 2, "--pattern", pattern, "--rate", rate, *huge])
    waiting = stage.waiting(memory=memory, args=huge)
    last = vm.wait_ticks()
    migration = stage.migrate(source, target, vm, waiting, "guest", "--link", "nic", "--flows",
                              queues, "--verify", "memory", *args)
    report = migration.done()
    assert vm.wait() == 0
    assert waiting.wait_ticks(3) > last
    assert vm.ticks()[-1] <= waiting.ticks()[0], "the heartbeat went back"
    vm.whole()
    waiting.whole()
    assert report["verified_pages"] > 0
    assert report["seal"].startswith("aes-256-gcm" if stage.secure else "none")
    there = target.status("guest")["report"]
    assert there["link"] == "nic" and there["port"]["name"] == "wire1"
    # Packets that the guest wrote into while they left are among those that came: law 10.
    assert there["port"]["packets_out"] > 0 and there["port"]["packets_in"] > 0
    return report, migration, net


def check_report(report, how):
    kind, queues, mtu, _ = how
    port = report["port"]
    assert report["link"] == "nic" and report["flows"] == queues
    assert port["name"] == "data0"
    assert port["driver"] == {Memif: "net_memif", Vhost: "net_virtio_user",
                              Cable: "net_af_packet"}[kind]
    assert port["queues"] == queues
    assert 1280 <= port["path_mtu"] <= mtu
    assert port["packets_out"] > 0 and port["packets_in"] > 0 and port["packets_bad"] == 0
    assert port["steering"] in ("rss", "rte_flow", "software")


@pytest.mark.parametrize("how", SOME, ids=shape)
def test_move(stage, how):
    report, _, _ = move(stage, how)
    check_report(report, how)


@pytest.mark.long
@pytest.mark.parametrize("how", ALL, ids=shape)
def test_move_all(stage, how, both_ways):
    report, _, _ = move(stage, how, memory="256M", rate=8000)
    check_report(report, how)


@pytest.mark.long
def test_move_over_many_queues(stage):
    how = (Memif, 17, 1500, "ipv4")
    report, _, _ = move(stage, how)
    check_report(report, how)


def on_huge_pages(stage, how):
    """The devices' memory and the guests' on huge pages: virtio_user shares its with the other
    side, page by page."""
    report, _, _ = move(stage, how, backing="2M", daemon=["--memory", "128M", "--huge", "yes"])
    check_report(report, how)
    assert report["memory"] == "2 MiB huge pages"


def test_move_on_huge_pages(stage, many_hugepages):
    on_huge_pages(stage, (Vhost, 1, 9000, "ipv4"))


@pytest.mark.long
@pytest.mark.parametrize("kind", [Memif, Cable])
def test_move_on_huge_pages_all(stage, many_hugepages, kind):
    on_huge_pages(stage, (kind, 1, 9000, "ipv4"))


@pytest.mark.smoke
def test_move_smoke(stage):
    how = (Cable, 1, 1500, "ipv4")
    report, _, _ = move(stage, how, "--codec", "deflate:1", memory="32M", rate=1000)
    check_report(report, how)


@pytest.mark.parametrize("kind", [Memif, pytest.param(Vhost, marks=pytest.mark.long)])
def test_one_cpu_for_both(stage, kind):
    """Both ends of a flow on one CPU, which others want too: each is away while the other works,
    and neither takes that for a slow network, or for a dead peer."""
    source, target, _ = stage.joined(kind, one_cpu=True)
    with godwit.busy(3):
        report = moved_whole(stage, source, target)
    assert report["port"]["packets_bad"] == 0 and "reconnects" not in report


def test_vlan(stage):
    source, target, net = stage.joined(Cable, more="vlan = 77\n")
    seen = net.capture()
    vm, waiting = stage.vm(memory="32M"), stage.waiting(memory="32M")
    vm.wait_ticks()
    stage.migrate(source, target, vm, waiting, "guest", "--link", "nic", "--verify",
                  "memory").done()
    waiting.wait_ticks()
    waiting.whole()
    ours = [frame for side in seen for frame in side.close() if udp_of(frame)]
    assert ours and all(frame[12:16] == bytes.fromhex("8100004d") for frame in ours)


def moved_whole(stage, source, target, *args):
    vm, waiting = stage.vm(memory="32M"), stage.waiting(memory="32M")
    vm.wait_ticks()
    report = stage.migrate(source, target, vm, waiting, "guest", "--link", "nic", "--verify",
                           "memory", *args).done()
    waiting.wait_ticks()
    waiting.whole()
    return report


@pytest.mark.insecure  # sealed pages are copied
def test_zero_copy_of_memory_that_comes_and_goes(stage):
    """The device reads pages where they lie, while the guest gives others up, has them punched, and
    takes them into use again."""
    source, target, _ = stage.joined(Cable, mtu=9000, more="zero-copy = yes\n")
    vm = stage.vm(memory="32M", args=["--vcpus", 2, "--pattern", "random", "--rate", 1000,
                                      "--free", 40, "--balloon", 30, "--churn", 16])
    waiting = stage.waiting(memory="32M")
    last = vm.wait_ticks()
    report = stage.migrate(source, target, vm, waiting, "guest", "--link", "nic", "--verify",
                           "memory", "--bandwidth", "32M", "--downtime", 2000).done()
    assert report["port"]["zero_copy"] and report["verified_pages"] > 0
    assert report["pages_balloon"] > 0 and report["pages_hole"] + report["pages_skipped"] > 0
    assert waiting.wait_ticks() > last
    waiting.whole()


@pytest.mark.long
def test_the_smaller_mtu_counts(stage):
    net = stage.fabric(Cable, mtu=9000)
    there = net.daemon(1)
    there["ports"] = there["ports"].replace("mtu = 9000", "mtu = 1400")
    target, source = stage.target(**there), stage.source(**net.daemon(0))
    assert moved_whole(stage, source, target)["port"]["path_mtu"] == 1400


def test_a_path_smaller_than_its_ports(stage):
    """The cable takes less than both ports were told: probes find what passes."""
    source, target, net = stage.joined(Cable, mtu=9000)
    net.shrink(2000)
    assert 1280 <= moved_whole(stage, source, target)["port"]["path_mtu"] <= 2000


@pytest.mark.long
def test_nothing_leaks(stage):
    """More sessions than an lcore has places: each gives back what it held."""
    source, target, _ = stage.joined(Cable)
    vm, waiting = stage.vm(memory="32M"), stage.waiting(memory="32M")
    vm.wait_ticks()
    for _ in range(70):
        stage.migrate(source, target, vm, waiting, "guest", "--link", "nic", "--dry-run").end()
        target.run("cancel", "guest")
        target.wait_state("guest", "ended")
    for _ in range(10):
        under_way = stage.migrate(source, target, vm, waiting, "guest", "--link", "nic", "--hold")
        source.wait_state("guest", "holding")
        source.ok("cancel", "guest")
        under_way.failed()
        target.wait_state("guest", "ended")
    stage.moved(source, target, vm, memory="32M")


@pytest.mark.long
def test_there_and_back(stage):
    """Ports serve one session after the other, in both roles."""
    source, target, _ = stage.joined(Cable, queues=2)
    vm = stage.vm(memory="32M", args=["--pattern", "random"])
    vm.wait_ticks()
    for hop in range(3):
        here, there = (source, target) if hop % 2 == 0 else (target, source)
        vm = stage.moved(here, there, vm, f"hop{hop}", memory="32M")
        assert here.status(f"hop{hop}")["report"]["link"] == "nic"


@pytest.mark.long
def test_several_at_once(stage):
    source, target, _ = stage.joined(Cable, queues=2)
    vms = [stage.vm(memory="32M", args=["--pattern", "hot"]) for _ in range(3)]
    waiting = [stage.waiting(memory="32M") for _ in vms]
    for vm in vms:
        vm.wait_ticks()
    under_way = [stage.migrate(source, target, vm, w, f"guest{n}", "--link", "nic", "--flows", 3,
                               "--verify", "memory") for n, (vm, w) in enumerate(zip(vms, waiting))]
    for migration in under_way:
        migration.done()
    for w in waiting:
        w.wait_ticks()
        w.whole()


class Slow:
    """A migration over a cable that is in its first pass for long."""

    def __init__(self, stage, *args, kind=Cable):
        self.source, self.target, self.net = stage.joined(kind)
        self.vm, self.waiting = stage.vm(), stage.waiting()
        self.vm.wait_ticks()
        self.migration = stage.migrate(self.source, self.target, self.vm, self.waiting, "guest",
                                       "--link", "nic", "--bandwidth", "1M", "--verify", "memory",
                                       *args)
        self.source.wait_state("guest", "copying")
        godwit.wait_until("pages are on their way", lambda: self.sent() > 100)

    def sent(self):
        return self.source.status("guest")["report"]["pages_data"]


def test_wire_is_cut_and_mended(stage):
    slow = Slow(stage)
    slow.net.cut()
    time.sleep(5)
    assert slow.migration.alive()
    slow.net.mend()
    slow.source.ok("set", "guest", "--bandwidth", "0")
    report = slow.migration.done()
    assert report["verified_pages"] > 0 and "reconnects" not in report
    slow.waiting.wait_ticks()
    slow.waiting.whole()


def test_wire_stays_cut(stage):
    """Control connections come back at once, and nothing goes over the wire: each time its silence
    has to be noticed, within the time that is given in all."""
    slow = Slow(stage, "--peer-timeout", "2s", "--reconnect", "4s")
    slow.net.cut()
    end = slow.migration.failed()
    assert "flow 0" in end["error"] or "nothing moved" in end["error"]
    slow.vm.wait_ticks(3)
    slow.vm.whole()
    assert not slow.waiting.ticks(), "the guest ran on both sides"
    slow.net.mend()
    stage.moved(slow.source, slow.target, slow.vm)


def test_nobody_answers(stage):
    """The network lets control through and no page: who can't be found is named."""
    source, target, net = stage.joined(Cable)
    vm, waiting = stage.vm(memory="32M"), stage.waiting(memory="32M")
    vm.wait_ticks()
    net.cut()
    end = stage.migrate(source, target, vm, waiting, "guest", "--link", "nic", "--peer-timeout",
                        "3", "--reconnect", 0).failed()
    assert "198.51.100." in end["error"]
    vm.wait_ticks()
    vm.whole()
    net.mend()
    stage.moved(source, target, vm, memory="32M")


def test_wire_is_noticed_and_mended(stage):
    """Both sides go on with new flows over their ports."""
    slow = Slow(stage, "--peer-timeout", "2s", "--reconnect", "60s")
    slow.net.cut()
    before = slow.source.wait_state("guest", "reconnecting")["report"]["port"]["packets_out"]
    slow.net.mend()
    after = slow.source.wait_state("guest", "copying")["report"]["port"]["packets_out"]
    assert after >= before > 100
    slow.source.ok("set", "guest", "--bandwidth", "0")
    report = slow.migration.done()
    assert report["reconnects"] >= 1 and report["verified_pages"] > 0
    slow.waiting.wait_ticks()
    slow.waiting.whole()


@pytest.mark.parametrize("kind,victim", [
    pytest.param(Vhost, "source", marks=pytest.mark.long), (Vhost, "target"), (Cable, "source"),
    (Cable, "target")])
def test_daemon_dies(stage, kind, victim):
    slow = Slow(stage, "--peer-timeout", "10s", "--reconnect", 0, kind=kind)
    (slow.source if victim == "source" else slow.target).kill()
    slow.vm.wait_ticks(3)
    slow.vm.whole()
    if victim == "target":
        assert slow.migration.failed()["error"]
    assert not slow.waiting.ticks(), "the guest ran on both sides"
    survivor = slow.target if victim == "source" else slow.source
    survivor.wait_state("guest", "ended")
    assert survivor.alive()
    if kind is Cable:
        again = stage.source(**slow.net.daemon(0), cores="0") if victim == "source" else \
            stage.target(**slow.net.daemon(1), cores="0")
        pair = (again, survivor) if victim == "source" else (survivor, again)
        stage.moved(*pair, slow.vm)


def test_auto_and_refusals(stage):
    """auto says what it takes; nic is refused where it can't be, and nothing was touched."""
    source, target, net = stage.joined(Cable)
    plain = stage.daemon("plain", cores="0", netns=net.spaces[1], host="192.0.2.2")
    vm, waiting = stage.vm(memory="32M"), stage.waiting(memory="32M")
    vm.wait_ticks()
    end = stage.migrate(source, plain, vm, waiting, "guest", "--link", "nic").failed()
    assert end["result"] == "refused" and "the target's daemon has no network port" in end["error"]
    plain.run("cancel", "guest")
    end = stage.migrate(source, target, vm, waiting, "try", "--dry-run")
    assert end.end()["result"] == "dry-run"
    said = " ".join(e["text"] for e in end.events() if e["event"] == "log")
    assert "link nic, chosen by auto: port data0 (net_af_packet" in said
    target.run("cancel", "try")
    taken = stage.migrate(source, plain, vm, waiting, "other")
    assert taken.done()["link"] == "tcp"
    said = " ".join(e["text"] for e in taken.events() if e["event"] == "log")
    assert "link tcp, chosen by auto: the target's daemon has no network port" in said
    assert "of the guest's VMM" in said and "may run on CPU 0, which moves its pages" in said
    waiting.wait_ticks()
    waiting.whole()


def test_status_and_doctor_know_the_port(stage):
    source, _, _ = stage.joined(Cable, queues=2, mtu=9000)
    if os.cpu_count() > 1 and not ISOLATED.read_text(encoding="ascii").strip():
        source.wait_line("CPU 0 is not isolated from other work")
    told = source.ok("status")
    assert "data0" in told and "net_af_packet" in told and "198.51.100.1" in told
    assert "queues 2" in told and "MTU 9000" in told
    told = source.run("doctor").stdout
    assert "data0" in told and "net_af_packet" in told


@pytest.mark.parametrize("device,says", [
    ("net_af_packet0,iface=gw-none", "gw-none"),
    ("no_such_driver0", "no_such_driver0"),
])
def test_port_that_cannot_be(stage, device, says):
    daemon = stage.source(ready=False, ports=f"[port data0]\ndevice = {device}\n"
                          "ipv4 = 198.51.100.1/24\n")
    assert daemon.wait() == 1
    assert says in "\n".join(daemon.lines[1:]) and "data0" in daemon.lines[-1]


@pytest.mark.insecure
def test_packets_are_what_the_protocol_says(stage):
    """What tcpdump saw on the cable is read by the program's own decoder and written again, byte by
    byte, as the examples of PROTOCOL.md are; the headers below it are checked here."""
    source, target, net = stage.joined(Cable)
    seen = net.dump()
    vm, waiting = stage.vm(memory="32M"), stage.waiting(memory="32M")
    vm.wait_ticks()
    stage.migrate(source, target, vm, waiting, "guest", "--link", "nic").done()
    waiting.wait_ticks()
    godwit.wait_until("tcpdump has written packets of all types", lambda: {
        frame[PACKET_AT + 3] for side in seen for frame in side.frames()
        if frame[PACKET_AT:PACKET_AT + 3] == PACKET_MAGIC} >= {1, 2, 3, 4})
    frames = [frame for side in seen for frame in side.close()]
    packets = [found[2] for found in map(udp_of, frames) if found]
    kinds = {kind: [p for p in packets if p[3] == kind] for kind in (1, 2, 3, 4)}
    assert sum(len(found) for found in kinds.values()) == len(packets), "a packet of no known type"
    assert all(kinds.values()), {kind: len(found) for kind, found in kinds.items()}
    path = stage.folder / "capture"
    with path.open("w", encoding="ascii") as out:
        for kind, found in kinds.items():
            for packet in found[:200] + found[-200:]:
                lines = [packet[n:n + 32].hex() for n in range(0, len(packet), 32)]
                out.write(f"```vector packet captured {kind}\n" + "\n".join(lines) + "\n```\n")
    done = subprocess.run([VECTORS, path], capture_output=True, text=True, timeout=60,
                          stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout[-2000:]
    assert " 0 wrong" in done.stdout
