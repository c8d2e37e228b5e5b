"""Where things are, and what is said of a socket path that no socket can have."""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from platformdirs import user_state_path

from rlmd import address
from rlmd.address import PathTooLongError, check_socket
from rlmd.paths import Paths, resolve


def test_the_variables_decide_everything() -> None:
    environ = {"RLMD_CONFIG": "/c/my.toml", "RLMD_STATE_DIR": "/s", "RLMD_SOCKET": "/run/x.sock"}
    assert resolve(environ) == Paths(
        config=Path("/c/my.toml"),
        state_dir=Path("/s"),
        database=Path("/s/state.db"),
        socket=Path("/run/x.sock"),
        log=Path("/s/rlmd.log"),
    )


def test_the_socket_lives_in_the_state_directory_unless_told_otherwise() -> None:
    assert resolve({"RLMD_CONFIG": "/c", "RLMD_STATE_DIR": "/s"}).socket == Path("/s/rlmd.sock")


def test_an_empty_variable_counts_as_not_set() -> None:
    assert resolve({"RLMD_CONFIG": "/c", "RLMD_STATE_DIR": "/s", "RLMD_SOCKET": ""}).socket == Path("/s/rlmd.sock")


def test_a_relative_path_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve({"RLMD_CONFIG": "my.toml", "RLMD_STATE_DIR": "s"}) == resolve(
        {"RLMD_CONFIG": str(tmp_path / "my.toml"), "RLMD_STATE_DIR": str(tmp_path / "s")}
    )


@pytest.mark.skipif(sys.platform == "darwin", reason="the XDG directories are Linux's")
def test_without_variables_the_platform_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", "/home/p/.config")
    monkeypatch.setenv("XDG_STATE_HOME", "/home/p/.local/state")
    assert resolve({}) == Paths(
        config=Path("/home/p/.config/rlmd/config.toml"),
        state_dir=Path("/home/p/.local/state/rlmd"),
        database=Path("/home/p/.local/state/rlmd/state.db"),
        socket=Path("/home/p/.local/state/rlmd/rlmd.sock"),
        log=Path("/home/p/.local/state/rlmd/rlmd.log"),
    )


@pytest.mark.skipif(sys.platform == "darwin", reason="the XDG directories are Linux's")
@pytest.mark.parametrize("home", ["/home/p", "/home/p/"])
@pytest.mark.parametrize("state", [None, "", " ", "/s", "/s/", "~/s", "~q/s", "relative", "/a/../b"])
def test_the_short_way_to_the_state_directory_ends_where_the_library_does(
    monkeypatch: pytest.MonkeyPatch, home: str, state: str | None
) -> None:
    monkeypatch.setenv("HOME", home)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    if state is not None:
        monkeypatch.setenv("XDG_STATE_HOME", state)
    assert Path(address.state_directory({})) == user_state_path("rlmd")


def test_a_path_of_the_limit_can_be_bound_and_one_byte_more_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for length, fits in ((address.SOCKET_LIMIT, True), (address.SOCKET_LIMIT + 1, False)):
        # Relative, so that the length is exact wherever the test runs.
        path = Path("x" * length)
        with socket.socket(socket.AF_UNIX) as bound:
            if fits:
                check_socket(path)
                bound.bind(str(path))
            else:
                with pytest.raises(PathTooLongError):
                    check_socket(path)
                with pytest.raises(OSError, match="too long"):
                    bound.bind(str(path))


def test_a_path_that_is_too_long_is_resolved_and_its_check_says_the_mend(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(address, "SOCKET_LIMIT", 107)
    found = resolve({"RLMD_CONFIG": "/c", "RLMD_STATE_DIR": "/" + "ä" * 50}).socket
    with pytest.raises(PathTooLongError) as caught:
        check_socket(found)
    assert str(caught.value) == (
        "The socket's path is 111 bytes long and this system takes at most 107: "
        f"/{'ä' * 50}/rlmd.sock. Set RLMD_SOCKET to a shorter path, for the daemon and the agent alike."
    )


@pytest.mark.skipif(sys.platform == "darwin", reason="the library answers there")
def test_to_find_the_socket_nothing_slow_is_imported() -> None:
    code = "import sys, rlmd.address; rlmd.address.socket_address(); print(*sys.modules)"
    environ = {"HOME": "/home/p", "PATH": os.defpath}
    run = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    assert not {"platformdirs", "pathlib", "typing", "re", "tempfile"} & set(run.stdout.split())


@pytest.mark.parametrize("known", [True, False])
def test_a_user_whom_the_system_does_not_know_has_a_home_all_the_same(
    monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    """As `docker run --user 12345` makes one. What cannot be used there is told, with what to set."""

    def look_up(uid: int) -> pwd.struct_passwd:
        if not known:
            raise KeyError(uid)
        return pwd.struct_passwd(("p", "x", uid, uid, "", "/home/p", "/bin/sh"))

    monkeypatch.setattr(pwd, "getpwuid", look_up)
    monkeypatch.delenv("HOME")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    address.have_a_home()
    assert resolve({}).state_dir == Path("/home/p/.local/state/rlmd" if known else "/.local/state/rlmd")
