"""What commands say and return where no daemon runs, or one that does not answer; see test_every_command.py, too."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ctl.person import Daemon, Place


FORMS = ("log --follow", "status --watch", "status --watch --json", "history --html page.html")


@pytest.mark.parametrize("command", FORMS)
def test_it_says_so_in_a_sentence_with_the_mend_and_exits_3(place: Place, command: str) -> None:
    run = place.ctl(*command.split())
    assert (run.returncode, run.stdout) == (3, "")
    assert run.stderr == (
        f"rlmctl: The daemon is not running: no socket is at {place.paths.socket}.\n  mend: rlmctl start\n"
    )


@pytest.mark.parametrize("command", ["paths", "paths --json", "config path", "config path --json", "--version", "-h"])
def test_what_needs_no_daemon_works_without_one(place: Place, command: str) -> None:
    run = place.ctl(*command.split())
    assert (run.returncode, run.stderr) == (0, "")


def test_a_socket_path_that_no_socket_can_have_is_bad_configuration(place: Place) -> None:
    run = place.ctl("status", RLMD_SOCKET="/" + "x" * 200)
    assert run.returncode == 2
    assert "Set RLMD_SOCKET to a shorter path" in run.stderr


def test_a_state_directory_that_is_none(place: Place) -> None:
    place.paths.state_dir.write_text("")
    run = place.ctl("status")
    assert (run.returncode, run.stderr.splitlines()[1]) == (3, "  mend: rlmctl start")
    run = place.ctl("start")
    assert run.returncode == 2
    assert run.stderr == (
        f"rlmctl: The state directory cannot be used: Not a directory: {place.paths.log}.\n"
        f"  mend: make {place.paths.state_dir} a directory of your own (chmod 700), or set RLMD_STATE_DIR to one\n"
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open everything; the next test is root's")
def test_a_state_directory_closed_to_us(place: Place) -> None:
    place.paths.state_dir.mkdir(mode=0)
    for command, code, mend in (("status", 3, "rlmctl doctor"), ("start", 3, "rlmctl doctor")):
        run = place.ctl(command)
        assert (run.returncode, run.stderr.splitlines()[1]) == (code, f"  mend: {mend}")
    assert f"chmod 700 {place.paths.state_dir}" in place.ctl("doctor").stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_state_directory_of_somebody_else(place: Place) -> None:
    place.paths.state_dir.mkdir(mode=0o700)
    os.chown(place.paths.state_dir, 12345, -1)
    run = place.ctl("start")
    assert run.returncode == 3
    assert "belongs to another user (uid 12345)" in run.stderr
    assert run.stderr.endswith("  mend: rlmctl doctor\n")
    run = place.ctl("doctor")
    assert run.returncode == 1
    assert f"{place.paths.state_dir} belongs to another user" in run.stdout


def test_a_daemon_that_hangs_is_told_from_none(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    import signal

    from rlmctl.daemon.connection import connect
    from rlmd.client.connection import DaemonHangsError

    for name, value in daemon.environ.items():
        monkeypatch.setenv(name, value)
    daemon.process.send_signal(signal.SIGSTOP)
    with connect(deadline=0.05) as client, pytest.raises(DaemonHangsError) as caught:
        client.request("ping")
    assert caught.value.mend == "rlmctl restart"
    daemon.process.send_signal(signal.SIGCONT)
