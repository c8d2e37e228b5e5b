"""Each hardening directive of the shipped unit does what its name says: tried alone, against none, and with all."""

from __future__ import annotations

import json
import platform
from typing import TYPE_CHECKING, NamedTuple

import pytest
from usermanager import CHECKOUT, CONFIG
from webhook import Webhook

from rlmctl.daemon.services.systemd import STRICT_SINCE

if TYPE_CHECKING:
    from usermanager import Person


class Probe(NamedTuple):
    """What to try in Python, and what it prints: without any directive, and under it."""

    code: str
    free: str
    held: str


C = "import ctypes, os; c = ctypes.CDLL(None, use_errno=True); errno = ctypes.get_errno\n"
PROBES = {
    "LimitNOFILE": Probe("import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])", "*", "8192"),
    "UMask": Probe("import os; print(oct(os.umask(0)))", "0o22", "0o77"),
    "NoNewPrivileges": Probe("print(open('/proc/self/status').read().split('NoNewPrivs:')[1].split()[0])", "0", "1"),
    "LockPersonality": Probe(f"{C}print(c.personality(0x0040000) == -1 and errno())", "False", "1"),
    "MemoryDenyWriteExecute": Probe(
        "import mmap\n"
        "try: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC); print('mapped')\n"
        "except PermissionError: print('refused')",  # by a filter of system calls, or by the kernel's own switch
        "mapped",
        "refused",
    ),
    "RestrictNamespaces": Probe(
        # A flag that goes with no namespace is refused as senseless; the filter refuses the namespace before that.
        f"{C}print(c.unshare(0x10000000 | 0x1) == -1 and errno())",
        "22",
        "1",
    ),
    "RestrictRealtime": Probe(
        # Priority 0 is senseless for it and refused as such, by whoever asks; the filter comes before that.
        "import os\n"
        "try: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(0))\n"
        "except OSError as error: print(error.errno)",
        "22",
        "1",
    ),
    "RestrictSUIDSGID": Probe(
        "import os\nopen('probe', 'w').close()\n"
        "try: os.chmod('probe', 0o4700); print('set')\n"
        "except OSError as error: print(error.errno)\n"
        "os.unlink('probe')",
        "set",
        "1",
    ),
    "RestrictAddressFamilies": Probe(
        "import socket\n"
        "for family in (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6): socket.socket(family).close()\n"
        "try: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close(); print('made')\n"
        "except OSError as error: print(error.errno)",
        "made",
        "97",
    ),
    "SystemCallArchitectures": Probe(
        # getpid as a program of 32 bits asks for it.
        "import ctypes, mmap, os\n"
        "page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)\n"
        "page.write(bytes.fromhex('b814000000cd80c3'))\n"
        "code = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))\n"
        "child = os.fork() or os._exit(code() != os.getpid())\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))",
        "0",
        "-31",
    ),
    "SystemCallFilter": Probe(
        f"{C}child = os.fork() or os._exit(c.ptrace(0, 0, 0, 0) != 0)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))",
        "0",
        "-31",
    ),
}
OTHERWISE = {
    "Type", "NotifyAccess", "ExecStart", "ExecReload", "Environment", "EnvironmentFile", "Restart", "RestartSec",
    "WatchdogSec", "TimeoutStopSec", "SyslogIdentifier"}  # fmt: skip
"""What the unit says beside hardening; the tests of its life try these."""


def directives(unit: str = "rlmd.service") -> dict[str, str]:
    """What a shipped unit says of its service, without what the tests of its life try."""
    text = (CHECKOUT / "systemd" / unit).read_text()
    section = text.split("[Service]\n")[1].split("\n[")[0]
    lines = [line.partition("=") for line in section.splitlines() if line and not line.startswith("#")]
    told = {name: value for name, _, value in lines}
    return {name: value for name, value in told.items() if name not in OTHERWISE or unit != "rlmd.service"}


def tried(person: Person, probe: Probe, *given: str) -> str:
    properties = [word for directive in given for word in ("--property", directive)]
    run = person.run(
        "systemd-run", "--user", "--wait", "--pipe", "--quiet", "--collect", f"--working-directory={person.home}",
        *properties, person.python, "-c", probe.code,
    )  # fmt: skip
    return run.out.strip() or f"{run.code} {run.err}"


def test_every_directive_has_a_probe() -> None:
    assert directives().keys() == PROBES.keys()


