"""OpenCode 2.x: a stand-in for its host, which is on no registry; its runtime, the shim as installed, a real daemon."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from opencode_home import Daemon, OpenCode

pytestmark = pytest.mark.opencode
PLAY = Path(__file__).parents[1] / "shim" / "node" / "play2.mjs"
ON_A, ON_B = {"providerID": "A", "id": "m1"}, {"providerID": "B", "id": "m2"}


@pytest.fixture
def play(opencode: OpenCode, daemon: Daemon) -> Callable[..., dict[str, Any]]:
    """Turns of a process of its own: which model its sessions are on, what the providers have in store."""

    def run(*turns: list[Any], first: dict[str, str] = ON_A, **queues: list[str]) -> dict[str, Any]:
        entry = opencode.config / "plugins" / "rlmd.ts"
        done = subprocess.run(
            [opencode.program, "run", str(PLAY), json.dumps({"first": first, "queues": queues, "turns": turns})],
            env={**opencode.environ, **daemon.environ, "BUN_BE_BUN": "1", "SHIM": entry.as_uri()},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        told: dict[str, Any] = json.loads(done.stdout)
        return told

    return run


def test_a_limit_in_mid_turn_is_no_end_and_later_processes_ask_there_no_more(
    play: Callable[..., dict[str, Any]], daemon: Daemon
) -> None:
    told = play(["s", {"steps": 3, "title": True}], A=["ok", "ok", "429"])

    assert None not in told["texts"]
    assert (told["asked"], told["waits"], told["switches"]) == (["A", "A", "A", "B", "B"], [0], ["B"])
    assert daemon.counted() == {"A": (2, 1), "B": (2, 0), "C": (0, 0)}

    assert play(["t", {"title": True}])["asked"] == ["B", "B"]
    assert {daemon.provider(name)["in_flight"] for name in "ABC"} == {0}


def test_a_session_that_was_switched_for_good_comes_back(play: Callable[..., dict[str, Any]]) -> None:
    assert play(["s"], ["s"], first=ON_B)["asked"] == ["A", "A"]


def test_where_all_are_limited_it_waits_or_ends_with_the_times(
    play: Callable[..., dict[str, Any]], daemon: Daemon
) -> None:
    for name in "BC":
        daemon.ask("cooldown", provider=name, for_ms=3_600_000)
    told = play(["s"], A=["429"])

    assert None not in told["texts"]
    [wait] = told["waits"]
    assert (
        55_000 < wait < 80_000
    )  # the 60 s that the provider said, and their jitter; the stand-in does not sit them out
    assert "A is cooling down until " in told["said"][0]["text"]

    daemon.ask("cooldown", provider="A", for_ms=3_600_000)
    told = play(["s"], A=["429"])
    assert (told["texts"], told["waits"], len(told["said"])) == ([None], [], 1)
