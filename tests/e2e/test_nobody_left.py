"""Every provider is limited: a near end is waited for, a far one ends the turn and is told."""

from __future__ import annotations

import time
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


def asked(providers: Providers) -> list[tuple[str, str]]:
    return [(request.provider, request.behaviour) for request in providers.requests]


def test_a_far_end_is_told_for_each_provider_and_ends_the_turn(
    opencode: OpenCode, daemon: Daemon, providers: Providers
) -> None:
    for provider in "ABC":
        providers.behave(provider, ["429:600"])

    run = opencode.run()

    assert run.code == 1
    assert asked(providers) == [("A", "429:600"), ("B", "429:600"), ("C", "429:600")]
    assert all(f"{name} rests until" in run.err for name in ("A/m1", "B/m2", "C/m3")), run.err
    assert daemon.counted() == {"A": (0, 1), "B": (0, 1), "C": (0, 1)}

    again = opencode.run()
    assert again.code == 1
    assert len(providers.requests) == 3, "who is known to rest is not asked"


def test_it_is_told_in_the_middle_of_an_answer_too(
    bare_opencode: OpenCode, daemon_with: Callable[[str], Daemon], providers: Providers
) -> None:
    bare_opencode.install_shim(daemon_with(configuration("A", "B")))
    providers.behave("A", ["402"])
    providers.behave("B", ["mid:402"])

    run = bare_opencode.run()

    assert run.code == 1
    assert asked(providers) == [("A", "402"), ("B", "mid:402")]
    assert all(f"{name} rests until" in run.err for name in ("A/m1", "B/m2")), run.err


def test_a_near_end_is_shown_and_waited_for(
    bare_opencode: OpenCode, daemon_with: Callable[[str], Daemon], providers: Providers
) -> None:
    daemon = daemon_with(configuration("A", "B", top=AT_ONCE))
    bare_opencode.install_shim(daemon)
    providers.behave("A", ["429:7"])
    providers.behave("B", ["429:600"])
    with bare_opencode.serve() as server, server.events() as events:
        session = server.session()

        assert server.say(session, "hello") == "Hello from A, model m1, after 0 results"
        server.assert_clean(session)

    assert asked(providers) == [("A", "429:7"), ("B", "429:600"), ("A", "ok")]
    statuses = [event["properties"]["status"] for event in events if event["type"] == "session.status"]
    shown = [
        status for status in statuses if status["type"] == "retry" and "no provider of the-model" in status["message"]
    ]
    assert len(shown) == 1
    back = next(request.at for request in providers.requests if request.behaviour == "ok")
    assert abs(shown[0]["next"] / 1000 - back) < 2
    toasts = [event["properties"]["message"] for event in events if event["type"] == "tui.toast.show"]
    assert sum("no provider of the-model until" in text for text in toasts) == 1


def test_who_is_back_first_is_asked_without_a_try_for_the_way_there(
    bare_opencode: OpenCode, daemon_with: Callable[[str], Daemon], providers: Providers
) -> None:
    daemon = daemon_with(configuration("A", "B", top=AT_ONCE))
    bare_opencode.install_shim(daemon)
    with bare_opencode.serve() as server, server.events() as events:
        session = server.session()
        for provider, ms in {"A": 600_000, "B": 6_000}.items():
            daemon.ask("cooldown", provider=provider, for_ms=ms)

        assert server.say(session, "hello") == "Hello from B, model m2, after 0 results"
        server.assert_clean(session)
        assert server.answered_by(session) == ["B"]

    assert asked(providers) == [("B", "ok")]
    statuses = [event["properties"]["status"] for event in events if event["type"] == "session.status"]
    tries = [status["message"].split(" until ")[0] for status in statuses if status["type"] == "retry"]
    assert tries == ["no provider of the-model"], "OpenCode has five, and then ends the turn"


def test_without_a_screen_the_wait_is_told_on_one_line(
    bare_opencode: OpenCode, daemon_with: Callable[[str], Daemon], providers: Providers
) -> None:
    daemon = daemon_with(configuration("A", "B", top=AT_ONCE))
    bare_opencode.install_shim(daemon)
    for provider in "AB":
        daemon.ask("cooldown", provider=provider, for_ms=15_000)  # which an OpenCode on a busy machine needs to start

    run = bare_opencode.run()

    assert (run.code, len(providers.requests)) == (0, 1)
    assert run.err.count("rlmd: no provider of the-model until") == 1, run.err


def test_four_sessions_wait_together_and_are_told_of_it_once(
    bare_opencode: OpenCode, daemon_with: Callable[[str], Daemon], providers: Providers
) -> None:
    daemon = daemon_with(configuration("A", "B", top=AT_ONCE))
    bare_opencode.install_shim(daemon)
    with bare_opencode.serve() as server, server.events() as events, ThreadPoolExecutor() as pool:
        sessions = [server.session() for _ in range(4)]
        for provider in "AB":
            daemon.ask("cooldown", provider=provider, for_ms=8000)
        began = time.time()
        said = list(pool.map(lambda session: server.say(session, "hello"), sessions))

        assert all(text.startswith("Hello from ") for text in said)
        for session in sessions:
            server.assert_clean(session)
    assert len(providers.requests) == 4
    assert min(request.at for request in providers.requests) >= began + 7
    toasts = [event["properties"]["message"] for event in events if event["type"] == "tui.toast.show"]
    assert sum("no provider of the-model until" in text for text in toasts) == 1, toasts
    until(lambda: daemon.provider("A")["in_flight"] == 0)
