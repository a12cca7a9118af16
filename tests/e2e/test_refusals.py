# SPDX-License-Identifier: BSD-3-Clause
"""What can't work is refused before anything is touched, with a sentence that says what to do."""

import json
import os
import pathlib
import shutil
import subprocess

import pytest

import godwit
from godwit import WAIT_S


def test_port_in_use(stage):
    first = stage.source()
    second = stage.daemon("second", port=first.port, ready=False)
    assert second.wait() != 0
    said = "\n".join(second.lines[1:])
    assert str(first.port) in said and "--listen" in said
    assert first.ok("list") is not None


def test_api_socket_in_use(stage):
    first = stage.source()
    second = stage.daemon("second", args=["--api", first.api], ready=False)
    assert second.wait() != 0
    assert str(first.api) in "\n".join(second.lines[1:])
    assert first.ok("list") is not None


def test_state_directory_in_use(stage):
    first = stage.source()
    second = stage.daemon("second", args=["--state-dir", first.state], ready=False)
    assert second.wait() != 0
    said = "\n".join(second.lines[1:])
    assert str(first.state) in said and "--state-dir" in said


def test_stale_api_socket_is_replaced(stage):
    first = stage.source()
    first.kill()
    assert first.api.exists()
    assert stage.source().ok("list") is not None


def test_nobody_listens_at_the_target(stage):
    source = stage.source()
    vm = stage.vm()
    to = f"127.0.0.1:{godwit.free_port()}"
    migration = godwit.Migration(source, "guest", vm, to)
    stage.children.append(migration)
    assert to in migration.failed()["error"]
    vm.wait_ticks()


def test_target_has_another_memory(stage, pair):
    source, target = pair
    vm, waiting = stage.vm(memory="64M"), stage.waiting(memory="48M")
    end = stage.migrate(source, target, vm, waiting).failed()
    assert end["result"] == "refused" and "region" in end["error"]
    vm.wait_ticks()
    vm.whole()
    stage.moved(source, target, vm)


def test_names_that_do_not_match(stage, pair):
    source, target = pair
    vm, waiting = stage.vm(), stage.waiting()
    target.ok("receive", "other", "--agent", waiting.agent, "--detach")
    migration = godwit.Migration(source, "guest", vm, target.address)
    stage.children.append(migration)
    end = migration.failed()
    assert "guest" in end["error"] and "receive" in end["error"]
    vm.wait_ticks()


def test_no_vm_at_the_socket(stage, pair):
    source, target = pair
    nowhere = stage.folder / "nowhere.agent"
    assert str(nowhere) in target.fails("receive", "guest", "--agent", nowhere)
    done = source.run("migrate", "guest", "--agent", nowhere, "--to", target.address)
    assert done.returncode != 0 and str(nowhere) in done.stderr + done.stdout


def test_receive_at_a_running_guest(stage):
    target = stage.target()
    vm = stage.vm()
    done = target.run("receive", "guest", "--agent", vm.agent)
    assert done.returncode != 0 and "incoming" in done.stderr + done.stdout
    vm.wait_ticks()


def test_a_guest_has_one_session(stage, pair):
    source, target = pair
    vm, waiting = stage.vm(), stage.waiting()
    migration = stage.migrate(source, target, vm, waiting, "guest", "--hold")
    source.wait_state("guest", "holding")
    done = source.run("migrate", "twin", "--agent", vm.agent, "--to", target.address)
    assert done.returncode != 0 and (done.stderr + done.stdout).strip()
    assert source.fails("migrate", "guest", "--agent", vm.agent, "--to", target.address)
    source.ok("switch-now", "guest")
    migration.done()


def test_memory_for_a_whole_guest_that_is_not_there(stage):
    target = stage.target()
    have = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if have >= 1 << 40:
        pytest.skip("this host has a terabyte of memory")
    waiting = stage.waiting(kind="soft", memory="1T")
    done = target.run("receive", "guest", *waiting.way, "--reserve", "populate")
    assert done.returncode != 0 and "MiB" in done.stderr + done.stdout
    assert waiting.alive()


