"""The daemon is absent, hangs or dies, and OpenCode works as if the shim were not there."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from opencode_home import until

if TYPE_CHECKING:
    from opencode_home import Daemon, OpenCode

    from rlmctl.demo.providers import Providers

pytestmark = [pytest.mark.opencode, pytest.mark.generations(1, 2)]


@pytest.fixture(params=["never started", "killed", "hangs"])
def daemonless(request: pytest.FixtureRequest, opencode: OpenCode, daemon: Daemon) -> OpenCode:
    """An OpenCode whose shim gets no answer."""
    if request.param == "hangs":
        daemon.stop()
    else:
        daemon.kill()
    if request.param == "never started":
        daemon.paths.socket.unlink()
    return opencode


def test_a_turn_ends_as_without_the_shim(daemonless: OpenCode, providers: Providers) -> None:
    providers.behave("A", ["429:1"])

    run = daemonless.run()

    assert (run.code, run.out) == (0, "Hello from A, model m1, after 0 results")
    assert [(request.provider, request.behaviour) for request in providers.requests] == [("A", "429:1"), ("A", "ok")]
    assert "rlmd" not in run.err


def test_a_daemon_that_dies_in_mid_turn_is_not_missed(opencode: OpenCode, daemon: Daemon, providers: Providers) -> None:
    providers.behave("A", ["slow:1"])
    with opencode.serve() as server, ThreadPoolExecutor() as pool:
        turn = pool.submit(server.say, server.session(), "USE_TOOL please")
        until(lambda: daemon.provider("A")["in_flight"] == 1)
        daemon.kill()
        assert turn.result() == "Hello from A, model m1, after 1 results"
    assert [request.provider for request in providers.requests] == ["A", "A"]


def test_a_daemon_that_is_killed_and_started_again_keeps_what_it_acknowledged(
    opencode: OpenCode, daemon: Daemon, providers: Providers
) -> None:
    with opencode.serve() as server:
        session = server.session()
        server.say(session, "first")
        assert daemon.counted()["A"] == (1, 0)
        daemon.kill()
        daemon.start()
        assert daemon.counted()["A"] == (1, 0)
        until(lambda: daemon.ask("status")["daemon"]["agents"] > 0)
        providers.behave("A", ["429:60"])
        assert server.say(session, "second").startswith("Hello from B")
        assert daemon.counted() == {"A": (1, 1), "B": (1, 0), "C": (0, 0)}


def test_a_report_that_the_daemon_could_not_take_is_delivered_to_the_next_one(
    opencode: OpenCode, daemon: Daemon, providers: Providers
) -> None:
    with opencode.serve() as server:
        session = server.session()
        server.say(session, "first")
        daemon.stop()
        server.say(session, "second")
        daemon.kill()
        daemon.start()
        until(lambda: daemon.counted()["A"] == (2, 0))
    assert len(providers.requests) == 2
