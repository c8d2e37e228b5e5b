"""The LaunchAgent as far as it can be tried without macOS: its file, its keys, and the call that fetches the socket."""

from __future__ import annotations

import ctypes
import errno
import os
import plistlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rlmctl.daemon.services import launchd, shipped
from rlmctl.daemon.services.launchd import LaunchAgent, render
from rlmd.paths import resolve
from rlmd.server import service_manager

PATHS = resolve({"RLMD_CONFIG": "/Users/a b/config & more.toml", "RLMD_STATE_DIR": "/Users/a b/Library/<rlmd>"})
DOCUMENTED = {
    "": {
        "EnvironmentVariables", "ExitTimeOut", "KeepAlive", "Label", "ProcessType", "ProgramArguments",
        "SoftResourceLimits", "Sockets", "StandardErrorPath", "ThrottleInterval", "Umask",
    },
    "KeepAlive": {"SuccessfulExit", "Crashed"},
    "SoftResourceLimits": {"NumberOfFiles"},
    "Listener": {"SockFamily", "SockPathMode", "SockPathName", "SockType"},
}  # fmt: skip
"""The keys of launchd.plist(5) that we may use, and what tables they are in."""


def agent() -> dict[str, Any]:
    text: dict[str, Any] = plistlib.loads(render(PATHS).encode())
    return text


def test_every_key_is_documented() -> None:
    found = agent()
    assert found.keys() <= DOCUMENTED[""]
    assert found["KeepAlive"].keys() <= DOCUMENTED["KeepAlive"]
    assert found["SoftResourceLimits"].keys() <= DOCUMENTED["SoftResourceLimits"]
    assert found["Sockets"].keys() == {service_manager.LAUNCHD_SOCKET.decode()}
    assert found["Sockets"]["Listener"].keys() <= DOCUMENTED["Listener"]


def test_what_has_a_type_in_launchd_has_it() -> None:
    found = agent()
    assert found["Umask"] == 0o077
    assert found["Sockets"]["Listener"]["SockPathMode"] == 0o600
    assert (found["KeepAlive"], found["ProcessType"]) == ({"SuccessfulExit": False}, "Adaptive")
    assert all(isinstance(found[name], int) for name in ("Umask", "ThrottleInterval", "ExitTimeOut"))


def test_paths_are_absolute_and_nothing_is_left_open() -> None:
    found = agent()
    assert "@" not in render(PATHS)
    assert found["ProgramArguments"] == [sys.executable, "-P", "-m", "rlmd"]
    assert found["Sockets"]["Listener"]["SockPathName"] == str(PATHS.socket)
    assert resolve(found["EnvironmentVariables"]) == PATHS
    assert Path(found["StandardErrorPath"]) == PATHS.log


def test_it_finds_itself_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    ours = LaunchAgent(PATHS)
    assert (ours.installed(), ours.listen_path()) == (False, None)
    ours.path.parent.mkdir(parents=True)
    ours.path.write_text(render(PATHS))
    assert (ours.installed(), ours.outdated()) == (True, [])
    assert not LaunchAgent(PATHS._replace(socket=Path("/elsewhere"))).installed()
    ours.path.write_text(render(PATHS).replace("Adaptive", "Background"))
    assert ours.outdated() == [ours.path]
    for text in ("", "no plist", plistlib.dumps({"Label": "other"}).decode()):
        ours.path.write_text(text)
        assert not ours.installed()


class Launchctl:
    """launchctl as its manual describes it, for one agent."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, ...]] = []
        self.loaded = False

    def __call__(self, words: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        assert words[0] == "launchctl"
        verb, *rest = words[1:]
        if verb == "print":
            return subprocess.CompletedProcess(words, 0 if self.loaded else 113, "\tpid = 4711\n", "")
        self.calls.append((verb, *rest))
        self.loaded = {"bootstrap": True, "bootout": False}.get(verb, self.loaded)
        return subprocess.CompletedProcess(words, 0, "", "")


def test_the_calls_of_its_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    launchctl = Launchctl()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(subprocess, "run", launchctl)
    monkeypatch.setattr(os, "getuid", lambda: 501)
    monkeypatch.setattr(sys, "platform", "darwin")
    paths = resolve({"RLMD_CONFIG": str(tmp_path / "c.toml"), "RLMD_STATE_DIR": str(tmp_path / "state")})
    ours = LaunchAgent(paths)
    assert ours.install(dry_run=True)[0][0] == f"{ours.path} would be written."
    assert not ours.path.exists()
    assert ours.install() == ([f"{ours.path} was written."], True)
    assert paths.state_dir.is_dir()  # launchd makes no directories
    assert ours.install() == ([f"{ours.path} is up to date."], False)
    ours.start()
    assert (ours.listens(), ours.pid()) == (True, 4711)
    ours.restart()
    ours.stop()
    assert not ours.listens()
    ours.start()
    ours.uninstall()
    assert launchctl.calls == [
        ("bootstrap", "gui/501", str(ours.path)),
        ("kickstart", "gui/501/dev.rlmd"),
        ("kickstart", "-k", "gui/501/dev.rlmd"),
        ("bootout", "gui/501/dev.rlmd"),
        ("bootstrap", "gui/501", str(ours.path)),
        ("kickstart", "gui/501/dev.rlmd"),
        ("bootout", "gui/501/dev.rlmd"),
    ]
    assert not ours.path.exists()


class System:
    """The part of macOS's C library that hands sockets over."""

    def __init__(self, number: int, *descriptors: int) -> None:
        self.number = number
        self.array = (ctypes.c_int * len(descriptors))(*descriptors)
        self.freed = 0

    def launch_activate_socket(self, name: bytes, descriptors: Any, count: Any) -> int:
        assert name == b"Listener"
        descriptors._obj.contents = ctypes.cast(self.array, ctypes.POINTER(ctypes.c_int)).contents
        count._obj.value = len(self.array)
        return self.number

    def free(self, _: Any) -> None:
        self.freed += 1


def test_launchd_hands_the_socket_over() -> None:
    system = System(0, 7)
    assert service_manager.launchd_descriptor(system) == 7
    assert system.freed == 1
    assert service_manager.launchd_descriptor(System(errno.ESRCH)) is None


@pytest.mark.parametrize(("number", "why"), [(errno.ENOENT, "No such file"), (errno.EALREADY, "already"), (0, "none")])
def test_a_handover_that_fails_says_why(number: int, why: str) -> None:
    with pytest.raises(service_manager.HandoverError, match=rf"{why}.*Mend: rlmctl install launchd"):
        service_manager.launchd_descriptor(System(number))


def test_the_shipped_file_is_no_agent_yet() -> None:
    assert "@SOCKET@" in (shipped("launchd") / launchd.FILE).read_text()
