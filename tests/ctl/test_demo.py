"""The demo: it tells a true story, notices when it is not true, and leaves nothing behind."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from rlmctl.demo import story
from rlmctl.demo.opencode_home import find_opencode
from rlmctl.demo.providers import Providers

if TYPE_CHECKING:
    from ctl.person import Daemon, Place


def test_it_tells_the_story_and_touches_nothing(place: Place) -> None:
    scratch = place.root / "tmp"
    scratch.mkdir()
    run = place.ctl("demo", TMPDIR=str(scratch))
    assert (run.returncode, run.stderr) == (0, "")
    told = run.stdout
    order = (
        "1. A turn, as always.",
        "Hello from anthropic",
        "429 Too Many Requests, retry-after: 60",
        "Hello from openrouter",
        "notice      anthropic is cooling down until",
        "3. The next turn does not even ask anthropic.",
        "notice      openrouter has used 2 of 2 requests",
        "=== Rate Limit Manager Status ===",
        "status      the same, to the letter",
        "✓ All of this really happened, in ",
    )
    places = [told.index(line) for line in order]
    assert places == sorted(places)
    assert float(told.split("happened, in ")[1].split()[0]) < 10
    assert list(scratch.iterdir()) == []
    assert not place.paths.state_dir.exists()
    assert list(place.home.iterdir()) == []


def test_the_story_as_json(place: Place) -> None:
    found = place.ctl_json("demo")
    assert found["happened"] is True
    assert found["told"][-2].startswith("✓ All of this really happened")


def test_the_persons_own_daemon_and_notifications_are_left_alone(daemon: Daemon) -> None:
    before = daemon.status()
    assert daemon.ctl("demo", SLACK_WEBHOOK="https://hooks.invalid/x", RLMD_PROVIDERS="[").returncode == 0
    after = daemon.status()
    assert after["providers"] == before["providers"]


def test_a_temporary_directory_that_is_too_long_for_a_socket(place: Place) -> None:
    scratch = place.root / ("long" * 25)
    scratch.mkdir()
    assert place.ctl("demo", TMPDIR=str(scratch)).returncode == 0


def tell() -> tuple[bool, str]:
    screen = Console(file=io.StringIO(), width=200)
    true = story.tell(None, screen)
    assert isinstance(screen.file, io.StringIO)
    return true, screen.file.getvalue()


def test_a_step_that_does_not_happen_makes_it_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Providers, "behave", lambda *_: None)  # so nobody ever says 429
    true, told = tell()
    assert not true
    assert "✗ This did not happen as told. providers asked: ['anthropic', 'openrouter'] was to be" in told
    assert "3. " not in told


def test_a_daemon_that_does_not_come_up_makes_it_fail(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "rlmd").mkdir()
    (tmp_path / "rlmd" / "__init__.py").write_text("raise SystemExit('no daemon today')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    true, told = tell()
    assert not true
    assert "The daemon did not come up:\nno daemon today" in told


def test_opencode_that_is_not_there_is_one_sentence(place: Place) -> None:
    run = place.ctl("demo", "--opencode")
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr == "rlmctl: OpenCode is not installed.\n  mend: npm install -g opencode-ai\n"


def test_an_opencode_that_cannot_be_run(place: Place) -> None:
    run = place.ctl("demo", "--opencode", OPENCODE_BIN="/bin/false", PATH="/usr/bin:/bin")
    assert run.returncode == 1
    assert "This did not happen as told" in run.stdout


def opencode_program() -> str | None:
    """Return the OpenCode to test with: the person's, else the one that the shim's tests bring."""
    brought = sorted(Path(__file__).parents[1].glob("shim/node_modules/opencode-*/bin/opencode"))
    return find_opencode() or next((str(path) for path in brought if os.access(path, os.X_OK)), None)


@pytest.mark.opencode
def test_the_same_with_the_real_opencode(place: Place) -> None:
    program = opencode_program()
    if program is None:
        pytest.skip("OpenCode is not here. To get it: npm install --prefix tests/shim --ignore-scripts")
    run = place.ctl("demo", "--opencode", OPENCODE_BIN=program, PATH="/usr/local/bin:/usr/bin:/bin")
    assert run.returncode == 0, run.stdout
    assert "the real OpenCode" in run.stdout
