"""Every way in which a provider says that it cannot serve now, on both wire formats: the turn goes on elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from opencode_home import configuration

if TYPE_CHECKING:
    from collections.abc import Callable

    from opencode_home import Daemon, OpenCode

    from rlmctl.demo.providers import Providers

pytestmark = [pytest.mark.opencode, pytest.mark.generations(1, 2)]

BEFORE_AN_ANSWER = (
    *("429:60", "429", "529", "402", "401-money", "403-money", "500", "503", "refuse"),
    *("first:429", "first:402", "first:403-money", "first:529", "first:500"),
)
IN_AN_ANSWER = ("mid:429", "mid:402", "mid:529", "cut")
LOOK_ALIKES = ("400", "400-long", "401", "403", "413", "first:400")


@pytest.fixture(params=["A B", "B A"], ids=["anthropic", "openai"])
def order(request: pytest.FixtureRequest) -> list[str]:
    """Who is asked first, and who is next."""
    return str(request.param).split()


@pytest.fixture
def daemon(daemon_with: Callable[[str], Daemon], order: list[str]) -> Daemon:
    return daemon_with(configuration(*order))


@pytest.fixture
def opencode(bare_opencode: OpenCode, daemon: Daemon, providers: Providers, order: list[str]) -> OpenCode:
    bare_opencode.install_shim(daemon)
    bare_opencode.configure(providers, default=order[0])
    return bare_opencode


def test_the_turn_goes_on_at_the_next_provider(
    opencode: OpenCode, daemon: Daemon, providers: Providers, order: list[str]
) -> None:
    first, second = order
    with opencode.serve() as server:
        # OpenCode 2.x by itself keeps what had come of an answer that broke off: see test_opencode2.py.
        for behaviour in BEFORE_AN_ANSWER + (IN_AN_ANSWER if opencode.generation == 1 else ()):
            daemon.ask("reset", what="all")
            providers.requests.clear()
            providers.behave(first, ["ok", behaviour])
            session = server.session()

            assert server.say(session, "USE_TOOL").startswith(f"Hello from {second}"), behaviour
            assert [request.provider for request in providers.requests] == [first, first, second], behaviour
            assert [text.strip() for text in providers.requests[-1].results] == ["step1"], (
                "the tool ran, and its result went along"
            )
            assert (opencode.project / "steps.txt").read_text() == "step1\n", behaviour
            server.assert_clean(session)
            assert server.answered_by(session) == [first, second]
            accepted = {"cut": {1, 2}}.get(behaviour, {1 + (behaviour in IN_AN_ANSWER)})
            counted = daemon.counted()
            assert counted[second] == (1, 0), behaviour
            assert counted[first][0] in accepted, "what was cut off may have been lost with its beginning"
            assert counted[first][1] == 1, behaviour
            (opencode.project / "steps.txt").unlink()


def test_what_only_looks_like_a_limit_moves_and_cools_nothing(
    opencode: OpenCode, daemon: Daemon, providers: Providers, order: list[str]
) -> None:
    first, _ = order
    with opencode.serve() as server:
        for behaviour in LOOK_ALIKES:
            providers.requests.clear()
            providers.behave(first, [behaviour])
            server.say(server.session(), "hello")

            assert {request.provider for request in providers.requests} == {first}, behaviour
            assert daemon.provider(first)["state"] == "closed", behaviour
        session = server.session()
        for prompt in ("say rate limit exceeded 429", "USE_TOOL: rate limit exceeded 429"):
            assert server.say(session, prompt).endswith("rate limit exceeded 429")
        server.assert_clean(session, turns=2)
    assert daemon.provider(first)["state"] == "closed"
    assert {event["event"] for event in daemon.ask("log")["events"]} == {"auth"}, "a refused key is told, no more"
