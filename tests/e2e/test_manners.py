"""What the shim owes to the person and to everything else in the same OpenCode."""

from __future__ import annotations

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from opencode_home import VERSION, Daemon, configuration, until

from rlmctl.agents import opencode as shim
from rlmctl.demo.opencode_home import spare_the_download

if TYPE_CHECKING:
    from collections.abc import Callable

    from opencode_home import OpenCode

    from rlmctl.demo.providers import Providers

pytestmark = pytest.mark.opencode

AT_ONCE = 'patience = "0s"'
"""No short wait for a provider that returns soon."""


def asked(providers: Providers) -> list[tuple[str, str]]:
    return [(request.provider, request.behaviour) for request in providers.requests]


def test_sessions_interleave_on_two_providers_in_one_process(
    bare_opencode: OpenCode, daemon_with: Callable[[str], Daemon], providers: Providers
) -> None:
    daemon = daemon_with(configuration("A", "B", top=AT_ONCE))
    bare_opencode.install_shim(daemon)
    with bare_opencode.serve() as server, ThreadPoolExecutor() as pool:
        moved, fresh = server.session(), server.session()
        providers.behave("A", ["429:1", "slow:1"])
        providers.behave("B", ["slow:2", "slow:1", "ok"])
        first = pool.submit(server.say, moved, "USE_TOOL2 please")
        until(lambda: ("B", "slow:2") in asked(providers))
        until(lambda: bool(daemon.provider("A")["available"]))
        second = server.say(fresh, "hello")

        assert second == "Hello from A, model m1, after 0 results"
        assert first.result().endswith("Hello from B, model m2, after 2 results")
    by_session = [(request.headers["x-session-affinity"], request.provider) for request in providers.requests]
    assert [provider for session, provider in by_session if session == fresh] == ["A"]
    assert [provider for session, provider in by_session if session == moved] == ["A", "B", "B", "B"]


@pytest.mark.parametrize("behaviour", ["hang", "mute"])
def test_a_provider_that_stays_silent_is_left(
    behaviour: str, bare_opencode: OpenCode, daemon_with: Callable[[str], Daemon], providers: Providers
) -> None:
    daemon = daemon_with(configuration("A", "B", agent='first_byte = "700ms"'))
    bare_opencode.install_shim(daemon)
    providers.behave("A", [behaviour])

    run = bare_opencode.run()

    assert (run.code, run.out) == (0, "Hello from B, model m2, after 0 results")
    assert daemon.counted() == {"A": (0, 1), "B": (1, 0)}


def test_a_persons_stop_is_no_failure_of_the_provider(opencode: OpenCode, daemon: Daemon, providers: Providers) -> None:
    providers.behave("A", ["slow:20"])
    with opencode.serve() as server, ThreadPoolExecutor() as pool:
        session = server.session()
        turn = pool.submit(server.say, session, "hello")
        until(lambda: daemon.provider("A")["in_flight"] == 1)
        server.abort(session)
        turn.result()
        until(lambda: daemon.provider("A")["in_flight"] == 0)
        assert daemon.provider("A")["error_count"] == 0
        assert server.say(session, "again").startswith("Hello from A")


def test_every_request_ends_for_the_daemon_too_titles_included(
    opencode: OpenCode, daemon: Daemon, providers: Providers
) -> None:
    def begin(_: int) -> None:
        server.say(server.session(""), "hello")

    with opencode.serve() as server, ThreadPoolExecutor(3) as pool:
        list(pool.map(begin, range(24)))

        until(lambda: daemon.counted()["A"] == (48, 0))
        until(lambda: daemon.provider("A")["in_flight"] == 0, patience=10)
    assert len(providers.requests) == 48


def test_opencode_has_nothing_to_complain_of(opencode: OpenCode) -> None:
    with opencode.serve() as server:
        session, before = server.session(), server.log
        for _ in range(20):
            server.say(session, "hello")
        assert server.log == before


