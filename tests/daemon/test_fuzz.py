"""Bytes and messages that nobody should send: a fixed sample. `python tests/shared/fuzz.py` tries many more."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import trio
from fuzz_samples import ODD, damaged
from fuzz_targets import TARGETS
from house import MODEL, House, Peer, Place, virtually
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rlmd.wire import codec, messages

if TYPE_CHECKING:
    from collections.abc import Sequence

SAMPLE = {"framing": 20_000, "decoding": 20_000, "judging": 2000}


@pytest.mark.parametrize("target", TARGETS)
def test_no_bytes_break(target: str) -> None:
    for data in damaged(7, SAMPLE[target]):
        TARGETS[target](data)


NAMES = st.sampled_from(["anthropic", "openrouter", MODEL, "anthropic/sonnet", "", "mistral", "x" * 256, "ü\u0000"])
TIMES = st.sampled_from(["2026-01-12T12:00:30Z", "2026-01-12T11:00:00+02:00", "1970-01-01T00:00:00Z"])
WHOLE = st.integers(0, 10**6)
LEASES = st.one_of(st.sampled_from(["one", "two", "three"]), st.just("@"))
"""`@` stands for the newest lease that the daemon has given."""
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "outcome": st.sampled_from(["accepted", "ok", "error", "cancelled", "unsent"]),
    "purpose": st.sampled_from(["turn", "step", "aux"]),
    "what": st.sampled_from(["counters", "cooldowns", "all"]),
    "bucket": st.sampled_from(["hour", "day"]),
    "events": st.lists(st.sampled_from(messages.EVENTS), max_size=3) | st.none(),
    "usage": st.fixed_dictionaries({"input": WHOLE, "cost": st.floats(0, 100)}),
    "headers": st.dictionaries(
        st.sampled_from(["retry-after", "x-ratelimit-remaining-requests", "x-ratelimit-limit-requests", "date"]),
        st.sampled_from(["0", "60", "1e400", "-5", "", "Mon, 12 Jan 2026 13:00:00 GMT", "9" * 50]),
        max_size=3,
    ),
    "body": st.sampled_from(["", "{", '{"error":{"type":"rate_limit_error"}}', "try again in 99999999999h", "\u2028"]),
    "status": st.sampled_from([None, 0, 200, 400, 401, 429, 500, 503, 529, 999]),
    "lease": LEASES | st.none(),
    "until": TIMES | st.none(),
    "since": TIMES | st.none(),
    "started_at": TIMES | st.none(),
    "for_ms": st.integers(0, messages.YEAR_MS) | st.none(),
    "estimate": WHOLE | st.none(),
    "limit": st.integers(1, 10_000),
    "dry_run": st.booleans(),
    "retry": st.booleans(),
    "pid": WHOLE | st.none(),
    "protocol": st.integers(1, 9),
}
OPS = [op for op in messages.OPS if op not in {"shutdown", "history"}]
"""`history` is read in a thread, which virtual time cannot wait for."""
KINDS = {str(kind.__struct_config__.tag): kind for kind in messages.AnyRequest.__args__}
WRONG = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=3), st.just("x" * 5000), st.just(10**30),
)  # fmt: skip


@st.composite
def lines(draw: st.DrawFn) -> bytes:
    """A valid request, or one with a field that is wrong or missing, or its line with odd bytes in it."""
    op = draw(st.sampled_from(OPS))
    fields = [field.encode_name for field in msgspec.structs.fields(KINDS[op])]
    message = {name: draw(VALUES.get(name, NAMES)) for name in fields if name != "id" and draw(st.integers(0, 4))}
    damage = draw(st.integers(0, 5))
    if damage == 1:
        message[draw(st.sampled_from([*fields, "more"]))] = draw(WRONG)
    line = json.dumps({"op": op, "id": draw(st.integers(0, 99) | st.just("id")), **message}).encode()
    if damage == 2:
        at = draw(st.integers(0, len(line)))
        line = line[:at] + draw(st.sampled_from(ODD)).replace(b"\n", b"") + line[at + draw(st.integers(0, 3)) :]
    return line.replace(b"\n", b"")


CODES = {"bad_request", "unknown_op", "not_found", "conflict", "unavailable"}


async def converse(root: Path, parts: Sequence[Sequence[bytes]], pause: float) -> None:
    """Send lines over a real socket in chunks, from two peers in turn: each gets its reply, in order, and no more."""
    async with trio.open_nursery() as nursery:
        house = House(Place(root), nursery)
        house.begin()
        peers = [await house.peer(), await house.peer()]
        lease = "none"
        for turn, chunk in enumerate(parts):
            peer = peers[turn % 2]
            sent = [line.replace(b'"@"', json.dumps(lease).encode()) for line in chunk]
            await peer.say(b"".join(line + b"\n" for line in sent))
            for line in sent:
                reply = await replied(peer)
                check(line, reply)
                lease = reply.get("lease", lease)
            house.stepped += pause
        await peers[0].say({"op": "ping"})
        assert await replied(peers[0]) == {"type": "pong", "id": None}
        await house.restart()
        provider = await (await house.peer()).provider()
        for limit in provider["limits"]:
            assert limit["used"] >= 0
            assert limit["reserved"] == 0
        await house.end()


async def replied(peer: Peer) -> Any:
    """The next message that is no event."""
    while (message := await peer.hear())["type"] == "event":
        assert "id" not in message
    return message


def understood(line: bytes) -> messages.AnyRequest | messages.Error:
    try:
        return codec.decode(line)
    except codec.BadRequestError as error:
        return error.reply


def check(line: bytes, reply: Any) -> None:
    """Whether this may be the reply to that line."""
    msgspec.convert(reply, messages.AnyReply)
    request = understood(line)
    if isinstance(request, messages.Error):
        assert reply == json.loads(codec.encode(request))
        return
    assert reply["id"] == request.id
    if reply["type"] == "error":
        assert reply["code"] in CODES, reply


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    st.lists(st.lists(lines(), min_size=1, max_size=6), min_size=1, max_size=6),
    st.sampled_from([0.0, 1.0, 61.0, 3600.0, -30.0, -100_000.0]),
)
@example([[b""], [b"{}"], [b'{"op":"ping"}\r']], 0.0)
def test_any_messages_in_any_order_get_their_replies(parts: list[list[bytes]], pause: float) -> None:
    with tempfile.TemporaryDirectory(prefix="rlmd-") as root:
        virtually(converse, Path(root), parts, pause)
