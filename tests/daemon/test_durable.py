"""Which replies wait for the disk: the request's own type says so, for every operation there is."""

from __future__ import annotations

import json
import sqlite3
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from house import ANTHROPIC, MODEL, OPENROUTER, SETTINGS, House, Peer

from rlmd.wire import messages

if TYPE_CHECKING:
    from rlmd.core.model import Effects

LINES = (Path(__file__).parents[1] / "data" / "protocol.jsonl").read_bytes().splitlines()
REQUESTS = [
    line for line in LINES if line.startswith(b'{"op":') and json.loads(line)["op"] not in {"history", "import"}
]
"""A history is looked up by a process of its own; a disk that fails takes no import."""
OPS: dict[str, type[messages.Request]] = {
    str(kind.__struct_config__.tag): kind for kind in typing.get_args(messages.AnyRequest)
}
KEEPS_ANYWAY = {"acquire", "reload"}
"""What these change is found again without the disk: a lease ends by itself, a configuration is read from its file."""


@pytest.mark.parametrize("line", REQUESTS, ids=lambda line: line[7:40].decode())
async def test_a_reply_promises_durability_where_the_request_changes_what_is_kept_and_nowhere_else(
    house: House, peer: Peer, monkeypatch: pytest.MonkeyPatch, line: bytes
) -> None:
    house.place.configure(SETTINGS + (ANTHROPIC + OPENROUTER).replace(MODEL, "claude-sonnet-4-5"))
    await peer.ask("reload")
    op = json.loads(line)["op"]
    kept: list[Effects] = []
    add = house.daemon.outbox.add

    def watched(step: Effects) -> None:
        kept.append(step)
        add(step)

    def full(*_: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(house.daemon.outbox, "add", watched)
    monkeypatch.setattr(house.daemon._store, "commit", full)
    await peer.say(line + b"\n")
    reply = await peer.hear()
    monkeypatch.undo()
    durable = issubclass(OPS[op], messages.Durable)
    changed = any(step.facts or step.receipts or step.usage for step in kept)
    assert not changed or durable or op in KEEPS_ANYWAY
    assert (reply.get("code") == "not_durable") == (durable and changed)
