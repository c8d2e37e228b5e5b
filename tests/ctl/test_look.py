"""status, state and why: for people, for scripts, and in the shapes that others rely on."""

from __future__ import annotations

import json
import os
import pty
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


@pytest.fixture
def limited(daemon: Daemon) -> Daemon:
    """One request counted, then a 429 with its wait, one request under way at the next provider."""
    with daemon.connect() as client:
        asked = {"provider": "anthropic", "model": MODEL, "session": "s"}
        first = client.request("acquire", **asked)
        client.request("report", lease=first["lease"], outcome="ok", status=200, **asked)
        second = client.request("acquire", **asked)
        refused = {"outcome": "error", "status": 429, "headers": {"retry-after": "60"}}
        client.request("report", lease=second["lease"], **refused, **asked)
    return daemon


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


def test_plain_is_the_daemons_text_exactly(limited: Daemon) -> None:
    run = limited.ctl("status", "--plain")
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout == limited.status()["text"] + "\n"
    assert re.sub(r"until: .*", "until: …", run.stdout) == (
        "=== Rate Limit Manager Status ===\n"
        "\n"
        "anthropic: ✗ Unavailable\n"
        "  Models: claude-sonnet-4-5\n"
        "  Requests: 1/50\n"
        "  Cooldown until: …\n"
        "\n"
        "openrouter: ✓ Available\n"
        "  Models: claude-sonnet-4-5\n"
        "  Requests: 0/100\n"
        "\n"
        "Current Provider: anthropic\n"
    )


def test_plain_imports_nothing_slow(limited: Daemon) -> None:
    code = (
        "import sys; from rlmctl.__main__ import main; sys.argv[1:] = ['status', '--plain']; assert main() == 0\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    run = subprocess.run([sys.executable, "-c", code], env=limited.environ, capture_output=True, text=True, check=True)
    assert run.stdout.startswith("=== Rate")
    slow = {"argparse", "asyncio", "dataclasses", "msgspec", "platformdirs", "psutil", "rich", "subprocess", "trio"}
    assert not slow & set(run.stderr.split())


@pytest.mark.parametrize("command", ["status", "why claude-sonnet-4-5", "log", "reset", "doctor", "--help"])
def test_nothing_but_the_daemon_imports_trio(daemon: Daemon, command: str) -> None:
    code = (
        f"import sys; from rlmctl.__main__ import main; sys.argv[1:] = {command.split()!r}; main()\n"
        "assert 'trio' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], env=daemon.environ, check=True, stdout=subprocess.DEVNULL)


def test_status_in_a_pipe_is_a_plain_table(limited: Daemon) -> None:
    run = limited.ctl("status")
    assert run.returncode == 0
    assert "\x1b" not in run.stdout
    assert "█" not in run.stdout
    lines = [line.split() for line in run.stdout.splitlines() if line]
    assert lines[1:3] == [
        ["current", "provider:", "anthropic"],
        ["provider", "state", "limit", "used", "resets", "in"],
    ]
    assert lines[3][:6] == ["anthropic", "cooling", "down", "per", "h", "1/50"]
    assert "throttle" in run.stdout
    assert re.search(r"\d+ s left", run.stdout)


def on_a_terminal(daemon: Daemon, columns: int = 80, **environ: str) -> str:
    """Return what `rlmctl status` writes to a terminal of this width."""
    import fcntl
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, columns, 0, 0))
    environment = {**daemon.environ, "TERM": "xterm-256color", **environ}
    command = [sys.executable, "-m", "rlmctl", "status"]
    run = subprocess.Popen(command, env=environment, stdout=theirs, stdin=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    try:
        while data := os.read(ours, 65536):
            shown += data
    except OSError:  # Linux says the end of a terminal this way
        pass
    os.close(ours)
    assert run.wait() == 0
    return shown.decode()


def test_status_on_a_terminal_has_bars_and_colour_and_fits(limited: Daemon) -> None:
    shown = on_a_terminal(limited)
    assert "░" in shown
    assert "\x1b[31mcooling down" in shown
    assert max(len(re.sub(r"\x1b\[[\d;]*m", "", line).rstrip()) for line in shown.splitlines()) <= 80
    assert "…" not in shown


def test_no_color_means_no_escape_at_all(limited: Daemon) -> None:
    shown = on_a_terminal(limited, NO_COLOR="1")
    assert "\x1b" not in shown
    assert "░" in shown


def test_a_terminal_without_utf_8_gets_other_bars(limited: Daemon) -> None:
    shown = on_a_terminal(limited, PYTHONIOENCODING="ascii", NO_COLOR="1")
    assert "#-------------------" in shown


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


def test_history_says_what_was_used_by_whom(limited: Daemon) -> None:
    run = limited.ctl("history", "--by", "hour")
    assert (run.returncode, run.stderr) == (0, "")
    row = next(line for line in run.stdout.splitlines() if "anthropic" in line)
    assert MODEL in row
    rows = json.loads(limited.ctl("history", "--by", "hour", "--json").stdout)["rows"]
    told = [(row["provider"], row["model"], row["requests"], row["errors"]) for row in rows]
    assert told == [("anthropic", MODEL, 1, {"throttle": 1})]
    assert limited.ctl("history", "--provider", "openrouter").stdout == "nothing in the last 7d\n"


def test_history_of_no_time_at_all_is_wrong_usage(limited: Daemon) -> None:
    run = limited.ctl("history", "--since", "soon")
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith('rlmctl: "soon" ')
    assert run.stderr.endswith("  mend: rlmctl history --since 7d\n")
