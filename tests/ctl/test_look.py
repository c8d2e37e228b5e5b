"""state and why, and the shapes that scripts rely on."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ctl.person import MODEL

if TYPE_CHECKING:
    from ctl.person import Daemon

DATA = Path(__file__).parent.parent / "data"


def masked(daemon: Daemon, text: str) -> Any:
    """Put a name in the place of all that differs from run to run."""
    for pattern, name in (
        (re.escape(str(daemon.root)), "ROOT"),
        (r'"pid": \d+', '"pid": 1'),
        (r'"version": "[^"]+"', '"version": "VERSION"'),
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", "TIME"),
        (r"\d+/\d+/\d{4}, \d+:\d\d:\d\d [AP]M", "LOCAL TIME"),
    ):
        text = re.sub(pattern, name, text)
    return json.loads(text)


@pytest.mark.parametrize("command", ["status", "state", "paths"])
def test_the_shape_that_scripts_rely_on(limited: Daemon, command: str) -> None:
    run = limited.ctl(command, "--json")
    assert (run.returncode, run.stderr) == (0, "")
    assert masked(limited, run.stdout) == json.loads((DATA / f"rlmctl-{command}.json").read_text())


@pytest.mark.parametrize("command", ["status", "why claude-sonnet-4-5", "log", "reset", "doctor", "--help"])
def test_nothing_but_the_daemon_imports_trio(daemon: Daemon, command: str) -> None:
    code = (
        f"import sys; from rlmctl.__main__ import main; sys.argv[1:] = {command.split()!r}; main()\n"
        "assert 'trio' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], env=daemon.environ, check=True, stdout=subprocess.DEVNULL)


def test_why_names_every_candidate_with_its_reason(limited: Daemon) -> None:
    run = limited.ctl("why", MODEL)
    assert run.returncode == 0
    first, *candidates = run.stdout.splitlines()
    assert first == "the next request goes to openrouter"
    assert [line.partition(" (")[0] for line in candidates] == ["  1. anthropic", "→ 2. openrouter"]
    assert "cooling down" in candidates[0]
    assert limited.ctl_json("why", MODEL, "--session", "s")["decision"] == "use"


def test_why_of_an_unknown_model_names_the_known_ones(daemon: Daemon) -> None:
    run = daemon.ctl("why", "gpt")
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr == f"rlmctl: no provider serves 'gpt'; there are: {MODEL}.\n"


def test_why_on_a_terminal_without_utf_8(limited: Daemon) -> None:
    told = limited.ctl("why", MODEL, PYTHONIOENCODING="ascii").stdout.splitlines()
    assert told[2].startswith("> 2. openrouter")


def test_a_log_of_nothing_says_so(daemon: Daemon) -> None:
    daemon.ctl("reset")
    run = daemon.ctl("log", "--since", "1ms")
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "nothing has happened in the last 1ms\n")
