# SPDX-License-Identifier: BSD-3-Clause
"""Who may take part: certificates that are wrong in each way, handshakes that are stripped or
downgraded, silence. Each is refused with the check that failed, on the side that made it; the guest
runs on, and a good migration succeeds afterwards."""

import datetime
import json
import shutil
import socket
import ssl
import subprocess
import time

import pytest

import godwit
import wire

CONTROL_TLS = 3


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return godwit.make_keys(tmp_path_factory.mktemp("authority"), "source.test,127.0.0.1",
                            "target.test,127.0.0.1", "other.elsewhere,127.0.0.1")


@pytest.fixture
def keys(authority, tmp_path):
    """A copy that a test may spoil."""
    return pathlib_copy(authority, tmp_path / "keys")


def pathlib_copy(folder, to):
    shutil.copytree(folder, to)
    return to


class Two:
    """Two daemons and a guest that is to move."""

    def __init__(self, stage, source, target, source_how=None, target_how=None):
        self.stage = stage
        self.source = stage.source(keys=source, **(source_how or {}))
        self.target = stage.target(keys=target, **(target_how or {}))
        self.vm = stage.vm(kind="soft", memory="16M", args=["--rate", "100"])
        self.waiting = stage.waiting(kind="soft", memory="16M")

    def migrate(self, *args):
        return self.stage.migrate(self.source, self.target, self.vm, self.waiting, "guest", *args)

    def refused(self, at_source, at_target, *args):
        """The guest stays; each side's log or error says what it should."""
        end = self.migrate(*args).failed()
        assert at_source in end["error"], end["error"]
        if at_target:
            self.target.wait_line(at_target)
        self.vm.wait_ticks()
        assert self.target.status("guest")["state"] == "waiting"

    def moved(self, *args):
        report = self.migrate("--verify", "memory", *args).done()
        assert report["verified_pages"] > 0
        self.waiting.wait_ticks()
        self.waiting.whole()
        return report


def openssl(*args, **how):
    subprocess.run(["openssl", *map(str, args)], check=True, capture_output=True, **how)


def test_good_certificates(stage, keys, pagemap_scan):
    two = Two(stage, keys / "source.test", keys / "target.test")
    assert two.moved()["insecure"] is False
    assert two.source.status("guest")["insecure"] is False
    two.target.wait_line(r"comes from 127.0.0.1:\d+ \(source.test, 127.0.0.1\)")
    status = json.loads(two.source.ok("status", "--json"))
    assert status["daemon"]["certificate"] == "source.test, 127.0.0.1"


def self_signed(folder):
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-keyout", folder / "host.key", "-out", folder / "host.pem", "-subj", "/CN=source.test",
            "-addext", "subjectAltName=DNS:source.test,IP:127.0.0.1", "-days", "3")


def from_elsewhere(folder):
    other = godwit.make_keys(folder / "elsewhere", "source.test,127.0.0.1")
    for name in ("host.pem", "host.key"):
        shutil.copy(other / "source.test" / name, folder)


def wrong_purpose(folder):
    """Signed by the authority, but for mail."""
    (folder / "mail.conf").write_text(
        "extendedKeyUsage=emailProtection\nsubjectAltName=DNS:source.test,IP:127.0.0.1\n")
    sign(folder, "-extfile", folder / "mail.conf", "-days", "3")


def sign(folder, *how):
    authority = folder.parent
    openssl("x509", "-req", "-in", folder / "host.csr", "-CA", authority / "authority.pem",
            "-CAkey", authority / "authority.key", "-set_serial", "77", "-out",
            folder / "host.pem", "-copy_extensions", "copy", *how)


def ca(folder, *how):
    """The authority of a host's folder, which signs with any dates."""
    authority = folder.parent
    ca = folder / "ca"
    ca.mkdir()
    (ca / "index").touch()
    (ca / "serial").write_text("1234\n")
    (ca / "conf").write_text(
        "[ca]\ndefault_ca=a\n[a]\n"
        f"database={ca}/index\nserial={ca}/serial\nnew_certs_dir={ca}\ndefault_md=sha256\n"
        "policy=p\ncopy_extensions=copy\n[p]\ncommonName=supplied\n")
    openssl("ca", "-batch", "-config", ca / "conf", "-cert", authority / "authority.pem",
            "-keyfile", authority / "authority.key", "-notext", *how)


def dated(folder, start, end):
    ca(folder, "-in", folder / "host.csr", "-startdate", start, "-enddate", end, "-out",
       folder / "host.pem")


def two_expiring(stage, authority, folder, side):
    """Two whose certificate of one side was good when its daemon read it, and is for no more than
    some seconds; more of them where a busy host's daemon reads it too late."""
    for seconds in (9, 40, 160):
        keys = pathlib_copy(authority, folder / f"expiring{seconds}")
        until = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)
        dated(keys / f"{side}.test", "20200101000000Z", until.strftime("%Y%m%d%H%M%SZ"))
        try:
            return Two(stage, keys / "source.test", keys / "target.test"), until
        except AssertionError as why:
            if "has expired" not in str(why) or seconds == 160:
                raise
            while stage.children:
                stage.children.pop().close()


