"""What a person sees on OpenCode's screen: the dialog of /rate_limit_status, and the notice of a switch."""

from __future__ import annotations

import socket
import subprocess
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from opencode_home import configuration
from screen import MISSING, Screen, has_terminal

from rlmctl.agents import opencode as installer

if TYPE_CHECKING:
    from collections.abc import Callable

    from opencode_home import Daemon, OpenCode

    from rlmctl.demo.providers import Providers

pytestmark = [pytest.mark.opencode, pytest.mark.skipif(not has_terminal(), reason=MISSING)]


def lines(screen: str) -> list[str]:
    """Return the lines of a screen without what surrounds the dialog in them."""
    return [line.replace("┃", " ").replace("▀", " ").replace("╹", " ").strip() for line in screen.splitlines()]


def sessions(opencode: OpenCode) -> str:
    """Return OpenCode's own list of its sessions."""
    asked = [opencode.program, "session", "list", "--format", "json"]
    return subprocess.run(
        asked, cwd=opencode.project, env=opencode.environ, capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.generations(1, 2)
def test_the_dialog_shows_the_daemons_text_and_asks_no_model(
    opencode: OpenCode, daemon: Daemon, providers: Providers
) -> None:
    with Screen(opencode) as screen:
        menu = screen.type("/rate_limit_status", "All providers' limits")
        assert menu.count("/rate_limit_status  ") == 1
        shown = lines(screen.enter("Current Provider"))

        wanted = [line.strip() for line in daemon.ask("status")["text"].splitlines() if line.strip()]
        assert [word for word in wanted if not any(word in line for line in shown)] == []
        screen.keys("Enter")
        screen.wait_without("Current Provider")
        daemon.kill()
        screen.type("/rate_limit_status", "All providers' limits")
        screen.enter("rlmd is not running. Start it with: rlmctl start")
    assert providers.requests == []
    if opencode.generation == 1:
        assert sessions(opencode) == ""


def test_a_blank_behind_the_command_makes_it_no_prompt(opencode: OpenCode, providers: Providers) -> None:
    with Screen(opencode) as screen:
        screen.type("/rate_limit_status", "All providers' limits")
        screen.keys("Space")
        screen.wait_without("All providers' limits")
        screen.enter("Current Provider: none")
        screen.type("hello")
        screen.enter("Hello from A")
    assert [request.roles for request in providers.requests if not request.title] == [("user",)]


@pytest.mark.generations(1, 2)
def test_what_does_not_fit_the_screen_is_a_list_and_its_times_are_not_cut_off(
    bare_opencode: OpenCode, daemon_with: Callable[[str], Daemon]
) -> None:
    name = "a-provider-whose-name-is-long"
    daemon = daemon_with(configuration("A", "B", "C").replace('id = "A"', f'id = "{name}"'))
    bare_opencode.install_shim(daemon)
    daemon.ask("cooldown", provider=name, for_ms=600_000)
    until = next(line for line in daemon.ask("status")["text"].splitlines() if "Cooldown until" in line)
    with Screen(bare_opencode, rows=24) as screen:
        screen.type("/rate_limit_status", "All providers' limits")
        shown = lines(screen.enter("Current Provider: none"))

        row = next(line for line in shown if "✗ a-provider-" in line)
        assert until.replace("Cooldown until:", "until").strip() in row
        assert any("✓ C " in line and "Requests: 0/100" in line for line in shown)
        screen.keys("Enter")
        screen.wait_without("Current Provider")


def test_long_lines_count_as_what_they_take(bare_opencode: OpenCode, daemon_with: Callable[[str], Daemon]) -> None:
    models = "".join(f'"a-model-whose-name-is-long-{number}" = "x{number}"\n' for number in range(12))
    daemon = daemon_with(configuration("A", "B").replace('"the-model"', f'{models}"the-model"'))
    bare_opencode.install_shim(daemon)
    with Screen(bare_opencode, rows=30) as screen:
        screen.type("/rate_limit_status", "All providers' limits")
        screen.enter("✓ A", "✓ B", "Current Provider: none")


def test_a_daemon_that_goes_without_a_word(opencode: OpenCode, daemon: Daemon) -> None:
    daemon.kill()
    daemon.paths.socket.unlink()
    with socket.socket(socket.AF_UNIX) as listener, Screen(opencode) as screen:
        listener.bind(str(daemon.paths.socket))
        listener.listen()
        threading.Thread(target=_let_go, args=(listener,), daemon=True).start()
        screen.type("/rate_limit_status", "All providers' limits")
        screen.enter("rlmd is not running. Start it with: rlmctl start")


def _let_go(listener: socket.socket) -> None:
    with suppress(OSError):
        while True:
            asked, _ = listener.accept()
            asked.recv(1000)
            asked.close()


@pytest.mark.generations(1, 2)
def test_a_switch_is_told_on_the_screen_and_the_turn_goes_on(opencode: OpenCode, providers: Providers) -> None:
    providers.behave("A", ["429:60"])
    with Screen(opencode) as screen:
        screen.type("hello")
        screen.enter("using B", "Hello from B")


@pytest.mark.generations(1, 2)
def test_uninstalled_the_screen_knows_of_neither(opencode: OpenCode, daemon: Daemon) -> None:
    installer.uninstall(daemon.paths, environ=opencode.environ)
    with Screen(opencode) as screen:
        assert "rate_limit_status" not in screen.type("/r", "/review")
