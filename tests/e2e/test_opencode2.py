"""What OpenCode 2.x does in a way of its own: switches that last, compactions, prompts, its screen's process."""

from __future__ import annotations

import json
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest
from opencode_home import configuration, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from opencode2_home import OpenCode, Server
    from opencode_home import Daemon

    from rlmctl.demo.providers import Providers

pytestmark = [pytest.mark.opencode, pytest.mark.generations(2)]

AT_ONCE = 'patience = "0s"'
"""No short wait for a provider that returns soon."""
A_MOMENT = 0.1
"""Seconds after the daemon knows, from which on nothing more is sent to a provider that is limited."""


@pytest.fixture
def opencode(bare_opencode: OpenCode, daemon_with: Callable[[str], Daemon]) -> OpenCode:
    """An OpenCode with the shim, beside a daemon that prefers A to B to C and waits for none of them."""
    bare_opencode.install_shim(daemon_with(configuration("A", "B", "C", top=AT_ONCE)))
    return bare_opencode


@pytest.fixture
def daemon(opencode: OpenCode) -> Daemon:
    """The daemon of that one."""
    return opencode.daemon


@pytest.fixture
def server(opencode: OpenCode) -> Iterator[Server]:
    with opencode.serve() as running:
        yield running


def asked(providers: Providers) -> list[tuple[str, str]]:
    return [(request.provider, request.behaviour) for request in providers.requests]


def test_a_limited_provider_is_asked_nothing_by_a_new_session_or_process_or_after_a_restart(
    opencode: OpenCode, daemon: Daemon, providers: Providers
) -> None:
    daemon.ask("cooldown", provider="A", for_ms=600_000)
    time.sleep(A_MOMENT)
    with opencode.serve() as server:
        for title in ("", "a test"):
            assert server.say(server.session(title), "USE_TOOL please").startswith("Hello from B")
    daemon.kill()
    daemon.start()
    assert opencode.run(title=True).out == "Hello from B, model m2, after 0 results"

    assert {request.provider for request in providers.requests} == {"B"}


def test_a_session_that_another_process_has_led_elsewhere_comes_back_with_its_variant(
    opencode: OpenCode, daemon: Daemon, providers: Providers
) -> None:
    with opencode.serve() as server:
        session = server.session()
        server.choose(session, "A", variant="high")
        providers.behave("A", ["429:600"])
        assert server.say(session, "hello").startswith("Hello from B")
    daemon.ask("reset", what="all")
    with opencode.serve() as server:
        assert server.say(session, "hello").startswith("Hello from A")
        assert server.model(session) == {"providerID": "A", "id": "m1", "variant": "high"}


def test_what_a_person_chooses_in_between_is_where_the_next_turn_begins(
    server: Server, daemon: Daemon, providers: Providers
) -> None:
    session = server.session()
    providers.behave("A", ["429:600"])
    server.say(session, "hello")
    daemon.ask("reset", what="all")
    daemon.ask("pin", provider="C")
    assert server.say(session, "hello").startswith("Hello from C")
    daemon.ask("pin", provider=None)
    server.choose(session, "B")
    daemon.ask("disable", provider="A")

    assert server.say(session, "hello").startswith("Hello from B")


def test_a_limited_compaction_is_written_by_the_next_provider_after_one_refusal(
    server: Server, daemon: Daemon, providers: Providers
) -> None:
    session = server.session()
    server.say(session, "hello")
    providers.behave("A", ["429:600"])
    server.summarize(session)

    assert asked(providers) == [("A", "ok"), ("A", "429:600"), ("B", "ok")]
    (summary,) = [message for message in server.messages(session) if message["type"] == "compaction"]
    assert (summary["status"], summary["summary"]) == ("completed", "## Objective\n- summed up by B")
    assert server.say(session, "and now?").startswith("Hello from B")
    assert daemon.counted() == {"A": (1, 1), "B": (2, 0), "C": (0, 0)}


def test_a_compaction_for_which_nobody_is_left_fails_once(server: Server, daemon: Daemon, providers: Providers) -> None:
    session = server.session()
    server.say(session, "hello")
    for provider in "ABC":
        daemon.ask("cooldown", provider=provider, for_ms=3_600_000)
    server.summarize(session)

    assert asked(providers) == [("A", "ok")]
    (summary,) = [message for message in server.messages(session) if message["type"] == "compaction"]
    assert summary["status"] == "failed"
    assert "no provider of the-model until" in summary["error"]["message"]