@pytest.mark.parametrize("name", PROBES)
def test_a_directive_has_its_effect(person: Person, name: str) -> None:
    if name == "SystemCallArchitectures" and platform.machine() != "x86_64":
        pytest.skip("the probe is machine code for x86_64")
    probe = PROBES[name]
    free = tried(person, probe)
    if name == "SystemCallArchitectures" and free != "0":
        pytest.skip("this kernel runs no programs of 32 bits anyway")
    assert free == probe.free or (probe.free == "*" and free != probe.held)
    assert tried(person, probe, f"{name}={directives()[name]}") == probe.held


def test_all_of_them_hold_in_the_service_itself(served: Person) -> None:
    status = dict(
        line.split(":", 1) for line in served.fine("cat", f"/proc/{served.pid()}/status").splitlines() if ":" in line
    )
    assert status["NoNewPrivs"].strip() == "1"
    assert status["Seccomp"].strip() == "2", "no filter of system calls is in force"
    assert status["Umask"].strip() == "0077"
    assert "8192" in served.fine("grep", "open files", f"/proc/{served.pid()}/limits")
    for name, value in directives().items():
        shown = served.show("rlmd.service", name)
        assert shown not in {"", "no"}, (name, value, shown)


def test_a_history_query_may_be_a_process_of_its_own(served: Person) -> None:
    run = served.ctl("history", "--json")
    assert json.loads(run.out)["type"] == "history", run


def writes(where: str) -> Probe:
    """Try to write a file below a directory that a variable names."""
    code = (
        f"import pathlib; path = pathlib.Path({where}, 'probe')\n"
        "try: path.touch(); path.unlink(); print('written')\n"
        "except OSError as error: print(error.errno)"
    )
    return Probe(code, "written", "30")


STRICT = {
    "ProtectSystem": writes("'/var/tmp'"),
    "ProtectHome": writes("__import__('os').environ['XDG_RUNTIME_DIR']"),
}
BESIDE = {"Environment", "ReadWritePaths", "RestartSteps", "RestartMaxDelaySec"}
"""What the drop-in says beside; the daemon under it tries these."""


@pytest.fixture
def strict(served: Person) -> Person:
    """The service with the drop-in."""
    version = int(served.systemctl("--version").split()[1])
    if version < STRICT_SINCE:
        run = served.ctl("install", "systemd", "--strict")
        assert run.code == 1
        assert f"--strict needs systemd {STRICT_SINCE} or newer, this is {version}." in run.err
        pytest.skip(f"systemd is {version}: user units have no view of the files of their own")
    run = served.ctl("install", "systemd", "--strict")
    if run.code == 1:
        assert "This system does not start the daemon under --strict" in run.err
        assert served.ctl("status").code == 0
        assert not (served.units / "rlmd.service.d").exists()
        pytest.skip("this system refuses user namespaces, which a view of the files needs")
    assert run.code == 0, run
    return served


def test_every_directive_of_the_drop_in_has_a_probe() -> None:
    assert directives("rlmd.service.d/strict.conf").keys() == STRICT.keys() | BESIDE


@pytest.mark.parametrize("name", STRICT)
def test_a_directive_of_the_drop_in_has_its_effect(strict: Person, name: str) -> None:
    probe = STRICT[name]
    assert tried(strict, probe) == probe.free
    assert tried(strict, probe, f"{name}={directives('rlmd.service.d/strict.conf')[name]}") == probe.held


def test_the_daemon_does_its_work_under_the_drop_in(strict: Person) -> None:
    """Its namespace knows no other user than its own, so nobody from outside of the session can ask it."""
    mounts = strict.fine("cat", f"/proc/{strict.pid()}/mountinfo")
    root = next(line for line in mounts.splitlines() if line.split()[4] == "/")
    assert "ro" in root.split()[5].split(",")
    hook = Webhook()
    try:
        strict.write(strict.paths.config, f'{CONFIG}\n[notify]\ntargets = ["{hook.json()}"]\n')
        assert strict.ctl("reload").code == 0
        assert strict.ctl("notify", "test").code == 0
        assert strict.ctl("disable", "anthropic").code == 0
        status = json.loads(strict.ctl("status", "--json").out)
        assert (status["daemon"]["durable"], status["providers"][0]["state"]) == (True, "disabled")
        assert strict.ctl("history", "--json").code == 0
    finally:
        hook.close()
    assert strict.ctl("uninstall", "systemd").code == 0
    assert not strict.units.exists()
