"""Whoever needs the daemon starts it, where no service manager does and the person has not said otherwise."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from ctl.person import CONFIG

if TYPE_CHECKING:
    from ctl.person import Place

WRITTEN = f"autostart = true\n{CONFIG}"


def crash(place: Place) -> None:
    """End the daemon as a crash or the end of the machine does."""
    os.kill(place.status()["daemon"]["pid"], signal.SIGKILL)
    until = time.monotonic() + 20
    while place.answers():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.parametrize("command", ["status", "status --plain", "why claude-sonnet-4-5", "disable anthropic"])
def test_what_was_started_once_comes_back_with_the_first_command_that_needs_it(place: Place, command: str) -> None:
    place.write_config()
    assert place.ctl("start").returncode == 0
    crash(place)
    run = place.ctl(*command.split())
    pid = place.status()["daemon"]["pid"]
    assert (run.returncode, run.stderr) == (
        0,
        f"rlmctl: the daemon was not running and has been started (process {pid})\n",
    )
    assert run.stdout
    assert place.ctl(*command.split()).stderr == ""


def test_so_it_does_without_a_first_time_where_the_file_says_so(place: Place) -> None:
    place.write_config(WRITTEN)
    assert place.ctl("status").returncode == 0
    assert place.answers()


def test_what_was_never_started_is_not_started_unasked(place: Place) -> None:
    place.write_config()
    assert place.ctl("status").returncode == 3
    assert not place.paths.state_dir.exists()


@pytest.mark.parametrize("config", [CONFIG, WRITTEN])
def test_what_was_stopped_stays_so_until_it_is_started(place: Place, config: str) -> None:
    place.write_config(config)
    assert place.ctl("start").returncode == 0
    assert place.ctl("stop").returncode == 0
    for command in ("status", "reset"):
        run = place.ctl(command)
        assert (run.returncode, run.stderr.splitlines()[1]) == (3, "  mend: rlmctl start")
    assert place.ctl("start", "--if-wanted").stdout == "The daemon is not wanted.\n"
    assert not place.answers()
    assert place.ctl("start").returncode == 0
    crash(place)
    assert place.ctl("status").returncode == 0


def test_a_file_that_forbids_it_is_obeyed(place: Place) -> None:
    place.write_config(f"autostart = false\n{CONFIG}")
    assert place.ctl("start").returncode == 0
    crash(place)
    assert place.ctl("status").returncode == 3


def test_a_broken_file_says_nothing_against_it(place: Place) -> None:
    place.write_config()
    assert place.ctl("start").returncode == 0
    crash(place)
    place.write_config("[[provider")
    run = place.ctl("status")
    assert (run.returncode, "Configuration error" in run.stdout) == (0, True)


def test_one_that_cannot_be_started_is_still_exit_3(place: Place) -> None:
    place.write_config(WRITTEN)
    place.paths.state_dir.mkdir(mode=0o700)
    (place.paths.state_dir / "rlmd.lock").mkdir()
    run = place.ctl("status")
    assert (run.returncode, run.stdout) == (3, "")
    assert "rlmd.lock cannot be taken" in run.stderr
    assert run.stderr.endswith("  mend: rlmctl doctor\n")


def test_six_that_need_it_at_once_start_one(place: Place) -> None:
    place.write_config(WRITTEN)
    command = [sys.executable, "-m", "rlmctl", "start", "--if-wanted", "--json"]
    six = [subprocess.Popen(command, env=place.environ, stdout=subprocess.DEVNULL) for _ in range(6)]
    assert [one.wait(60) for one in six] == [0] * 6
    log = place.paths.log.read_text()
    assert log.count(" INFO serving ") == 1
    assert log.count("rlmd is already running (pid ") == log.count(" ERROR ")


def test_the_persons_word_is_kept_from_others(place: Place) -> None:
    place.write_config()
    assert place.ctl("start").returncode == 0
    assert stat.S_IMODE((place.paths.state_dir / "autostart").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("word", "meaning"), [("true", "whoever needs the daemon first starts it"), ("false", "`rlmctl start` only")]
)
def test_doctor_says_who_starts_it(place: Place, word: str, meaning: str) -> None:
    place.write_config(f"autostart = {word}\n{CONFIG}")
    checks = json.loads(place.ctl("doctor", "--json").stdout)["checks"]
    (service,) = [check for check in checks if check["name"] == "service"]
    assert service["state"] == "ok"
    assert service["meaning"].startswith("there is no service manager here: ")
    assert meaning in service["meaning"]
