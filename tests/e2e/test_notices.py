"""What a person is told, where, and how often."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from opencode_home import configuration, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from opencode_home import Daemon, OpenCode

    from rlmctl.demo.providers import Providers

pytestmark = pytest.mark.opencode

AT_ONCE = 'patience = "0s"'
"""No short wait for a provider that returns soon."""


def lines(err: str) -> list[str]:
    return [line.removeprefix("rlmd: ") for line in err.splitlines() if line.startswith("rlmd: ")]


def test_a_switch_names_who_why_and_until_when_on_one_line(opencode: OpenCode, providers: Providers) -> None:
    providers.behave("A", ["429:600"])

    (line,) = lines(opencode.run("USE_TOOL2 please", title=True).err)

    assert line.startswith("A is cooling down until ")
    assert line.endswith(" (throttle); using B")


def test_stderr_can_be_switched_off(
    bare_opencode: OpenCode, daemon_with: Callable[[str], Daemon], providers: Providers
) -> None:
    bare_opencode.install_shim(daemon_with(configuration("A", "B", agent="stderr = false")))
    providers.behave("A", ["429:600"])

    run = bare_opencode.run()

    assert (run.code, run.out) == (0, "Hello from B, model m2, after 0 results")
    assert lines(run.err) == []


def test_a_share_of_a_limit_warns_and_its_end_switches(
    bare_opencode: OpenCode, daemon_with: Callable[[str], Daemon]
) -> None:
    bare_opencode.install_shim(daemon_with(configuration("A", "B", A=5)))
    with_warning = bare_opencode.run("USE_TOOL2 please", title=True)
    with_switch = bare_opencode.run("USE_TOOL please")

    (warning,) = lines(with_warning.err)
    assert warning.startswith("A has used 4 of 5 requests per 1h, resets ")
    (switch,) = lines(with_switch.err)
    assert "A has used 5 of 5 requests per 1h until" in switch
    assert switch.endswith("using B")


def test_on_a_screen_each_fact_is_told_once_however_many_sessions(
    bare_opencode: OpenCode, daemon_with: Callable[[str], Daemon]
) -> None:
    daemon = daemon_with(configuration("A", "B", top=AT_ONCE))
    bare_opencode.install_shim(daemon)
    with bare_opencode.serve() as server, server.events() as events, ThreadPoolExecutor() as pool:

        def told() -> list[str]:
            return [event["properties"]["message"] for event in events if event["type"] == "tui.toast.show"]

        sessions = [server.session() for _ in range(4)]
        daemon.ask("cooldown", provider="A", for_ms=600_000)
        for _ in range(2):
            assert all(list(pool.map(lambda one: server.say(one, "hello").startswith("Hello from B"), sessions)))
        until(lambda: len(told()) == 1)
        assert told()[0].endswith("using B")

        daemon.ask("reset", what="cooldowns")
        for _ in range(2):
            assert all(list(pool.map(lambda one: server.say(one, "hello").startswith("Hello from A"), sessions)))
        until(lambda: len(told()) == 2)
        assert told()[1] == "back on A"

        daemon.ask("cooldown", provider="A", for_ms=600_000)
        assert server.say(sessions[0], "hello").startswith("Hello from B")
        until(lambda: len(told()) == 3)
        assert told()[2].endswith("using B"), "a fact that is new again is told again"


def test_one_process_is_not_told_of_the_sessions_of_another(opencode: OpenCode, providers: Providers) -> None:
    with opencode.serve() as server, server.events() as events:
        server.say(server.session(), "hello")
        providers.behave("A", ["429:600"])
        assert len(lines(opencode.run().err)) == 1

        assert [event for event in events if event["type"] == "tui.toast.show"] == []
