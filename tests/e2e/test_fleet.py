"""Many sessions and many processes: what one of them finds out, all of them know; none disturbs another."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
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
A_MOMENT = 0.5
"""Seconds after the daemon knows, from which on nothing more is sent to a provider that is limited. A request asks the
daemon twice at the most. A process that five others keep from the processor acts on a word as old as it was kept
waiting: 0.08 to 0.34 s on two cores."""
ON_THE_WAY = 1.0
"""Seconds that what was sent may take to the provider's log: milliseconds, but six processes start at a time."""

WATCH = """
    import { appendFileSync } from "node:fs"
    const beneath = globalThis.fetch
    globalThis.fetch = Object.assign((input, init) => {
      appendFileSync(new URL("sent", import.meta.url), `${Date.now() / 1000} ${String(input)}\\n`)
      return beneath(input, init)
    }, beneath)
    export const Watch = async () => ({})"""
"""A plugin beneath the shim that writes down when a request leaves OpenCode, and where to."""


def asked(providers: Providers) -> list[tuple[str, str]]:
    return [(request.provider, request.behaviour) for request in providers.requests]


def by_session(providers: Providers, session: str) -> list[str]:
    """Return who was asked for a session, in order."""
    return [one.provider for one in providers.requests if one.headers["x-session-affinity"] == session]


@pytest.mark.generations(1, 2)
def test_four_sessions_in_one_process_two_of_them_moved(
    bare_opencode: OpenCode, daemon_with: Callable[[str], Daemon], providers: Providers
) -> None:
    daemon = daemon_with(configuration("A", "B", top=AT_ONCE))
    bare_opencode.install_shim(daemon)
    with bare_opencode.serve() as server, ThreadPoolExecutor() as pool:
        moved = [server.session() for _ in range(2)]
        fresh = [server.session() for _ in range(2)]
        providers.behave("A", ["429:60", "429:60"])
        providers.behave("B", ["slow:2", "slow:2"])
        first = [pool.submit(server.say, session, "USE_TOOL2 please") for session in moved]
        until(lambda: [name for name, _ in asked(providers)].count("B") == 2)
        providers.behave("A", "ok")  # on OpenCode 2.x the second session was held back before its 429
        daemon.ask("reset", provider="A")  # else one of the others would be its probe, alone
        # From here on all four take their steps at the same time, two on each provider.
        second = [pool.submit(server.say, session, "USE_TOOL2 please") for session in fresh]

        assert [turn.result() for turn in first] == ["Hello from B, model m2, after 2 results"] * 2
        assert [turn.result() for turn in second] == ["Hello from A, model m1, after 2 results"] * 2
        for session in moved:
            assert by_session(providers, session) in (["A", "B", "B", "B"], ["B", "B", "B"])
            assert server.answered_by(session) == ["B"] * 3
        for session in fresh:
            assert by_session(providers, session) == ["A"] * 3
            assert server.answered_by(session) == ["A"] * 3
        for session in moved + fresh:
            server.assert_clean(session)
    assert {request.key for request in providers.requests if request.provider == "B"} == {"key-B"}
    assert daemon.counted()["B"] == (6, 0)
    assert daemon.counted()["A"][0] == 6


@pytest.mark.generations(1, 2)
def test_what_another_session_finds_out_is_used_for_the_next_step(
    bare_opencode: OpenCode, daemon_with: Callable[[str], Daemon], providers: Providers
) -> None:
    daemon = daemon_with(configuration("A", "B"))
    bare_opencode.install_shim(daemon)
    with bare_opencode.serve() as server, ThreadPoolExecutor() as pool:
        busy, other = server.session(), server.session()
        providers.behave("A", ["slow:2", "429:60"])
        turn = pool.submit(server.say, busy, "USE_TOOL2 please")
        until(lambda: asked(providers) == [("A", "slow:2")])
        assert server.say(other, "hello").startswith("Hello from B")

        assert turn.result() == "Hello from B, model m2, after 2 results"
        assert by_session(providers, busy) == ["A", "B", "B"], "A is not asked again"
        for session in (busy, other):
            server.assert_clean(session)