def test_tokens_and_cost_of_an_answer_reach_the_daemon(
    bare_opencode: OpenCode, daemon_with: Callable[[str], Daemon], providers: Providers
) -> None:
    metered = "".join(f'[[provider.limit]]\nof = "{of}"\nmax = 1000\nper = "1d"\n' for of in ("tokens", "cost"))
    daemon = daemon_with(configuration("A", "B") + metered)
    bare_opencode.install_shim(daemon)
    providers.behave("A", ["429:60"])

    bare_opencode.run("USE_TOOL please")

    used = {limit["of"]: limit["used"] for limit in daemon.provider("B")["limits"] if limit["source"] == "config"}
    assert used == {"requests": 2, "tokens": 240, "cost": pytest.approx(2 * (100 * 1 + 20 * 2) / 1_000_000)}


def test_opencodes_catalogue_is_after_a_turn_what_it_was_before(opencode: OpenCode, providers: Providers) -> None:
    with opencode.serve() as server:
        before = server.get("/config/providers")
        providers.behave("A", ["ok", "429:60"])
        session = server.session()
        assert server.say(session, "USE_TOOL2 please").startswith("Hello from B")
        until(lambda: server.get("/session/status") == {})

        assert server.get("/config/providers") == before


def test_a_provider_that_nobody_configured_is_left_alone(
    bare_opencode: OpenCode, daemon_with: Callable[[str], Daemon], providers: Providers
) -> None:
    daemon = daemon_with(configuration("B", "C"))
    bare_opencode.install_shim(daemon)
    providers.behave("A", ["429:1"])

    run = bare_opencode.run()

    assert (run.code, run.out) == (0, "Hello from A, model m1, after 0 results")
    assert daemon.counted() == {"B": (0, 0), "C": (0, 0)}


def test_it_lies_on_fetch_once_and_leaves_the_wrappers_of_others(bare_opencode: OpenCode, directory: Path) -> None:
    bare_opencode.install_shim(Daemon(directory, configuration("A")))  # which nobody starts
    script = Path(__file__).with_name("lifecycle.ts")

    done = subprocess.run(
        [bare_opencode.program, "run", str(script), str(bare_opencode.config / "plugins" / "rlmd.ts")],
        env={**bare_opencode.environ, "BUN_BE_BUN": "1"},  # the program is then the runtime that it is built on
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    seen = json.loads(done.stdout)
    assert len(seen) == 7
    assert [fact for fact, so in seen.items() if not so] == []


def test_a_shim_installed_twice_counts_once(opencode: OpenCode, daemon: Daemon, providers: Providers) -> None:
    shim.install(daemon.paths, project=opencode.project)
    spare_the_download(opencode.project / ".opencode", VERSION)
    providers.behave("A", ["429:60"])

    run = opencode.run()

    assert (run.code, run.out) == (0, "Hello from B, model m2, after 0 results")
    assert daemon.counted() == {"A": (0, 1), "B": (1, 0), "C": (0, 0)}


def test_an_opencode_that_does_not_follow_keeps_its_provider_and_says_so(
    opencode: OpenCode, providers: Providers
) -> None:
    # Another plugin that puts the model back before the next try stands for an OpenCode that copies it.
    opposing = """
        let live, first
        export const Opposing = async () => ({
          "chat.headers": async ({ model }) => { live = model; first ??= structuredClone(model) },
          event: async ({ event }) => {
            if (event.type === "session.status" && event.properties.status.type === "retry")
              Object.assign(live, first)
          },
        })"""
    (opencode.config / "plugins" / "opposing.ts").write_text(opposing)
    providers.behave("A", ["429:1", "429:1"])

    run = opencode.run()

    assert (run.code, run.out) == (0, "Hello from A, model m1, after 0 results")
    assert {request.provider for request in providers.requests} == {"A"}
    assert run.err.count("does not follow") == 1