def wait_expired(until):
    left = (until - datetime.datetime.now(datetime.timezone.utc)).total_seconds()
    time.sleep(max(0, left + 1.5))


@pytest.fixture(scope="module", autouse=True)
def expiring(shared, authority, tmp_path_factory):
    """A certificate's time runs out while the other tests run; the last one looks at it."""
    return two_expiring(shared, authority, tmp_path_factory.mktemp("expiring"), "source")


BAD_SOURCES = [
    pytest.param(self_signed, "refuses this host", r"\(source.test, 127.0.0.1\) is signed by "
                 "itself and not by an authority", id="self-signed"),
    pytest.param(from_elsewhere, "TLS", r"not signed by an authority of authority.pem",
                 id="wrong authority"),
    pytest.param(wrong_purpose, "refuses this host", r"not made for TLS", id="wrong purpose"),
]


@pytest.mark.parametrize("spoil,at_source,at_target", BAD_SOURCES)
def test_bad_certificate_of_the_source(stage, keys, authority, pagemap_scan, spoil, at_source,
                                       at_target):
    spoil(keys / "source.test")
    two = Two(stage, keys / "source.test", authority / "target.test")
    two.refused(at_source, at_target)
    # With the right certificate in place it goes: the files are read again.
    for name in ("host.pem", "host.key"):
        shutil.copy(authority / "source.test" / name, keys / "source.test" / name)
    two.waiting = stage.waiting(kind="soft", memory="16M")
    two.target.ok("cancel", "guest")
    two.moved()


def test_bad_certificate_of_the_target(stage, keys, authority):
    self_signed(keys / "target.test")
    two = Two(stage, authority / "source.test", keys / "target.test")
    two.refused("is signed by itself and not by an authority", r"refuses this host \(TLS alert")


@pytest.mark.long
def test_target_expired(stage, authority, tmp_path):
    two, until = two_expiring(stage, authority, tmp_path, "target")
    wait_expired(until)
    two.refused("(target.test, 127.0.0.1) has expired", r"refuses this host \(TLS alert")


def test_not_valid_yet(stage, keys, authority):
    dated(keys / "source.test", "20400101000000Z", "20410101000000Z")
    two = Two(stage, keys / "source.test", authority / "target.test")
    two.refused("refuses this host", r"\(source.test, 127.0.0.1\) is not valid yet: compare the c")


def test_list_is_too_old(stage, keys):
    ca(keys / "target.test", "-gencrl", "-crl_lastupdate", "20200101000000Z", "-crl_nextupdate",
       "20200201000000Z", "-out", keys / "old.pem")
    crl = {"args": ["--crl", keys / "old.pem"]}
    two = Two(stage, keys / "source.test", keys / "target.test", target_how=crl)
    two.refused("refuses this host", r"the list of `crl` is too old, get a new one")


def test_expired_at_the_start(stage, keys):
    folder = keys / "source.test"
    sign(folder, "-days", "-1")
    daemon = stage.source(keys=folder, ready=False)
    assert daemon.wait() != 0
    daemon.wait_line("host.pem has expired")


def test_revoked(stage, keys):
    subprocess.run([godwit.GODWIT, "keys", "--dir", keys, "--revoke", "source.test"], check=True)
    crl = {"args": ["--crl", keys / "revoked.pem"]}
    two = Two(stage, keys / "source.test", keys / "target.test", target_how=crl)
    two.refused("refuses this host", r"\(source.test, 127.0.0.1\) is revoked by the list")


def test_revoked_while_it_runs(stage, keys, pagemap_scan):
    """A new list counts from the next connection on."""
    crl = {"args": ["--crl", keys / "revoked.pem"]}
    two = Two(stage, keys / "source.test", keys / "target.test", source_how=crl)
    subprocess.run([godwit.GODWIT, "keys", "--dir", keys, "--revoke", "target.test"], check=True)
    two.refused("is revoked by the list", None)
    subprocess.run([godwit.GODWIT, "keys", "--dir", keys, "target.test,127.0.0.1"], check=True)
    two.target.ok("cancel", "guest")
    two.moved()


def test_list_of_another_authority(stage, keys, tmp_path):
    other = godwit.make_keys(tmp_path / "other", "x.test")
    crl = {"args": ["--crl", other / "revoked.pem"]}
    two = Two(stage, keys / "source.test", keys / "target.test", target_how=crl)
    two.refused("refuses this host", r"the list of `crl` is not by its authority")


def test_not_allowed(stage, keys):
    two = Two(stage, keys / "other.elsewhere", keys / "target.test")
    two.refused("refuses this host",
                r"is for other.elsewhere, 127.0.0.1, of which `allow` lists none")


def test_not_the_one_that_was_called(stage, keys):
    two = Two(stage, keys / "source.test", keys / "target.test")
    two.refused("elsewhere.test was called and its certificate is for target.test, 127.0.0.1",
                None, "--peer", "elsewhere.test")


