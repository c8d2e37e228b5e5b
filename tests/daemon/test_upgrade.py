"""Agents keep the shim they started with. Every later daemon has to answer the lines that it sends.

`shim-0.1.0.jsonl` is what the released shim said to the daemon through four real `opencode run`s: a limit in the middle
of a tool loop, an error in mid-answer, another provider, the status. Only paths, sessions, times and leases are
replaced. Files of later versions join it; none is ever changed.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from house import Process

RECORDED = sorted((Path(__file__).parents[1] / "data").glob("shim-*.jsonl"))
ANSWERS = {
    "hello": {"welcome"},
    "acquire": {"use", "wait"},
    "report": {"recorded"},
    "usage": {"recorded"},
    "status": {"status"},
}
CONFIG = "\n".join(
    f'[[provider]]\nid = "{name}"\npriority = {n}\nhourly_limit = 100_000\nmodels = {{ "the-model" = "m{n}" }}'
    for n, name in enumerate("ABC", 1)
)


def conversations(file: Path) -> Iterator[list[dict[str, Any]]]:
    """Split a recording into its connections: each begins with a hello."""
    lines: list[dict[str, Any]] = []
    for line in file.read_text().splitlines():
        message = json.loads(line)
        if message["op"] == "hello" and lines:
            yield lines
            lines = []
        lines.append(message)
    yield lines


def replay(process: Process, file: Path, agent: int) -> list[str]:
    """Say a recording to a daemon, with the leases that this daemon gives. Returns what was answered amiss."""
    amiss: list[str] = []
    leases: dict[str, Any] = {}
    for conversation in conversations(file):
        given: list[dict[str, Any]] = []
        with process.client() as client:
            for message in conversation:
                sent = {name: value for name, value in message.items() if name not in {"op", "id"}}
                if "session" in sent:
                    sent["session"] = str(agent)
                if "lease" in sent:
                    name = sent.pop("lease")
                    if name not in leases and given:
                        leases[name] = given.pop(0)
                    # Beside others it may have been sent elsewhere than when it was recorded.
                    if leases.get(name, {}).get("provider") == sent["provider"]:
                        sent["lease"] = leases[name]["lease"]
                reply = client.request(message["op"], **sent)
                if "lease" in reply:
                    given.append(reply)
                if reply["type"] not in ANSWERS[message["op"]]:
                    amiss.append(f"{message} got {reply}")
    return amiss


@pytest.mark.parametrize("file", RECORDED, ids=lambda file: file.stem)
def test_the_shim_of_every_release_is_answered_also_by_many_at_once(process: Process, file: Path) -> None:
    process.place.configure(CONFIG)
    process.begin()

    assert replay(process, file, agent=0) == []

    counted = {provider["id"]: provider["limits"][0]["used"] for provider in process.ask("status")["providers"]}
    assert counted == {"A": 2, "B": 3, "C": 2}, "what was counted when it was recorded"

    with ThreadPoolExecutor(8) as agents:
        done = list(agents.map(lambda agent: replay(process, file, agent), range(1, 25)))
    assert [amiss for each in done for amiss in each] == []
    assert [provider["in_flight"] for provider in process.ask("status")["providers"]] == [0, 0, 0]
