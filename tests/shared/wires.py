"""Providers of every wire format that OpenCode speaks, on loopback: what reaches them is kept as it came.

They say one sentence. For what a provider may do beside that, see `rlmctl.demo.providers`.
"""

from __future__ import annotations

import json
import struct
import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self

Json = dict[str, Any]

PACKAGES = {
    "anthropic": "@ai-sdk/anthropic",
    "compatible": "@ai-sdk/openai-compatible",
    "openai": "@ai-sdk/openai",
    "google": "@ai-sdk/google",
    "amazon-bedrock": "@ai-sdk/amazon-bedrock",
}
"""Provider → the package that speaks its wire format; all of them are inside OpenCode's binary."""
ENDPOINTS = {
    "/messages": "anthropic",
    "/chat/completions": "compatible",
    "/responses": "openai",
    ":streamGenerateContent": "google",
    "/converse-stream": "amazon-bedrock",
}
"""How the path of a request ends → whose it is."""
SAID = "Hello from the loopback"


class Sent(NamedTuple):
    """One request, as it came over the wire."""

    provider: str
    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes


class Refusal(NamedTuple):
    """An answer that is an error."""

    status: int
    body: Json
    headers: dict[str, str] = {}  # noqa: RUF012  (nobody changes it)


class Wires:
    """The providers while a `with` block lasts. `refusing` decides which requests get no answer, and what instead."""

    def __init__(self, refusing: Callable[[Sent], Refusal | None] = lambda _: None) -> None:
        self.requests: list[Sent] = []
        self.refusals: list[Refusal] = []
        self.refusing = refusing
        self._server = _Server(self)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def address(self) -> str:
        """Where they listen."""
        return f"127.0.0.1:{self._server.server_port}"

    def entries(self) -> dict[str, Json]:
        """Return what opencode.json says of them: provider → its entry. Bedrock's keys are in the environment."""
        url = f"http://{self.address}"
        model = {"limit": {"context": 200_000, "output": 8_000}, "tool_call": True}
        plain = {"baseURL": f"{url}/v1", "apiKey": "key-of-the-loopback"}
        bedrock = {"region": "us-east-1", "endpoint": url, "baseURL": url}
        return {
            provider: {
                "npm": package,
                "options": bedrock if provider == "amazon-bedrock" else plain,
                "models": {f"m-{provider}": {"name": provider, **model}},
            }
            for provider, package in PACKAGES.items()
        }


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, wires: Wires) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.wires = wires

    def handle_error(self, *_: object) -> None:  # type: ignore[explicit-override]  # typing.override is 3.12's
        """Say nothing: an agent may hang up in the middle of an answer."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:  # type: ignore[explicit-override]  # typing.override is 3.12's
        """Write no access log."""

    def do_POST(self) -> None:
        path = self.path.partition("?")[0]
        provider = next(name for end, name in ENDPOINTS.items() if path.endswith(end))
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        sent = Sent(provider, self.command, self.path, self.headers.items(), body)
        self.server.wires.requests.append(sent)
        refusal = self.server.wires.refusing(sent)
        if refusal is not None:
            self.server.wires.refusals.append(refusal)
            self._send(refusal.status, "application/json", json.dumps(refusal.body).encode(), refusal.headers)
        elif provider == "amazon-bedrock":
            self._send(200, "application/vnd.amazon.eventstream", b"".join(_frames()))
        else:
            self._send(200, "text/event-stream", b"".join(_events(provider)))

    def _send(self, status: int, kind: str, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"content-type": kind, "content-length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


def _events(provider: str) -> Iterator[bytes]:
    """Yield the lines of an answer as server-sent events."""
    for event in _SPOKEN[provider]():
        name = f"event: {event['type']}\n" if "type" in event else ""
        yield f"{name}data: {json.dumps(event)}\n\n".encode()
    if provider == "compatible":
        yield b"data: [DONE]\n\n"


def _anthropic() -> Iterator[Json]:
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": []}
    yield {"type": "message_start", "message": {**message, "usage": {"input_tokens": 9, "output_tokens": 1}}}
    yield {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    yield {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": SAID}}
    yield {"type": "content_block_stop", "index": 0}
    yield {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}}
    yield {"type": "message_stop"}


def _compatible() -> Iterator[Json]:
    chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    for delta, reason in (({"role": "assistant", "content": SAID}, None), ({}, "stop")):
        yield {**chunk, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}
    usage = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
    yield {**chunk, "choices": [], "usage": usage}


def _openai() -> Iterator[Json]:
    response = {"id": "resp_1", "object": "response", "created_at": 1, "model": "m", "output": []}
    part = {"type": "output_text", "text": SAID, "annotations": []}
    item = {"id": "item_1", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
    done = {**item, "status": "completed", "content": [part]}
    usage = {
        "input_tokens": 9,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 3,
        "output_tokens_details": {"reasoning_tokens": 0},
    }
    yield {"type": "response.created", "response": {**response, "status": "in_progress"}}
    yield {"type": "response.output_item.added", "output_index": 0, "item": item}
    yield {
        "type": "response.output_text.delta",
        "item_id": "item_1",
        "output_index": 0,
        "content_index": 0,
        "delta": SAID,
    }
    yield {"type": "response.output_item.done", "output_index": 0, "item": done}
    yield {"type": "response.completed", "response": {**response, "status": "completed", "usage": usage}}


def _google() -> Iterator[Json]:
    usage = {"promptTokenCount": 9, "candidatesTokenCount": 3, "totalTokenCount": 12}
    content = {"role": "model", "parts": [{"text": SAID}]}
    yield {"candidates": [{"index": 0, "content": content, "finishReason": "STOP"}], "usageMetadata": usage}


_SPOKEN: dict[str, Callable[[], Iterator[Json]]] = {
    "anthropic": _anthropic,
    "compatible": _compatible,
    "openai": _openai,
    "google": _google,
}


def _frames() -> Iterator[bytes]:
    """Yield the frames of an answer in AWS's event stream encoding."""
    usage = {"inputTokens": 9, "outputTokens": 3, "totalTokens": 12}
    yield _frame("messageStart", {"role": "assistant"})
    yield _frame("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": SAID}})
    yield _frame("contentBlockStop", {"contentBlockIndex": 0})
    yield _frame("messageStop", {"stopReason": "end_turn"})
    yield _frame("metadata", {"usage": usage, "metrics": {"latencyMs": 1}})


def _frame(event: str, payload: Json) -> bytes:
    told = {":event-type": event, ":content-type": "application/json", ":message-type": "event"}
    headers = b"".join(_header(name, value) for name, value in told.items())
    content = json.dumps(payload).encode()
    prelude = struct.pack(">II", 16 + len(headers) + len(content), len(headers))
    message = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + content
    return message + struct.pack(">I", zlib.crc32(message))


def _header(name: str, value: str) -> bytes:
    string = 7
    return bytes([len(name)]) + name.encode() + struct.pack(">BH", string, len(value)) + value.encode()
