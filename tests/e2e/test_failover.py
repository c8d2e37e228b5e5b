"""A limit is hit, and the person sees an answer instead of an error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from opencode_home import configuration, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from opencode_home import Daemon, OpenCode, Run

    from rlmctl.demo.providers import Providers

pytestmark = [pytest.mark.opencode, pytest.mark.generations(1, 2)]


def asked(providers: Providers) -> list[tuple[str, str]]:
    """Who was asked for what, titles apart."""
    return [(request.provider, request.behaviour) for request in providers.requests if not request.title]


def told_of_the_switch(opencode: OpenCode, run: Run) -> bool:
    """Whether a headless run says once that it goes on elsewhere; 2.x does so itself, and prints no other line."""
    return run.err.count("> build · m2" if opencode.generation == 2 else "rlmd: ") == 1


def test_the_first_limit_is_answered_by_the_next_provider_and_then_remembered(
    opencode: OpenCode, daemon: Daemon, providers: Providers
) -> None:
    providers.behave("A", ["429:60"])

    first = opencode.run()

    assert (first.code, first.out) == (0, "Hello from B, model m2, after 0 results")
    assert asked(providers) == [("A", "429:60"), ("B", "ok")]
    assert [request.key for request in providers.requests] == ["key-A", "key-B"]
    assert daemon.counted() == {"A": (0, 1), "B": (1, 0), "C": (0, 0)}
    assert told_of_the_switch(opencode, first)

    providers.requests.clear()
    second = opencode.run(title=True)

    assert (second.code, second.out) == (0, "Hello from B, model m2, after 0 results")
    assert {(request.provider, request.title) for request in providers.requests} == {("B", False), ("B", True)}
    assert daemon.counted() == {"A": (0, 1), "B": (3, 0), "C": (0, 0)}


def test_a_limit_on_the_openai_wire_is_answered_on_the_anthropic_wire(
    bare_opencode: OpenCode, daemon_with: Callable[[str], Daemon], providers: Providers
) -> None:
    bare_opencode.install_shim(daemon_with(configuration("B", "A")))
    bare_opencode.configure(providers, default="B")
    providers.behave("B", ["429:60"])

    run = bare_opencode.run()

    assert (run.code, run.out) == (0, "Hello from A, model m1, after 0 results")
    assert [(request.provider, request.wire) for request in providers.requests] == [
        ("B", "openai"),
        ("A", "anthropic"),
    ]


def test_a_limit_in_the_middle_of_a_tool_loop_repeats_no_finished_step(
    opencode: OpenCode, providers: Providers
) -> None:
    providers.behave("A", ["ok", "429:60"])

    run = opencode.run("USE_TOOL2 please")

    assert (run.code, run.out.splitlines()[-1]) == (0, "Hello from B, model m2, after 2 results")
    assert asked(providers) == [("A", "ok"), ("A", "429:60"), ("B", "ok"), ("B", "ok")]
    assert (opencode.project / "steps.txt").read_text().split() == ["step1", "step2"]


def test_a_limit_in_a_sub_agent_moves_it_and_its_parent(opencode: OpenCode, providers: Providers) -> None:
    providers.behave("A", ["ok", "429:60"])

    run = opencode.run("USE_TASK please")

    assert run.code == 0
    assert asked(providers) == [("A", "ok"), ("A", "429:60"), ("B", "ok"), ("B", "ok")]


def test_two_limits_in_one_turn_lead_to_the_third_provider(
    opencode: OpenCode, daemon: Daemon, providers: Providers
) -> None:
    providers.behave("A", ["429:60"])
    providers.behave("B", ["429:60"])

    run = opencode.run()

    assert (run.code, run.out) == (0, "Hello from C, model m3, after 0 results")
    assert daemon.counted() == {"A": (0, 1), "B": (0, 1), "C": (1, 0)}


def test_after_its_cooldown_the_first_provider_serves_again(
    bare_opencode: OpenCode, daemon_with: Callable[[str], Daemon], providers: Providers
) -> None:
    daemon = daemon_with(configuration("A", "B", top='patience = "0s"'))
    bare_opencode.install_shim(daemon)
    providers.behave("A", ["429:2"])

    assert bare_opencode.run().out.startswith("Hello from B")
    until(lambda: bool(daemon.provider("A")["available"]))
    assert bare_opencode.run().out.startswith("Hello from A")


def test_a_provider_at_its_hourly_limit_is_left_before_it_objects(
    bare_opencode: OpenCode, daemon_with: Callable[[str], Daemon], providers: Providers
) -> None:
    daemon = daemon_with(configuration("A", "B", A=3))
    bare_opencode.install_shim(daemon)

    run = bare_opencode.run("USE_TOOL2 please", title=True)

    assert (run.code, run.out.splitlines()[-1]) == (0, "Hello from B, model m2, after 2 results")
    assert [request.provider for request in providers.requests].count("A") == 3
    assert daemon.counted() == {"A": (3, 0), "B": (1, 0)}


@pytest.mark.generations(1)
@pytest.mark.parametrize(("first", "second"), [("A", "B"), ("B", "A")])
def test_a_tool_that_ran_before_the_answer_broke_off_does_not_run_again(
    first: str,
    second: str,
    bare_opencode: OpenCode,
    daemon_with: Callable[[str], Daemon],
    providers: Providers,
) -> None:
    bare_opencode.install_shim(daemon_with(configuration(first, second, top='patience = "0s"')))
    bare_opencode.configure(providers, default=first)
    providers.behave(first, ["late:429"])
    with bare_opencode.serve() as server:
        session = server.session()

        assert server.say(session, "USE_TOOL please").endswith("after 1 results")
        assert asked(providers) == [(first, "late:429"), (second, "ok")]
        assert (bare_opencode.project / "steps.txt").read_text() == "step1\n"
        assert providers.requests[-1].results == ["step1\n"]
        tools = [part for message in server.messages(session) for part in message["parts"] if part["type"] == "tool"]
        assert [tool["state"]["status"] for tool in tools] == ["completed"]
