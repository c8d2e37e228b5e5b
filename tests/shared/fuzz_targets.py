"""What is held against any bytes: the tests try a fixed sample, `python tests/shared/fuzz.py` very many."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from rlmd.core.errors.classify import classify
from rlmd.core.errors.headers import read_windows
from rlmd.core.expression import Expression
from rlmd.core.model import Pattern
from rlmd.wire.codec import BadRequestError, Lines, decode, encode
from rlmd.wire.messages import AnyReply

if TYPE_CHECKING:
    from collections.abc import Callable

NOON = 1_768_219_200.0
SMALL = 64
"""A limit of lines that short inputs reach, too."""
PATTERNS = (
    Pattern(Expression("weekly cap"), "quota"),
    Pattern(Expression("(a+)+b"), "throttle", "anthropic"),
)
PROVIDERS = ("anthropic", "openai", "google", "openrouter", "groq", "bedrock", "mine", "zai")


def framing(data: bytes) -> None:
    """Bytes that come in any parts are the same lines; one that is too long is the last."""
    size, data = (data[0] % 32 + 1, data[1:]) if data else (1, b"")
    lines = Lines(SMALL)
    got: list[bytes] = []
    for begin in range(0, len(data), size):
        got += lines.feed(data[begin : begin + size])
        if got and len(got[-1]) > SMALL:
            break
    *whole, rest = data.split(b"\n")
    long = next((n for n, line in enumerate([*whole, rest]) if len(line) > SMALL), None)
    if long is None:
        assert got == whole
        assert bytes(lines.rest) == rest
    else:
        assert got[:long] == whole[:long]
        assert len(got[long]) == SMALL + 1
        assert (*whole, rest)[long].startswith(got[long])
        assert len(got) == long + 1


def decoding(data: bytes) -> None:
    """A line is a request that survives being written, or gets an error that a client can read."""
    try:
        request = decode(data)
    except BadRequestError as error:
        told = error.reply
    else:
        again = encode(request)
        assert encode(decode(again)) == again
        return
    line = encode(told)
    assert len(line) < 2000
    assert line.count(b"\n") == 1
    assert msgspec.json.decode(line, type=AnyReply) == told
    assert told.code in {"bad_request", "unknown_op", "too_large"}


def judging(data: bytes) -> None:
    """What a provider sent means something, whatever it is, and no wait is negative, endless or beyond the longest."""
    head, data = data[:2].ljust(2, b"\0"), data[2:]
    status = (None, 200, 400, 401, 402, 403, 404, 408, 413, 429, 500, 503, 529)[head[0] % 13]
    provider = PROVIDERS[head[1] % len(PROVIDERS)]
    body, _, rest = data.decode("utf-8", "replace").partition("\x1e")
    parts = rest.split("\x1f")
    headers = dict(zip(parts[::2], parts[1::2], strict=False))
    verdict = classify(provider, status, headers, body, body[:200], NOON, patterns=PATTERNS, longest=86_400.0)
    assert verdict.hint is None or 0 < verdict.hint <= 86_400
    for told in read_windows(headers, NOON):
        assert math.isfinite(told.limit)
        assert math.isfinite(told.remaining)
        assert told.remaining <= told.limit
        assert told.reset is None or math.isfinite(told.reset)


TARGETS: dict[str, Callable[[bytes], None]] = {"framing": framing, "decoding": decoding, "judging": judging}
