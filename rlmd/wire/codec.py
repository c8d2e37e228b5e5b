"""Lines of bytes to messages, and back: framing, decoding, encoding. No input or output happens here.

One JSON object a line, UTF-8, at most `MAX_LINE` bytes.
"""

from __future__ import annotations

from typing import Any

import msgspec

from rlmd.wire.messages import OPS, AnyReply, AnyRequest, Error, Id

MAX_LINE = 256 * 1024
"""Bytes of a line without its newline. A longer line ends the connection: the bytes after it mean nothing."""

_decoder: msgspec.json.Decoder[AnyRequest] = msgspec.json.Decoder(AnyRequest)
_encoder = msgspec.json.Encoder()


class BadRequestError(Exception):
    """A line is no valid request. `reply` is the error for the client."""

    def __init__(self, reply: Error) -> None:
        super().__init__(reply.message)
        self.reply = reply


def decode(line: bytes) -> AnyRequest:
    """Read one line as a request.

    Raises `BadRequestError`, whose reply names what is wrong and carries the id where it could be read.
    """
    if len(line) > MAX_LINE:
        message = f"A line is at most {MAX_LINE} bytes long; this connection is closed."
        raise BadRequestError(Error(code="too_large", message=message))
    try:
        return _decoder.decode(line)
    except _UNREADABLE as error:
        raise BadRequestError(_why_bad(line, error)) from None


_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""Exceptions of decoding a bad line; `RecursionError` where it nests too deep."""


def _why_bad(line: bytes, error: Exception) -> Error:
    try:
        loose: Any = msgspec.json.decode(line)
    except _UNREADABLE:
        return Error(code="bad_request", message=f"This line cannot be read: {error}. Send one JSON object a line.")
    if not isinstance(loose, dict):
        return Error(code="bad_request", message='A request is a JSON object such as {"op":"ping","id":1}.')
    try:
        known = msgspec.convert(loose.get("id"), Id)
    except msgspec.ValidationError:
        known = None
    op = loose.get("op")
    if op is None:
        return Error(id=known, code="bad_request", message='The request has no "op". See docs/protocol.md.')
    if op not in OPS:
        return Error(
            id=known,
            code="unknown_op",
            message=f"There is no operation {str(op)[:40]!r}; there are: {', '.join(OPS)}.",
        )
    return Error(id=known, code="bad_request", message=f"{op}: {error}.")


def encode(message: AnyReply | AnyRequest) -> bytes:
    """Write one message as a line, newline included."""
    return _encoder.encode(message) + b"\n"


def encode_lines(replies: list[AnyReply]) -> bytes:
    """Write messages as a line each."""
    return _encoder.encode_lines(replies)


class Lines:
    """Cuts a stream of bytes into lines."""

    def __init__(self, limit: int = MAX_LINE) -> None:
        self._limit = limit
        self.rest = bytearray()
        """The line that has begun. The next line is another object."""

    def feed(self, data: bytes) -> list[bytes]:
        """Take more bytes; return the lines that they complete, without newlines.

        A line over the limit is returned cut at limit + 1 bytes, as the last one: `len(line) > limit` tells.
        """
        if not self.rest and data.endswith(b"\n") and len(data) <= self._limit:
            return data[:-1].split(b"\n")
        self.rest += data
        lines: list[bytes] = []
        if b"\n" in data:
            *lines, rest = bytes(self.rest).split(b"\n")
            self.rest = bytearray(rest)
        for number, line in enumerate(lines):
            if len(line) > self._limit:
                return [*lines[:number], line[: self._limit + 1]]
        if len(self.rest) > self._limit:
            lines.append(bytes(self.rest[: self._limit + 1]))
        return lines