def test_an_answer_that_breaks_off_goes_on_elsewhere_and_what_had_come_stays(
    server: Server, daemon: Daemon, providers: Providers
) -> None:
    providers.behave("A", ["mid:429"])
    session = server.session()

    assert server.say(session, "hello").startswith("Hello from B")
    assert asked(providers) == [("A", "mid:429"), ("B", "ok")]
    assert daemon.counted() == {"A": (1, 1), "B": (1, 0), "C": (0, 0)}
    kinds = [message["type"] for message in server.messages(session)]
    assert kinds.count("synthetic") == 1, "OpenCode 2 asks for the rest by itself"


def test_an_answer_that_is_silent_breaks_off(
    bare_opencode: OpenCode, daemon_with: Callable[[str], Daemon], providers: Providers
) -> None:
    bare_opencode.install_shim(daemon_with(configuration("A", "B", top=AT_ONCE, agent='first_byte = "2s"')))
    providers.behave("A", ["mute"])
    with bare_opencode.serve() as server:
        session = server.session()

        assert server.say(session, "hello").startswith("Hello from B")
        server.assert_clean(session)
    assert asked(providers) == [("A", "mute"), ("B", "ok")]


def test_tokens_cost_and_titles_are_counted(server: Server, daemon: Daemon, providers: Providers) -> None:
    server.say(server.session(title=""), "USE_TOOL please")

    assert [request.title for request in providers.requests].count(True) == 1
    until(lambda: daemon.counted()["A"] == (3, 0))
    until(lambda: _row(daemon)["tokens"] == 240)
    assert _row(daemon)["cost"] == pytest.approx(0.00028)
    assert daemon.provider("A")["in_flight"] == 0


def _row(daemon: Daemon) -> dict[str, Any]:
    rows: list[dict[str, Any]] = daemon.ask("history", since="2020-01-01T00:00:00Z")["rows"]
    return rows[0]


def test_a_request_that_the_daemon_wants_elsewhere_is_held_back(
    server: Server, daemon: Daemon, providers: Providers
) -> None:
    providers.behave("A", ["slow:2"])
    session = server.session()
    server.begin(session, "USE_TOOL2 please")
    until(lambda: asked(providers) == [("A", "slow:2")])
    daemon.ask("cooldown", provider="A", for_ms=600_000)
    server.wait(session)

    assert asked(providers) == [("A", "slow:2"), ("B", "ok"), ("B", "ok")]
    server.assert_clean(session)
    assert daemon.counted() == {"A": (1, 0), "B": (2, 0), "C": (0, 0)}


def test_that_nobody_is_left_is_the_error_that_a_person_sees(
    opencode: OpenCode, daemon: Daemon, providers: Providers
) -> None:
    for provider in "ABC":
        daemon.ask("cooldown", provider=provider, for_ms=3_600_000)
    run = opencode.run()

    assert run.code == 1
    assert all(f"{name} is cooling down until" in run.err for name in "ABC"), run.err
    assert providers.requests == []


def test_a_near_end_is_waited_for(server: Server, daemon: Daemon, providers: Providers) -> None:
    for provider, ms in {"A": 600_000, "B": 6_000, "C": 600_000}.items():
        daemon.ask("cooldown", provider=provider, for_ms=ms)
    session = server.session()

    assert server.say(session, "hello") == "Hello from B, model m2, after 0 results"
    server.assert_clean(session)
    assert asked(providers) == [("B", "ok")]


def test_a_server_that_a_person_has_started_writes_notices_to_its_stderr_once(
    server: Server, providers: Providers
) -> None:
    providers.behave("A", ["429:600"])
    for session in (server.session(), server.session()):
        server.say(session, "hello")

    (line,) = [line for line in server.log.splitlines() if line.startswith("rlmd: ")]
    assert line.endswith("(throttle); using B")


def test_without_a_screen_the_status_is_the_answer_and_no_model_gets_it(
    opencode: OpenCode, daemon: Daemon, providers: Providers
) -> None:
    run = opencode.run("/rate_limit_status", title=True)

    assert (run.code, run.out) == (0, daemon.ask("status")["text"].strip())
    assert providers.requests == []
    assert daemon.counted() == {"A": (0, 0), "B": (0, 0), "C": (0, 0)}

    assert opencode.run("hello", "--continue").out == "Hello from A, model m1, after 0 results"
    assert [request.roles for request in providers.requests] == [("user",)]

    daemon.kill()
    run = opencode.run("/rate_limit_status", title=True)
    assert (run.code, run.out) == (0, "rlmd is not running. Start it with: rlmctl start")


