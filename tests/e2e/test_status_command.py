"""`/rate_limit_status` shows the daemon's words and asks no model."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from opencode_home import Daemon, OpenCode

    from rlmctl.demo.providers import Providers

pytestmark = pytest.mark.opencode


def test_it_prints_exactly_the_daemons_text(opencode: OpenCode, daemon: Daemon, providers: Providers) -> None:
    for run in (opencode.command("rate_limit_status"), opencode.run("/rate_limit_status")):
        assert (run.code, run.out, run.err) == (0, daemon.ask("status")["text"].strip(), "")
    assert providers.requests == []


def test_options_before_the_word_run_change_nothing(opencode: OpenCode, daemon: Daemon, providers: Providers) -> None:
    words = [opencode.program, "--log-level", "ERROR", "run"]

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*words, *more],
            cwd=opencode.project,
            env=opencode.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )

    assert run("--command", "rate_limit_status").stdout.strip() == daemon.ask("status")["text"].strip()
    assert providers.requests == []

    providers.behave("A", ["429:60"])
    assert run("hello", "--title", "a test").stderr.count("rlmd: ") == 1


def test_without_a_daemon_it_says_how_to_start_one(opencode: OpenCode, daemon: Daemon, providers: Providers) -> None:
    daemon.kill()

    run = opencode.command("rate_limit_status")

    assert (run.code, run.out) == (0, "rlmd is not running. Start it with: rlmctl start")
    assert providers.requests == []


def test_on_a_screen_it_is_shown_in_the_session_and_never_sent(
    opencode: OpenCode, daemon: Daemon, providers: Providers
) -> None:
    with opencode.serve() as server:
        session = server.session()
        server.command(session, "rate_limit_status")

        assert server.texts(session) == [daemon.ask("status")["text"]]
        assert providers.requests == []

        server.say(session, "hello")
    assert [request.roles for request in providers.requests] == [("user",)]
