"""The messages: golden lines that must not change by accident, framing, and the page that describes them."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlmd.core.model import EventKind, Notice
from rlmd.wire import messages
from rlmd.wire.codec import MAX_LINE, BadRequestError, Lines, decode, encode
from rlmd.wire.messages import OPS, rfc3339

ROOT = Path(__file__).parents[2]
GOLDEN = (ROOT / "tests" / "data" / "protocol.jsonl").read_bytes().splitlines(keepends=True)
PAGE = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
REQUESTS: dict[str, type[messages.Request]] = {
    str(kind.__struct_config__.tag): kind for kind in typing.get_args(messages.AnyRequest)
}
REPLIES: dict[str, type[msgspec.Struct]] = {
    str(kind.__struct_config__.tag): kind for kind in typing.get_args(messages.AnyReply)
}
decode_reply = msgspec.json.Decoder(messages.AnyReply).decode
INSIDE = [
    kind
    for kind in vars(messages).values()
    if isinstance(kind, type)
    and issubclass(kind, msgspec.Struct)
    and kind not in {*REQUESTS.values(), *REPLIES.values(), msgspec.Struct}
    and kind not in {messages.Request, messages.Reply}
]
"""What messages are made of."""


def read(line: bytes) -> messages.AnyRequest | messages.AnyReply:
    return decode(line) if b'{"op":' in line[:7] else decode_reply(line)


# Golden lines


@pytest.mark.parametrize("line", GOLDEN, ids=lambda line: str(line[:30], "utf-8"))
def test_a_golden_line_is_read_and_written_as_it_is(line: bytes) -> None:
    assert encode(read(line)) == line


def test_every_message_has_a_golden_line() -> None:
    assert {str(type(read(line)).__struct_config__.tag) for line in GOLDEN} == {*REQUESTS, *REPLIES}


@pytest.mark.parametrize("kind", [*REQUESTS.values(), *REPLIES.values()], ids=lambda kind: str(kind.__name__))
def test_every_field_is_in_a_golden_line(kind: type[msgspec.Struct]) -> None:
    of_kind = [json.loads(line) for line in GOLDEN if type(read(line)) is kind]
    given = {name for message in of_kind for name, value in message.items() if value is not None}
    never_given = {"id"} if kind is messages.Event else set()
    assert {field.encode_name for field in msgspec.structs.fields(kind)} - given == never_given - {"id"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"op":"ping"}', messages.Ping()),
        (b'{ "id" : "x", "op" : "ping" }\r', messages.Ping(id="x")),
        (b'{"op":"ping","from":"the future","id":1}', messages.Ping(id=1)),
        (b'{"op":"acquire","provider":"a","model":"m"}', messages.Acquire(provider="a", model="m")),
        (b'{"op":"reset"}', messages.Reset(what="all")),
        (b'{"op":"pin","provider":null}', messages.Pin()),
    ],
)
def test_what_may_be_left_out_has_its_default_and_what_is_not_known_is_passed_over(
    line: bytes, message: messages.AnyRequest
) -> None:
    assert decode(line) == message


def test_the_operations_are_those_of_the_messages() -> None:
    assert set(OPS) == set(REQUESTS)
    assert set(messages.EVENTS) == set(typing.get_args(EventKind))


def test_an_event_has_the_fields_of_a_notice() -> None:
    assert set(messages.Event.__struct_fields__) == set(Notice.__struct_fields__)


# Times


@pytest.mark.parametrize(
    ("at", "stamp"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1_768_219_200.0, "2026-01-12T12:00:00.000Z"),
        (1_768_219_200.5, "2026-01-12T12:00:00.500Z"),
        (1_768_219_200.0001, "2026-01-12T12:00:00.001Z"),
        (1_768_219_199.9999, "2026-01-12T12:00:00.000Z"),
    ],
)
def test_a_time_is_written_in_utc_and_never_too_early(at: float, stamp: str) -> None:
    assert rfc3339(at) == stamp


# Framing


@given(
    lines=st.lists(st.binary(max_size=12).filter(lambda line: b"\n" not in line), max_size=8),
    rest=st.binary(max_size=12).filter(lambda line: b"\n" not in line),
    cuts=st.lists(st.integers(0, 100), max_size=8),
)
def test_lines_are_the_same_however_they_arrive(lines: list[bytes], rest: bytes, cuts: list[int]) -> None:
    stream = b"".join(line + b"\n" for line in lines) + rest
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    framing = Lines(limit=12)
    got = [line for start, end in itertools.pairwise(edges) for line in framing.feed(stream[start:end])]
    assert got == lines


@pytest.mark.parametrize("chunk", [1, 5, 100])
def test_a_line_over_the_limit_is_the_last_one(chunk: int) -> None:
    framing = Lines(limit=8)
    stream = b"12345678\n123456789\nping\n"
    got: list[bytes] = []
    for start in range(0, len(stream), chunk):
        got += framing.feed(stream[start : start + chunk])
        if got and len(got[-1]) > 8:
            break
    assert got == [b"12345678", b"123456789"]


def test_an_endless_line_is_noticed_before_it_ends() -> None:
    framing = Lines(limit=8)
    assert framing.feed(b"x" * 8) == []
    assert framing.feed(b"x" * 8) == [b"x" * 9]


def test_a_line_that_is_too_long_is_not_even_read() -> None:
    with pytest.raises(BadRequestError) as caught:
        decode(b" " * (MAX_LINE + 1))
    assert caught.value.reply.code == "too_large"


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_an_error(line: bytes) -> None:
    try:
        decode(line)
    except BadRequestError as error:
        assert decode_reply(encode(error.reply)) == error.reply  # noqa: PT017  (both ends are fine)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(suppress_health_check=[HealthCheck.too_slow])  # that is a busy machine
@given(
    op=st.sampled_from(OPS),
    fields=st.dictionaries(st.sampled_from(["id", "provider", "model", "lease", "usage", "until", "events"]), JSON),
)
def test_any_object_is_a_request_or_an_error_that_carries_its_id(op: str, fields: dict[str, Any]) -> None:
    try:
        request = decode(json.dumps({"op": op, **fields}).encode())
    except BadRequestError as error:
        reply = error.reply
    else:
        reply = messages.Error(id=request.id, code="internal", message="")
    encode(reply)
    known = fields.get("id")
    if isinstance(known, int) and not isinstance(known, bool) and abs(known) <= 2**53:
        assert reply.id == known


# The page


def section(chapter: str, name: str) -> str:
    """Return the part of the page under the heading of a message."""
    found = re.search(rf"^## {chapter}\n.*?^### `{name}`\n(.*?)(?=^##|\Z)", PAGE, re.DOTALL | re.MULTILINE)
    assert found, f"docs/protocol.md has no section on {name}"
    return found[1]


def literals(annotation: Any) -> set[str]:
    """Collect the words that may stand in a field."""
    if typing.get_origin(annotation) is Literal:
        return set(typing.get_args(annotation))
    return {word for part in typing.get_args(annotation) for word in literals(part)}


def test_the_tables_of_the_page_are_those_of_the_messages_and_each_field_has_its_sentence() -> None:
    """Where this fails: python docs/protocol_tables.py, then write the sentences of new fields."""
    command = [sys.executable, str(ROOT / "docs" / "protocol_tables.py"), "--check"]
    assert subprocess.run(command, capture_output=True, text=True, check=False).stderr == ""
    assert "|  |" not in PAGE


@pytest.mark.parametrize(
    ("chapter", "kind"),
    [*(("Requests", kind) for kind in REQUESTS.values()), *(("Replies", kind) for kind in REPLIES.values())],
    ids=lambda part: str(getattr(part, "__name__", part)),
)
def test_the_page_names_every_word_that_may_stand_in_a_field(chapter: str, kind: type[msgspec.Struct]) -> None:
    text = section(chapter, str(kind.__struct_config__.tag))
    for name, annotation in typing.get_type_hints(kind, include_extras=True).items():
        missing = {word for word in literals(annotation) if f"`{word}`" not in text}
        assert missing == set() or name == "events", "the kinds of events have a section of their own"


@pytest.mark.parametrize("kind", INSIDE, ids=lambda kind: str(kind.__name__))
def test_the_page_names_every_field_inside_a_message(kind: type[msgspec.Struct]) -> None:
    for field in msgspec.structs.fields(kind):
        assert f"`{field.encode_name}`" in PAGE, field.name


def test_the_page_names_every_code_and_every_event() -> None:
    for word in (*typing.get_args(messages.ErrorCode), *messages.EVENTS):
        assert f"| `{word}` |" in PAGE, word


def test_the_examples_of_the_page_are_messages() -> None:
    examples = [line for block in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
    kinds = {type(read(line.encode())) for line in examples}
    assert {kind.__name__ for kind in (*REQUESTS.values(), *REPLIES.values())} == {kind.__name__ for kind in kinds}


def test_the_page_names_the_limits() -> None:
    assert f"{MAX_LINE:,} bytes" in PAGE