def test_memory_that_the_control_group_does_not_allow(stage):
    """The limit of a group around the daemon's own."""
    target = stage.target()
    waiting = stage.waiting(memory="64M")
    for root, limit in (("/sys/fs/cgroup", "memory.max"),
                        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")):
        group = pathlib.Path(root) / f"godwit-test-{os.getpid()}"
        inner = group / "inner"
        try:
            inner.mkdir(parents=True)
            with (group / limit).open("r+") as file:
                file.write(str(64 << 20))
            break
        except OSError:
            for made in (inner, group):
                if made.exists():
                    made.rmdir()
    else:
        pytest.skip("no memory control group can be made here")
    try:
        (inner / "cgroup.procs").write_text(str(target.popen.pid))
        done = target.run("receive", "guest", *waiting.way, "--reserve", "populate")
    finally:
        target.kill()
        for made in (inner, group):
            godwit.wait_until(f"{made} is empty", lambda: not (made / "cgroup.procs").read_text())
            made.rmdir()
    assert done.returncode != 0 and "control group" in done.stderr + done.stdout


def too_many_megabytes():
    """More than this host's huge pages hold, whatever other tests reserve meanwhile."""
    try:
        free = int(pathlib.Path("/proc/sys/vm/nr_hugepages").read_text())
    except FileNotFoundError:
        free = 0
    wanted = 2 * free + 4096
    if wanted > 64 << 10:
        pytest.skip(f"{free} huge pages are more than a daemon may ask for")
    return wanted


def test_huge_pages_that_are_not_there(stage):
    daemon = stage.daemon("source", args=["--huge", "yes", "--memory", f"{too_many_megabytes()}M"],
                          ready=False)
    assert daemon.wait() != 0
    assert "huge" in daemon.lines[-1] and "nr_hugepages" in daemon.lines[-1]


def test_huge_guest_without_huge_pages(stage):
    done = subprocess.run([godwit.GODWIT_VM, "--" + stage.kind, "--hugepages", "--memory",
                           f"{too_many_megabytes()}M", "--run-for", "100"],
                          capture_output=True, text=True, timeout=WAIT_S)
    said = done.stdout + done.stderr
    assert done.returncode != 0 and "huge" in said and "nr_hugepages" in said


def test_guest_with_more_memory_than_the_host(stage):
    """It is not filled until there is none left. One that waits takes none yet."""
    if os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >= 1 << 40:
        pytest.skip("this host has a terabyte of memory")
    done = subprocess.run([godwit.GODWIT_VM, "--soft", "--memory", "1T"], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=WAIT_S)
    assert done.returncode == 4 and "--memory" in done.stderr and "MiB left" in done.stderr
    assert stage.waiting(kind="soft", memory="1T").alive()


def test_guest_is_told_to_end_while_it_is_filled():
    with open("/proc/meminfo", encoding="ascii") as file:
        left = int(next(line for line in file if line.startswith("MemAvailable")).split()[1]) >> 10
    memory = min(8192, left // 4 // 2 * 2)
    with subprocess.Popen([godwit.GODWIT_VM, "--soft", "--memory", f"{memory}M"],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as vm:
        def begun():
            files = [fd for fd, name in godwit.files_of(vm.pid) if "memfd:godwit-ram" in name]
            return files and files[0].stat().st_blocks
        try:
            godwit.wait_until("it is being filled", begun)
            vm.terminate()
            out, err = vm.communicate(timeout=WAIT_S)
        finally:
            vm.kill()
    assert vm.returncode == 0 and "told to end" in err and "final" not in out


def test_no_helper_beside_the_daemon(stage):
    """No guest of a QEMU is moved without it, but one that is undecided is not forgotten."""
    lonely = pathlib.Path(shutil.copy(godwit.GODWITD, stage.folder))
    state = stage.folder / "source.state"
    state.mkdir()
    records = [{"is": "begin", "side": "source", "to": "192.0.2.2:1", "driver": "qemu",
                "socket": str(stage.folder / "gone.qmp")}, {"is": "commit", "paused": False}]
    (state / "web.journal").write_text("".join(json.dumps(r) + "\n" for r in records))
    source = stage.source(exe=lonely)
    assert source.status("web")["state"] == "undecided"
    assert "godwit-attach" in source.fails("migrate", "other", "--qmp", stage.folder / "gone.qmp",
                                           "--to", "127.0.0.1:1")
    assert "godwit-attach" in source.fails("receive", "other", "--qmp", stage.folder / "gone.qmp")
    assert "gone" in source.ok("resolve", "web")
    source.ok("resolve", "web", "--keep", "target")
    assert source.status("web")["result"] == "done"


def test_kvm_that_is_masked(stage):
    """Containers withhold /dev/kvm by laying another file over it."""
    if not pathlib.Path("/dev/kvm").exists():
        pytest.skip("there is no /dev/kvm to mask")
    masked = ["unshare", "--mount", "--propagation", "private", "sh", "-c",
              'mount --bind /dev/null /dev/kvm || exit 77; exec "$@"', "sh"]
    if subprocess.run([*masked, "true"], capture_output=True, timeout=WAIT_S).returncode != 0:
        pytest.skip("no mount namespace can be made here")
    done = subprocess.run([*masked, godwit.GODWIT_VM, "--kvm", "--memory", "16M", "--run-for",
                           "100"], capture_output=True, text=True, timeout=WAIT_S)
    assert done.returncode != 0 and "not KVM" in done.stderr and "--soft" in done.stderr
    done = subprocess.run([*masked, godwit.GODWIT, "doctor"], capture_output=True, text=True,
                          timeout=WAIT_S)
    assert "/dev/kvm is not KVM" in done.stdout


def test_one_core_for_everything(stage):
    """Source, target and guests share one CPU: slow, and still right."""
    everywhere = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(everywhere)})
    try:
        core = str(min(everywhere))
        source, target = stage.source(cores=core), stage.target(cores=core)
        stage.moved(source, target, stage.vm(memory="32M"), memory="32M")
    finally:
        os.sched_setaffinity(0, everywhere)


@pytest.fixture(scope="module")
def daemon(shared):
    return shared.source()


@pytest.mark.parametrize("args,says", [
    (["migrate", "guest"], "--agent"),
    (["migrate", "guest", "--agent", "a", "--to", "b:1", "--codec", "zip"], "deflate"),
    (["migrate", "guest", "--agent", "a", "--to", "b:1", "--flows", "0"], "flows"),
    (["migrate", "guest", "--agent", "a", "--to", "b:1", "--link", "pigeon"], "tcp"),
    (["migrate", "a/b", "--agent", "a", "--to", "b:1"], "name"),
    (["cancel", "nobody"], "nobody"),
    (["switch-now", "nobody"], "nobody"),
    (["resolve", "nobody"], "nobody"),
    (["set", "nobody", "--bandwidth", "fast"], "bandwidth"),
    (["status", "nobody"], "nobody"),
    (["fly"], "fly"),
    (["list", "--nonsense"], "nonsense"),
])
def test_wrong_usage(daemon, args, says):
    assert says in daemon.fails(*args)


def test_no_daemon(stage):
    done = subprocess.run([godwit.GODWIT, "list", "--api", stage.folder / "none.api"],
                          capture_output=True, text=True, timeout=WAIT_S)
    assert done.returncode != 0 and "godwitd" in done.stderr


@pytest.mark.smoke
def test_every_sub_command_has_help(stage):
    helped = subprocess.run([godwit.GODWIT, "--help"], capture_output=True, text=True,
                            timeout=WAIT_S)
    assert helped.returncode == 0
    for sub in ("migrate", "receive", "status", "list", "cancel", "switch-now", "set", "resolve",
                "watch", "version"):
        assert sub in helped.stdout
        done = subprocess.run([godwit.GODWIT, sub, "--help"], capture_output=True, text=True,
                              timeout=WAIT_S)
        assert done.returncode == 0 and sub in done.stdout, done.stderr
