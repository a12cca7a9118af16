# SPDX-License-Identifier: BSD-3-Clause
"""What the other daemon says of its ports and lanes is checked: a lie ends its session with a
sentence, the guest runs on, and what the session held is free again."""

import re

import pytest

from fabric import Vhost

pytestmark = pytest.mark.insecure  # a wire changes what daemons say


def put(body, path, value):
    """Sets body[path[0]][path[1]]... to value; None takes it out."""
    for key in path[:-1]:
        body = body[key]
    if value is None:
        del body[path[-1]]
    else:
        body[path[-1]] = value


# Which message, request or answer, what in it becomes what, and what is said of it.
LIES = [
    ("hello", True, ["ports"], 7, "the target's daemon has no network port"),
    ("hello", True, ["ports", 0, "mtu"], 0, "describes a port that can't be"),
    ("hello", True, ["ports", 0, "ipv4"], "203.0.113.9", "no port here reaches"),
    ("hello", True, ["ports", 0, "name"], "x" * 200, "describes a port that can't be"),
    ("preflight", False, ["nic"], None, "port is not a text"),
    ("preflight", False, ["nic", "port"], "none", "no port none"),
    ("preflight", False, ["nic", "version"], 9, "speaks version 9"),
    ("preflight", False, ["nic", "frames"], 7, "7 frames"),
    ("preflight", False, ["nic", "mtu"], 9000, "MTU 9000"),
    ("preflight", False, ["nic", "mtu"], 68, "MTU 68"),
    ("preflight", False, ["nic", "silence_ms"], 0, "too little patience"),
    ("preflight", False, ["link"], "pigeon", "no link pigeon"),
    ("preflight", False, ["codec"], "zip", "codec zip"),
    ("preflight", False, ["codec"], "auto", "what auto may choose"),
    ("flows", False, ["lanes"], [], "told of 0 flows and not 1"),
    ("flows", False, ["lanes", 0], 7, "udp_port is not a number"),
    ("flows", False, ["lanes", 0, "udp_port"], 0, "no address, UDP port and token"),
    ("flows", False, ["lanes", 0, "udp_port"], 70000, "udp_port is not a number"),
    ("flows", False, ["lanes", 0, "token"], "0x00000000000000", "no address, UDP port and token"),
    ("flows", False, ["lanes", 0, "token"], "+000000000000001", "no address, UDP port and token"),
    ("flows", False, ["lanes", 0, "queue"], 64, "queue is not a number"),
    ("flows", False, ["spread"], {"key": "00", "queues": "0"}, "is no key and table"),
    ("flows", False, ["address"], "nonsense", "no address, UDP port and token"),
    ("flows", False, ["address"], "2001:db8:7::1", "has no address of the kind"),
    ("flows", True, ["lanes", 0, "token"], "short", "no address, UDP port and token"),
    ("flows", True, ["address"], None, "address is not a text"),
]


# What a source says of its guest's memory, well-formed: what becomes of the list of regions.
MEMORY_LIES = {
    "one more": (lambda r: r + [dict(r[-1], name="more")], r"regions? at the source"),
    "twice as large": (lambda r: [dict(r[0], bytes=2 * r[0]["bytes"]), *r[1:]], "MiB here"),
    "shown elsewhere": (lambda r: [dict(r[0], views=[dict(v, gpa=v["gpa"] + (1 << 30))
                                                     for v in r[0]["views"]]), *r[1:]],
                        "guest address 0x"),
    "shown twice": (lambda r: [dict(r[0], views=2 * r[0]["views"]), *r[1:]], "guest addresses"),
    "another name": (lambda r: [dict(r[0], name="other"), *r[1:]], "is called other"),
}


@pytest.fixture(scope="module")
def liars(shared):
    """Two daemons on a vhost, with a wire between their control connections, and a guest."""
    source, target, _ = shared.joined(Vhost)
    vm, waiting = shared.vm(memory="32M"), shared.waiting(memory="32M")
    vm.wait_ticks()
    yield source, target, shared.wire(target), vm, waiting
    assert source.alive() and target.alive()
    shared.moved(source, target, vm, memory="32M")


@pytest.mark.parametrize("op,answer,path,value,says", LIES,
                         ids=lambda v: ".".join(map(str, v)) if isinstance(v, list) else None)
def test_other_daemon_lies(shared, liars, op, answer, path, value, says):
    def change(which, is_answer, body):
        if (which, is_answer) == (op, answer) and "error" not in body:
            put(body, path, value)
        return body

    lie(shared, liars, change, "nic", says)


@pytest.mark.parametrize("name", MEMORY_LIES)
def test_source_lies_about_its_memory(shared, liars, name):
    """The target writes into the regions that both have, or nowhere."""
    make, says = MEMORY_LIES[name]

    def change(which, is_answer, body):
        if which == "preflight" and not is_answer:
            body["regions"] = make(body["regions"])
        return body

    lie(shared, liars, change, "tcp", says)


def lie(shared, liars, change, link, says):
    source, target, wire, vm, waiting = liars
    wire.change = change
    migration = shared.migrate(source, target, vm, waiting, "guest", "--link", link,
                               "--peer-timeout", "3", to=wire.address)
    end = migration.failed()
    assert re.search(says, end["error"]), end["error"]
    vm.wait_ticks()
    target.run("cancel", "guest")
    target.wait_state("guest", "ended")
    source.wait_state("guest", "ended")