def test_not_the_one_that_is_awaited(stage, keys, pagemap_scan):
    """Another host that may take part does not get a session that waits for a certain one."""
    two = Two(stage, keys / "source.test", keys / "target.test")
    waits = ("receive", "guest", *two.waiting.way, "--detach", "--from")
    two.target.ok(*waits, "elsewhere.test")
    end = godwit.Migration(two.source, "guest", two.vm, two.target.address).failed()
    assert "awaited from another host" in end["error"], end["error"]
    two.target.wait_line("awaited from another host")
    assert two.target.status("guest")["state"] == "waiting"
    two.target.ok("cancel", "guest")
    two.target.ok(*waits, "source.test")
    godwit.Migration(two.source, "guest", two.vm, two.target.address).done()
    two.waiting.wait_ticks()


def test_plain_text_to_a_secure_target(stage, keys):
    stage.secure = False
    two = Two(stage, None, keys / "target.test")
    two.refused("the target's Godwit wants TLS, and the source speaks plain text", r"wants TLS")


def test_secure_source_to_an_insecure_target(stage, keys):
    stage.secure = False
    two = Two(stage, keys / "source.test", None)
    two.refused("instead of a TLS handshake", r"it speaks TLS and this host is `insecure`")


def test_insecure_says_so(stage, pagemap_scan):
    stage.secure = False
    two = Two(stage, None, None)
    record = stage.folder / "insecure.jsonl"
    assert two.moved("--record", record)["insecure"] is True
    assert json.loads(record.read_text().splitlines()[-1])["report"]["insecure"] is True
    for daemon in (two.source, two.target):
        status = daemon.status("guest")
        assert status["insecure"] is True and status["report"]["insecure"] is True
        assert "nobody proved who he is" in daemon.ok("status", "guest")
    assert "insecure" in two.target.ok("status")
    two.target.wait_line("insecure: plain text")


def begin_tls(daemon, context):
    sock = socket.create_connection(("127.0.0.1", daemon.port), timeout=30)
    sock.sendall(wire.preamble(kind=CONTROL_TLS))
    return context.wrap_socket(sock, server_hostname="target.test")


def client(keys=None, most=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if most is not None:
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.maximum_version = most
    if keys is not None:
        context.load_cert_chain(keys / "host.pem", keys / "host.key")
    return context


@pytest.mark.smoke
def test_downgrade(stage, keys):
    target = stage.target(keys=keys / "target.test")
    with pytest.raises(ssl.SSLError, match="(?i)version"):
        begin_tls(target, client(keys / "source.test", ssl.TLSVersion.TLSv1_2))
    target.wait_line(r"was refused: TLS: unsupported protocol")


@pytest.mark.smoke
def test_no_certificate(stage, keys):
    target = stage.target(keys=keys / "target.test")
    with pytest.raises(ssl.SSLError):
        # In TLS 1.3 the client is done before the server has seen that it shows no certificate.
        begin_tls(target, client()).recv(1)
    target.wait_line(r"was refused: .*certificate")


def test_stripped(stage, keys):
    """Someone between turns the source's preamble into one of plain text."""
    source = stage.source(keys=keys / "source.test")
    target = stage.target(keys=keys / "target.test")
    vm = stage.vm(kind="soft", memory="16M")
    waiting = stage.waiting(kind="soft", memory="16M")
    with socket.create_server(("127.0.0.1", 0)) as between:
        address = "127.0.0.1:%d" % between.getsockname()[1]
        move = stage.migrate(source, target, vm, waiting, to=address)
        near, _ = between.accept()
        head = wire.receive(near, 32)
        assert head[6] == CONTROL_TLS
        with near, socket.create_connection(("127.0.0.1", target.port)) as far:
            far.sendall(wire.preamble())
            said = wire.receive_message(far)[1]
            assert "wants TLS" in said["error"]
            # The source is told so in plain text: it takes no word of it.
            near.sendall(wire.message(said))
            assert "TLS" in move.failed()["error"]
    vm.wait_ticks()


def test_silence_in_the_handshake(stage, keys, pagemap_scan):
    """Handshakes that stop half-way are cut, and lock nobody out meanwhile."""
    two = Two(stage, keys / "source.test", keys / "target.test")
    hello = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        client().wrap_bio(*hello).do_handshake()
    except ssl.SSLWantReadError:
        pass
    first = hello[1].read()
    socks = []
    for i in range(300):
        sock = socket.create_connection(("127.0.0.1", two.target.port), timeout=30)
        sock.sendall(wire.preamble(kind=CONTROL_TLS) + (first if i % 2 else first[:7]))
        socks.append(sock)
    two.moved()
    assert wire.closes(socks[0]) is not None
    for sock in socks:
        sock.close()


def test_expired(expiring):
    two, until = expiring
    wait_expired(until)
    two.refused("refuses this host", r"\(source.test, 127.0.0.1\) has expired")
