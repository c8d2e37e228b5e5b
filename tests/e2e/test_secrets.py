"""What stays inside OpenCode, and what one provider signed goes to no other."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from between import between
from opencode_home import configuration, until
from wires import Refusal, Wires

if TYPE_CHECKING:
    from collections.abc import Callable

    from opencode_home import Daemon, OpenCode
    from wires import Sent

    from rlmctl.demo.providers import Providers

pytestmark = pytest.mark.opencode

AT_ONCE = 'patience = "0s"'
"""No short wait for a provider that returns soon."""


@pytest.fixture
def thinking(bare_opencode: OpenCode, daemon_with: Callable[[str], Daemon]) -> tuple[OpenCode, Daemon]:
    """Two providers that sign their thoughts, in the same format."""
    daemon = daemon_with(configuration("A", "C", top=AT_ONCE))
    bare_opencode.install_shim(daemon)
    return bare_opencode, daemon


def signed(providers: Providers) -> list[tuple[str, list[str]]]:
    return [(request.provider, request.signatures) for request in providers.requests]


@pytest.mark.generations(1, 2)
def test_signatures_of_a_turn_that_has_moved_go_back_to_their_own_provider_only(
    thinking: tuple[OpenCode, Daemon], providers: Providers
) -> None:
    opencode, daemon = thinking
    with opencode.serve() as server:
        session = server.session()
        providers.behave("A", ["429:1"])
        assert server.say(session, "THINK").startswith("Hello from C")
        until(lambda: bool(daemon.provider("A")["available"]))
        assert server.say(session, "THINK").startswith("Hello from A")
        assert server.say(session, "THINK").startswith("Hello from A")
    assert signed(providers) == [("A", []), ("C", []), ("A", []), ("A", ["signed by A"])]


@pytest.mark.generations(1, 2)
def test_a_step_that_moves_leaves_the_signatures_behind(
    thinking: tuple[OpenCode, Daemon], providers: Providers
) -> None:
    opencode, _ = thinking
    with opencode.serve() as server:
        session = server.session()
        assert server.say(session, "THINK").startswith("Hello from A")
        providers.behave("A", ["429:60"])
        assert server.say(session, "THINK").startswith("Hello from C")
        assert server.say(session, "THINK").startswith("Hello from C")
    assert signed(providers) == [("A", []), ("A", ["signed by A"]), ("C", []), ("C", ["signed by C"])]


@pytest.mark.generations(1, 2)
def test_a_thought_of_an_answer_that_broke_off_goes_to_nobody_else(
    thinking: tuple[OpenCode, Daemon], providers: Providers
) -> None:
    opencode, _ = thinking
    with opencode.serve() as server:
        session = server.session()
        providers.behave("A", ["mid:529"])
        assert server.say(session, "THINK").endswith("Hello from C, model m3, after 0 results")
        server.say(session, "THINK")
    assert all(signature == f"signed by {name}" for name, given in signed(providers) for signature in given), signed(
        providers
    )


@pytest.mark.generations(1, 2)
def test_it_still_holds_when_opencode_has_been_started_again(
    thinking: tuple[OpenCode, Daemon], providers: Providers
) -> None:
    opencode, daemon = thinking
    providers.behave("A", ["429:1"])
    assert opencode.run("THINK").out.endswith("Hello from C, model m3, after 0 results")
    until(lambda: bool(daemon.provider("A")["available"]))
    assert opencode.run("THINK", "--continue", "--model", "A/m1").out.endswith(
        "Hello from A, model m1, after 0 results"
    )

    assert signed(providers) == [("A", []), ("C", []), ("A", [])]


def test_a_thought_of_an_answer_that_broke_off_is_known_when_opencode_has_been_started_again(
    thinking: tuple[OpenCode, Daemon], providers: Providers
) -> None:
    opencode, _ = thinking
    providers.behave("A", ["mid:529"])
    assert opencode.run("THINK").out.endswith("Hello from C, model m3, after 0 results")
    assert opencode.run("THINK", "--continue").out.endswith("Hello from C, model m3, after 0 results")

    assert signed(providers) == [("A", []), ("C", []), ("C", ["signed by C"])]


@pytest.mark.generations(1, 2)
def test_the_daemon_hears_nothing_of_prompts_answers_keys_and_request_headers(
    opencode: OpenCode, daemon: Daemon, providers: Providers
) -> None:
    path = daemon.paths.socket.with_name("between.sock")
    opencode.environ["RLMD_SOCKET"] = str(path)
    providers.behave("A", ["ok", "429:60"])
    providers.behave("B", ["mid:529"])
    with between(path, daemon.paths.socket) as said:
        run = opencode.run("THINK and USE_TOOL2: my-secret-prompt", title=True)
    assert run.code == opencode.generation - 1, "an answer that breaks off is an error of 2.x's, though it goes on"

    assert {line["op"] for line in said} >= {"hello", "acquire", "report", "usage"}
    reports = [line for line in said if line["op"] == "report"]
    assert {report["outcome"] for report in reports} - {"unsent"} == {"accepted", "ok", "error"}
    text = json.dumps(said)
    for secret in (
        "my-secret-prompt",
        "USE_TOOL",
        "Hello from",
        "step1",
        "key-A",
        "key-B",
        "signed by",
        "Bearer",
        "affinity",
    ):
        assert secret not in text, secret
    for report in reports:
        names = set(report.get("headers", {}))
        assert all("limit" in name or name in {"content-type", "date", "retry-after"} for name in names), names
        assert len(report.get("body", "")) <= 4096


FASTAPI_422 = "an error that repeats the request, as a FastAPI server does: vLLM, LiteLLM, TGI"
LITELLM_401 = "an error that repeats the key, as LiteLLM does"


@pytest.mark.parametrize("kind", [FASTAPI_422, LITELLM_401])
def test_what_an_error_repeats_of_its_request_stays_in_opencode(
    kind: str, bare_opencode: OpenCode, daemon_with: Callable[[str], Daemon]
) -> None:
    def refusing(sent: Sent) -> Refusal:
        if kind == LITELLM_401:
            key = dict(sent.headers)["Authorization"].removeprefix("Bearer ")
            message = f"Authentication Error, Invalid proxy server token passed. Received API Key = {key}"
            return Refusal(401, {"error": {"message": message, "type": "auth_error", "param": key, "code": "401"}})
        said = json.loads(sent.body)
        detail = {"type": "missing", "loc": ["body", "n"], "msg": "Field required", "input": said}
        return Refusal(422, {"detail": [detail]})

    daemon = daemon_with('[[provider]]\nid = "compatible"\nmodels = ["m-compatible"]\n')
    path = daemon.paths.socket.with_name("between.sock")
    with Wires(refusing) as wires, between(path, daemon.paths.socket) as said:
        bare_opencode.install_shim(daemon)
        bare_opencode.use(wires.entries(), "compatible/m-compatible")
        bare_opencode.environ["RLMD_SOCKET"] = str(path)

        assert bare_opencode.run("my-secret-prompt").code == 1
        repeated = json.dumps([refusal.body for refusal in wires.refusals])

    planted = "key-of-the-loopback" if kind == LITELLM_401 else "my-secret-prompt"
    assert planted in repeated
    statuses = [line["status"] for line in said if line["op"] == "report" and line["outcome"] == "error"]
    assert statuses == [refusal.status for refusal in wires.refusals]
    for secret in ("key-of-the-loopback", "my-secret-prompt", "You are opencode"):
        assert secret not in json.dumps(said), secret