@pytest.mark.generations(1, 2)
def test_a_session_goes_to_the_provider_that_another_one_has_left(
    bare_opencode: OpenCode, daemon_with: Callable[[str], Daemon], providers: Providers
) -> None:
    daemon = daemon_with(configuration("A", "B", top=AT_ONCE))
    bare_opencode.install_shim(daemon)
    with bare_opencode.serve() as server, ThreadPoolExecutor() as pool:
        left, other = server.session(), server.session()
        providers.behave("A", ["500"])  # for this turn only
        providers.behave("B", ["slow:6", "slow:3", "402"])
        first = pool.submit(server.say, left, "hello")
        until(lambda: asked(providers) == [("A", "500"), ("B", "slow:6")])
        daemon.ask("cooldown", provider="A", for_ms=60_000)
        second = pool.submit(server.say, other, "USE_TOOL please")
        until(lambda: ("B", "slow:3") in asked(providers))
        daemon.ask("reset", what="cooldowns")

        assert second.result() == "Hello from A, model m1, after 1 results"
        assert first.result().startswith("Hello from B")
        assert by_session(providers, other) == ["B", "B", "A"]
        for session in (left, other):
            server.assert_clean(session)


def test_six_processes_stop_asking_at_once_and_a_later_one_never_begins(
    bare_opencode: OpenCode, daemon_with: Callable[[str], Daemon], providers: Providers
) -> None:
    daemon = daemon_with(configuration("A", "B"))
    watch = bare_opencode.directory / "watch.ts"
    watch.write_text(WATCH)
    bare_opencode.configure(providers, default="A", plugin=[watch.as_uri()])
    bare_opencode.install_shim(daemon)
    bare_opencode.run()  # OpenCode makes its database once, and not well in six processes at a time
    watch.with_name("sent").unlink()
    providers.requests.clear()
    providers.behave("A", "429:600")
    with ThreadPoolExecutor(6) as pool:
        runs = list(pool.map(lambda _: bare_opencode.run("USE_TOOL please", title=True), range(6)))

    said = [(run.code, run.out.splitlines()[-1:]) for run in runs]
    assert said == [(0, ["Hello from B, model m2, after 1 results"])] * 6, runs
    events = daemon.ask("log")["events"]
    known = min(
        datetime.fromisoformat(one["at"]).timestamp() for one in events if one["event"] in {"state", "exhausted"}
    )
    arrived = [request.at - known for request in providers.requests if request.provider == "A"]
    lines = [line.split() for line in watch.with_name("sent").read_text().splitlines()]
    sent = [float(at) - known for at, where in lines if where.startswith(providers.url("A"))]
    assert len(sent) == len(arrived)
    assert max(sent) < A_MOMENT, sent
    assert max(arrived) < ON_THE_WAY, arrived
    assert all(run.err.count("rlmd: ") == 1 for run in runs), [run.err for run in runs]

    providers.requests.clear()
    assert bare_opencode.run(title=True).out == "Hello from B, model m2, after 0 results"
    assert {request.provider for request in providers.requests} == {"B"}


@pytest.mark.generations(1, 2)
def test_a_sub_agent_moves_and_its_parent_with_it(opencode: OpenCode, providers: Providers) -> None:
    providers.behave("A", ["ok", "429:60"])
    with opencode.serve() as server:
        session = server.session()

        assert server.say(session, "USE_TASK please") == "Hello from B, model m2, after 1 results"
        assert [name for name, _ in asked(providers)] == ["A", "A", "B", "B"]
        (child,) = server.children(session)
        assert server.answered_by(session) == ["A", "B"]
        assert server.answered_by(child) == ["B"]
        for one in (session, child):
            server.assert_clean(one)


def test_a_compaction_moves(opencode: OpenCode, providers: Providers) -> None:
    with opencode.serve() as server:
        session = server.session()
        server.say(session, "hello")
        providers.behave("A", ["429:60"])
        server.summarize(session)

        assert asked(providers) == [("A", "ok"), ("A", "429:60"), ("B", "ok")]
        assert server.answered_by(session) == ["A", "B"]
        assert server.say(session, "and now?").startswith("Hello from B")
