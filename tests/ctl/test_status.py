"""status: as text, as a line of one's own, as a table, live."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ctl.person import MODEL
from rlmctl.show.status_line import OF_ALL, OF_ONE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ctl.person import Daemon, Place

ROOT = Path(__file__).parents[2]
DARWIN = sys.platform == "darwin"


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


@pytest.mark.parametrize("form", [["--plain"], ["--format", "{current} {left}"]])
def test_what_prompts_ask_for_imports_nothing_slow(limited: Daemon, form: list[str]) -> None:
    code = (
        f"import sys; from rlmctl.__main__ import main; sys.argv[1:] = ['status', *{form!r}]; assert main() == 0\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    environ = {name: value for name, value in limited.environ.items() if not name.startswith("RLMD")}
    state = limited.home / ".local/state"
    state.mkdir(parents=True)
    (state / "rlmd").symlink_to(limited.paths.state_dir)
    run = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    assert run.stdout.startswith(("=== Rate", "anthropic 49"))
    slow = {"argparse", "asyncio", "dataclasses", "datetime", "difflib", "msgspec", "pathlib", "platformdirs", "psutil"}
    slow |= {"rich", "subprocess", "tempfile", "trio", "typing"} - ({"typing", "pathlib"} if DARWIN else set())
    assert not slow & set(run.stderr.split())


@pytest.mark.parametrize(
    ("form", "line"),
    [
        ("{current}: {left}/{max} left", "anthropic: 49/50 left"),
        ("{used} {percent}% {limit}", "1 2% per h"),
        ("{available} of {providers}, away: {away}", "1 of 2, away: anthropic"),
        ("{state} {reason} {errors} {requests}", "cooling down throttle 1 1"),
        ("{openrouter.state} {openrouter.left} {openrouter.back_in}", "ready 100 -"),
        ("{agents} {in_flight} {openrouter.in_flight}", "0 0 0"),
        ("{{current}} } {", "{current} } {"),
        ("", ""),
    ],
)
def test_a_line_of_ones_own(limited: Daemon, form: str, line: str) -> None:
    run = limited.ctl("status", "--format", form)
    assert (run.returncode, run.stderr, run.stdout) == (0, "", line + "\n")


def test_times_in_a_line(limited: Daemon) -> None:
    told = limited.ctl("status", "--format={back_in}, {back_at}, {resets_in}, {resets_at}, {version}").stdout
    assert re.fullmatch(r"\d+ s, \d\d:\d\d, \d+ (s|min), \d\d:00, \S+\n", told)


def test_before_anybody_has_served_a_line_has_little_to_tell(daemon: Daemon) -> None:
    assert daemon.ctl("status", "--format", "{current} {left} {openrouter.left}").stdout == "- - 100\n"


@pytest.mark.parametrize(
    ("field", "nearest"),
    [
        ("curent", " Did you mean 'current'?"),
        ("resetsin", " Did you mean 'resets_in'?"),
        ("openruter.left", " Did you mean 'openrouter.left'?"),
        ("openrouter.lefft", " Did you mean 'openrouter.left'?"),
        ("weather forecast", ""),
    ],
)
def test_a_field_that_is_none_is_told_with_the_nearest(limited: Daemon, field: str, nearest: str) -> None:
    run = limited.ctl("status", "--format", f"{{{field}}}")
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr == f"rlmctl: There is no field {field!r}.{nearest}\n  mend: rlmctl status --help\n"


def test_help_and_the_page_for_scripts_name_every_field(place: Place) -> None:
    told = place.ctl("status", "--help").stdout
    assert [name for name in (*OF_ALL, *OF_ONE) if f"\n  {{{name}}} " not in told] == []
    page = (ROOT / "docs" / "scripts.md").read_text("utf-8")
    rows = "".join(line.split("|")[1] for line in page.splitlines() if line.startswith("| `{"))
    assert re.findall(r"\{(\w+)\}", rows) == [*OF_ALL, *OF_ONE]


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
    assert lines[3][:7] == ["→", "anthropic", "cooling", "down", "per", "h", "1/50"]
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


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_status_on_a_terminal_has_bars_and_colour_and_fits(limited: Daemon, columns: int) -> None:
    shown = on_a_terminal(limited, columns)
    assert "░" in shown
    assert "\x1b[31mcooling down" in shown
    assert max(len(re.sub(r"\x1b\[[\d;]*m", "", line).rstrip()) for line in shown.splitlines()) <= columns
    assert "…" not in shown


def test_no_color_means_no_escape_at_all(limited: Daemon) -> None:
    shown = on_a_terminal(limited, NO_COLOR="1")
    assert "\x1b" not in shown
    assert "░" in shown


def test_a_terminal_without_utf_8_gets_other_bars(limited: Daemon) -> None:
    shown = on_a_terminal(limited, PYTHONIOENCODING="ascii", NO_COLOR="1")
    assert "#-------------------" in shown


def test_it_ends_with_what_it_did_for_the_person_and_what_is_coming(limited: Daemon) -> None:
    assert "Kept going" not in limited.ctl("status").stdout
    with limited.connect() as client:
        asked = {"provider": "anthropic", "model": MODEL, "session": "s"}
        use = client.request("acquire", **asked)
        client.request("report", **asked | {"provider": use["provider"], "model": use["model"]}, outcome="ok")
        for provider in ("anthropic", "openrouter"):
            client.request("cooldown", provider=provider, for_ms=3_600_000)
    told = limited.ctl("status").stdout
    assert "Kept going once in the last 7 days.\n" in told
    assert re.search(r"^(anthropic|openrouter) is back at .*\d\d:\d\d\.$", told, re.MULTILINE)


@pytest.fixture
def watching(limited: Daemon) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "rlmctl", "status", "--watch", "--format", "{openrouter.used} {anthropic.state}"]
    run = subprocess.Popen(command, env=limited.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    yield run
    run.kill()
    run.communicate()


def line_of(run: subprocess.Popen[str]) -> str:
    assert run.stdout
    return run.stdout.readline().strip()


def test_watch_tells_every_change_and_ends_with_the_daemon(limited: Daemon, watching: subprocess.Popen[str]) -> None:
    assert line_of(watching) == "0 cooling down"
    with limited.connect() as client:
        client.request("report", provider="openrouter", model="anthropic/claude-sonnet-4.5", outcome="ok")
        assert line_of(watching) == "1 cooling down"
        client.request("reset", what="cooldowns")
        assert line_of(watching) == "1 ready"
    limited.end()
    _, complaint = watching.communicate()
    assert watching.returncode == 3
    assert complaint.endswith("\n  mend: rlmctl start\n")


def test_an_interrupted_watch_has_done_its_work(watching: subprocess.Popen[str]) -> None:
    assert line_of(watching)
    watching.send_signal(signal.SIGINT)
    assert watching.communicate() == ("", "")
    assert watching.returncode == 0


def test_watch_asks_when_it_is_told_to_and_not_before(limited: Daemon) -> None:
    asked: list[str] = []
    status = limited.status()
    for provider in status["providers"]:  # nothing that would be over in the time of this test
        provider.update(until=None, limits=[])
    path = limited.root / "stand-in"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        command = [sys.executable, "-m", "rlmctl", "status", "--watch", "--json"]
        run = subprocess.Popen(command, env=limited.environ | {"RLMD_SOCKET": str(path)}, stdout=subprocess.DEVNULL)
        daemon, _ = listener.accept()
        with daemon, daemon.makefile("rw") as stream:

            def answer() -> None:
                request = json.loads(stream.readline())
                asked.append(request["op"])
                reply = status if request["op"] == "status" else {"type": "subscribed", "events": request["events"]}
                stream.write(json.dumps(reply | {"id": request["id"]}) + "\n")
                stream.flush()

            answer()
            answer()
            daemon.settimeout(2.5)
            with pytest.raises(TimeoutError):
                stream.readline()
            daemon.settimeout(10)
            stream.close()
            assert asked == ["subscribe", "status"]
            with daemon.makefile("rw") as again:
                again.write(json.dumps({"type": "event", "event": "changed", "at": "", "message": ""}) + "\n")
                again.flush()
                assert json.loads(again.readline())["op"] == "status"
        run.kill()
        run.wait()


def test_watch_on_a_terminal_draws_the_table(limited: Daemon) -> None:
    ours, theirs = pty.openpty()
    environment = {**limited.environ, "TERM": "xterm-256color"}
    command = [sys.executable, "-m", "rlmctl", "status", "--watch"]
    run = subprocess.Popen(command, env=environment, stdout=theirs, stdin=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    while b"0/100" not in shown:
        shown += os.read(ours, 65536)
    with limited.connect() as client:
        client.request("report", provider="openrouter", model="anthropic/claude-sonnet-4.5", outcome="ok")
    while b"1/100" not in shown:
        shown += os.read(ours, 65536)
    run.send_signal(signal.SIGINT)
    assert run.wait() == 0
    os.close(ours)
