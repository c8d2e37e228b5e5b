"""The yardstick: the plain server that anyone would write with trio, which decides nothing.

    python benchmarks/yardstick.py SOCKET

A task for each connection; it decodes requests of about 200 bytes, encodes answers of about 300, and answers all whole
lines of a chunk in one send.
"""

from __future__ import annotations

import sys

import msgspec
import trio


class Request(msgspec.Struct, gc=False):
    """As much as an agent says when it asks."""

    op: str
    id: int
    provider: str = ""
    model: str = ""
    session: str = ""
    agent: str = ""
    purpose: str = ""
    estimate: int = 0


class Answer(msgspec.Struct, gc=False):
    """As much as somebody would answer who had looked at two windows."""

    id: int
    ok: bool
    lease: str
    provider: str
    model: str
    address: str
    reason: str
    hour_used: int
    hour_limit: int
    day_used: int
    day_limit: int
    retry_after: float | None
    resets_at: float


decode = msgspec.json.Decoder(Request).decode
encode_into = msgspec.json.Encoder().encode_into


def answer(request: Request) -> Answer:
    """Say always the same."""
    return Answer(
        request.id,
        ok=True,
        lease="0198f7c2-5b1e-7c3a-9d55-0123456789ab",
        provider="anthropic",
        model=request.model,
        address="https://api.anthropic.example/v1",
        reason="preferred",
        hour_used=17,
        hour_limit=120,
        day_used=431,
        day_limit=2000,
        retry_after=None,
        resets_at=1764000000.0,
    )


async def converse(stream: trio.SocketStream) -> None:
    """Answer one client until it goes."""
    arrived, answers = bytearray(), bytearray()
    async with stream:
        while data := await stream.receive_some(65536):
            arrived += data
            end = arrived.rfind(b"\n")
            if end < 0:
                continue
            lines = bytes(arrived[:end])
            del arrived[: end + 1]
            for line in lines.split(b"\n"):
                encode_into(answer(decode(line)), answers, -1)
                answers += b"\n"
            await stream.send_all(answers)
            answers.clear()


async def main(path: str) -> None:
    """Serve there for ever."""
    listener = trio.socket.socket(trio.socket.AF_UNIX)
    await listener.bind(path)
    listener.listen(128)
    await trio.serve_listeners(converse, [trio.SocketListener(listener)])


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