def test_the_daemon_is_told_the_project_and_not_where_the_server_was_started(
    opencode: OpenCode, daemon: Daemon
) -> None:
    other = opencode.directory / "another project"
    other.mkdir()
    with opencode.serve(directory=opencode.directory) as server:
        for project in (opencode.project, other):
            server.say(server.session(directory=project), "hello")
        clients = daemon.ask("status")["daemon"]["clients"]

    assert {client["directory"] for client in clients} == {str(opencode.project), str(other)}


def test_no_plugin_has_failed(opencode: OpenCode, server: Server) -> None:
    server.say(server.session(), "hello")
    plugins = server.get(f"/api/plugin?directory={opencode.project}")["data"]
    ours = [plugin for plugin in plugins if plugin.get("id") == "rlmd"]

    assert [plugin["state"]["status"] for plugin in ours] == ["active"]
    assert [plugin for plugin in plugins if plugin["state"]["status"] == "failed"] == []


def test_a_model_that_opencode_does_not_have_leads_nobody_away(
    bare_opencode: OpenCode, daemon_with: Callable[[str], Daemon], providers: Providers
) -> None:
    lacking = configuration("A", "B", top=AT_ONCE).replace('"m2"', '"not-there"')
    bare_opencode.install_shim(daemon_with(lacking))
    providers.behave("A", ["429:1"])

    run = bare_opencode.run()

    assert (run.code, run.out) == (0, "Hello from A, model m1, after 0 results")
    assert asked(providers) == [("A", "429:1"), ("A", "ok")]


def test_the_background_service_leads_its_clients_too(opencode: OpenCode, providers: Providers) -> None:
    providers.behave("A", ["429:600"])
    words = [opencode.program, "run", "--auto", "--title", "a test", "hello"]
    try:
        done = subprocess.run(
            words,
            cwd=opencode.project,
            env=opencode.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
    finally:
        service = opencode.directory / "state" / "opencode" / "service.json"
        if service.exists():
            subprocess.run(["kill", str(json.loads(service.read_text())["pid"])], check=False)

    assert (done.returncode, done.stdout.decode().strip()) == (0, "Hello from B, model m2, after 0 results")
    assert asked(providers) == [("A", "429:600"), ("B", "ok")]


def test_a_compaction_that_is_the_first_thing_asked_of_a_process_is_led_on_too(
    opencode: OpenCode, providers: Providers
) -> None:
    with opencode.serve() as server:
        session = server.session()
        server.say(session, "hello")
    providers.behave("A", ["429:600"])
    with opencode.serve() as server:
        server.summarize(session)
        summaries = [one for one in server.messages(session) if one["type"] == "compaction"]

    assert [one["status"] for one in summaries] == ["completed"]
    assert asked(providers) == [("A", "ok"), ("A", "429:600"), ("B", "ok")]


def test_a_turn_that_a_person_stops_leaves_no_lease_and_no_error(
    server: Server, daemon: Daemon, providers: Providers
) -> None:
    for behaviour in ("hang", "slow:30"):
        providers.behave("A", [behaviour])
        session = server.session()
        server.begin(session, "hello")
        until(lambda: daemon.provider("A")["in_flight"] == 1)
        server.abort(session)
        server.wait(session)
        until(lambda: daemon.provider("A")["in_flight"] == 0)

    assert (daemon.provider("A")["state"], daemon.provider("A")["error_count"]) == ("closed", 0)
    assert server.say(session, "and now?").startswith("Hello from A")


def test_a_fork_and_a_continued_session_begin_where_there_is_room(
    opencode: OpenCode, daemon: Daemon, providers: Providers
) -> None:
    assert opencode.run("hello").out.startswith("Hello from A")
    daemon.ask("cooldown", provider="A", for_ms=600_000)
    providers.requests.clear()

    for words in (["--continue"], ["--continue", "--fork"], ["--agent", "plan"]):
        assert opencode.run("hello", *words).out.startswith("Hello from B"), words
    assert {request.provider for request in providers.requests} == {"B"}
