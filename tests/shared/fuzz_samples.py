"""Inputs to begin with, from the examples of the documentation and the recorded errors, and a way to damage them."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
ODD = (
    b"", b"\0", b"\n", b"\r\n", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\\u0000", b"\\ud800", b'"', b"{", b"}", b"[", b"]",
    b"null", b"true", b"1e999", b"-1", b"9" * 400, b"NaN", b"0.1", b'"id":', b'"op":', b"\x1e", b"\x1f", b"[" * 200,
    b'{"a":' * 50, b"2026-01-12T12:00:00Z", b"retry-after", b"try again in 1h2m3s", b"1" * 40, b"Infinity",
)  # fmt: skip


def begin_with() -> list[bytes]:
    """Every example of the protocol's page and every recorded answer, as the targets take them."""
    page = (ROOT / "docs/protocol.md").read_text(encoding="utf-8")
    lines = [block.encode() for block in re.findall(r"```json\n(.*?)\n```", page, re.DOTALL)]
    for file in sorted((ROOT / "tests/data").glob("signals*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            signal = json.loads(line)
            headers = "\x1f".join(f"{name}\x1f{value}" for name, value in (signal.get("headers") or {}).items())
            body = signal.get("body") or ""
            body = body if isinstance(body, str) else json.dumps(body)
            lines.append(f"\x09\x00{body}\x1e{headers}".encode())
    return lines


def damage(data: bytes, there: list[bytes], rng: random.Random, longest: int = 4096) -> bytes:
    """Cut, join, repeat, or put odd bytes in, a few times."""
    for _ in range(rng.randrange(1, 5)):
        at, to = sorted(rng.randrange(len(data) + 1) for _ in range(2))
        match rng.randrange(6):
            case 0:
                data = data[:at] + data[to:]
            case 1:
                data = data[:at] + rng.choice(ODD) + data[to if rng.random() < 0.5 else at :]
            case 2:
                data = data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
            case 3:
                data = data[:to] + data[at:]
            case 4:
                other = rng.choice(there)
                data = data[:at] + other[rng.randrange(len(other) + 1) :]
            case _:
                data = data[:at] + data[at:to] * rng.randrange(2, 5) + data[to:]
        data = data[:longest]
    return data


def damaged(seed: int, count: int) -> Iterator[bytes]:
    """A fixed sequence of inputs: what there is to begin with, and so many that are made of it."""
    rng = random.Random(seed)
    there = begin_with()
    yield from there
    for _ in range(count):
        yield damage(rng.choice(there), there, rng)
