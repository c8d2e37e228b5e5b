"""start, stop, restart: what a person relies on when no service manager cares for the daemon."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import psutil
import pytest

from ctl.person import MODEL

if TYPE_CHECKING:
    from ctl.person import Daemon, Place


def test_start_answers_and_belongs_to_no_terminal(place: Place) -> None:
    place.write_config()
    done = place.ctl_json("start")
    assert done["state"] == "started"
    assert place.status()["daemon"]["pid"] == done["pid"]
    assert os.getsid(done["pid"]) == done["pid"]
    assert stat.S_IMODE(place.paths.state_dir.stat().st_mode) == 0o700
    assert stat.S_IMODE(place.paths.log.stat().st_mode) == 0o600


def test_it_does_not_speak_for_the_service_that_starts_it(place: Place) -> None:
    """An agent may itself be a service of systemd's: its place there is not the daemon's."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(place.root / "notify"))
        manager.setblocking(False)
        assert place.ctl("start", NOTIFY_SOCKET=str(place.root / "notify")).returncode == 0
        with pytest.raises(BlockingIOError):
            manager.recv(100)


def test_it_takes_over_no_key_of_an_agents_environment(place: Place) -> None:
    place.write_config('[notify]\ntargets = ["env:HOOK_TOKEN"]\n')
    keys = {"ANTHROPIC_API_KEY": "sk-1", "GH_TOKEN": "t", "AWS_SECRET_ACCESS_KEY": "a", "PGPASSWORD": "p"}
    wanted = {"HOOK_TOKEN": "json://127.0.0.1:9", "SLACK_WEBHOOK": "http://127.0.0.1:9", "LANG": "C.UTF-8"}
    assert place.ctl("start", **keys, **wanted).returncode == 0
    had = psutil.Process(place.status()["daemon"]["pid"]).environ()
    assert not keys.keys() & had.keys()
    assert wanted.items() <= had.items()


def test_start_again_is_fine(place: Place) -> None:
    pid = place.ctl_json("start")["pid"]
    run = place.ctl("start")
    assert (run.returncode, run.stdout, run.stderr) == (0, f"The daemon is running already (process {pid}).\n", "")


def test_many_starts_at_once_make_one_daemon(place: Place) -> None:
    command = [sys.executable, "-m", "rlmctl", "start"]
    starts = [subprocess.Popen(command, env=place.environ, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    said = [start.communicate(timeout=60)[0] for start in starts]
    assert [start.returncode for start in starts] == [0] * 4
    pid = place.status()["daemon"]["pid"]
    assert all(f"(process {pid})" in line for line in said)


def test_a_relative_place_means_the_same_to_the_daemon(place: Place) -> None:
    assert place.ctl("start", RLMD_STATE_DIR="here").returncode == 0
    status = place.ctl("status", "--json", RLMD_STATE_DIR="here")
    assert f'"socket": "{place.home}/here/rlmd.sock"' in status.stdout
    assert place.ctl("stop", RLMD_STATE_DIR="here").returncode == 0


def test_a_daemon_that_dies_at_once_shows_its_last_words(place: Place) -> None:
    place.paths.state_dir.mkdir(mode=0o700)
    place.paths.log.write_text("an old line\n")
    with closing(sqlite3.connect(place.paths.database)) as newer:
        newer.execute("PRAGMA user_version = 99")
    run = place.ctl("start")
    assert (run.returncode, run.stdout) == (3, "")
    assert run.stderr.startswith("rlmctl: The daemon ended at once (exit code 1). Its log says:\n  | ")
    assert str(place.paths.database) in run.stderr
    assert "an old line" not in run.stderr
    assert run.stderr.endswith("  mend: rlmctl doctor\n")


def test_a_broken_configuration_is_no_reason_not_to_start(place: Place) -> None:
    place.write_config("[[provider]")
    assert place.ctl("start").returncode == 0
    assert "Configuration error:" in place.ctl("status").stdout
    run = place.ctl("config", "check")
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith(f"rlmctl: {place.paths.config}:1:")


def test_stop_waits_until_it_is_gone(place: Place) -> None:
    pid = place.ctl_json("start")["pid"]
    assert place.ctl_json("stop") == {"state": "stopped", "pid": pid}
    # Where nobody waits for orphans, as in some containers, its entry stays.
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    assert not place.paths.socket.exists()


def test_stop_without_a_daemon_is_fine(place: Place) -> None:
    run = place.ctl("stop")
    assert (run.returncode, run.stdout, run.stderr) == (0, "The daemon is not running.\n", "")


def test_restart_loses_no_report(place: Place) -> None:
    place.write_config()
    first = place.ctl_json("start")["pid"]
    with place.connect() as client:
        client.request("report", provider="anthropic", model=MODEL, outcome="ok")
        client.request("cooldown", provider="openrouter", for_ms=60_000)
    before = place.status()["text"]
    second = place.ctl_json("restart")["pid"]
    assert second != first
    assert place.status()["text"] == before


def test_restart_without_a_daemon_starts_one(place: Place) -> None:
    assert place.ctl_json("restart")["state"] == "restarted"
    assert place.answers()


def test_restart_replaces_a_daemon_that_hangs(daemon: Daemon) -> None:
    daemon.process.send_signal(signal.SIGSTOP)
    with subprocess.Popen(
        [sys.executable, "-m", "rlmctl", "restart"], env=daemon.environ, stdout=subprocess.PIPE, text=True
    ) as run:
        daemon.process.wait(timeout=30)
        assert run.communicate(timeout=30)[0].startswith("The daemon is restarted")
    assert run.returncode == 0
    assert daemon.ctl("stop").returncode == 0


def test_a_stranger_behind_the_socket_is_left_alone(place: Place) -> None:
    place.paths.state_dir.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(place.paths.socket))
        listener.listen()
        run = place.ctl("stop")
    place.paths.socket.unlink()
    assert run.returncode == 3
    assert f"Process {os.getpid()} (" in run.stderr
    assert "it is no rlmd" in run.stderr


@pytest.mark.parametrize("command", ["start", "stop", "restart"])
def test_its_json_is_a_state_and_a_process(place: Place, command: str) -> None:
    assert place.ctl_json(command).keys() == {"state", "pid"}
