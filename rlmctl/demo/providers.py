"""Language model providers on the loopback interface, for the demo and the tests: no key, no network, no cost.

They speak both wire formats that matter, Anthropic's messages and OpenAI's chat completions, with the real
status codes, header names, error bodies and event streams; what they answer is made up. Each provider does what
its `behave` says. Owns nothing beyond its own port, which is one of 127.0.0.1 and chosen by the system.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections import deque
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Self

Wire = Literal["anthropic", "openai"]
Json = dict[str, Any]

HANG = 60.0
"""Seconds that `hang` stays silent, unless the providers are closed before."""
TOKENS_IN, TOKENS_OUT = 100, 20
"""What every answer costs."""
TITLE = re.compile("Generate a title|You are a title generator")
"""How OpenCode 1.x begins the request for a session's title, and 2.x."""
SUMMARY = "## Objective"
"""What OpenCode 2.x wants in the summary of a long session."""
INTERRUPTED = "The previous response was interrupted"
"""What OpenCode 2.x says by itself, to a model that is to go on."""
LOOK_ALIKE = "rate limit exceeded 429"
"""What an answer may say that is no error."""
SIGNATURE = re.compile(r'"signature": "([^"]*)"')


class Refusal(NamedTuple):
    """An error as a status code, with its name on either wire."""

    status: int
    anthropic: str
    openai: str
    message: str


REFUSALS = {
    "400": Refusal(400, "invalid_request_error", "invalid_request_error", "tools.0.quota: this field is not known"),
    "400-long": Refusal(
        400, "invalid_request_error", "context_length_exceeded", "prompt is too long: 429000 tokens > 200000 maximum"
    ),
    "401": Refusal(401, "authentication_error", "invalid_api_key", "The key is not valid: no usage limit applies"),
    "401-money": Refusal(401, "CreditsError", "insufficient_quota", "Insufficient balance. Manage your billing"),
    "402": Refusal(402, "billing_error", "insufficient_quota", "Your credit balance is too low"),
    "403": Refusal(403, "permission_error", "permission_denied", "You may not change a quota"),
    "403-money": Refusal(403, "permission_error", "insufficient_user_quota", "Key limit exceeded (monthly limit)"),
    "413": Refusal(413, "request_too_large", "request_too_large", "Request exceeds the maximum size"),
    "429": Refusal(429, "rate_limit_error", "rate_limit_exceeded", "This request would exceed your rate limit"),
    "500": Refusal(500, "api_error", "server_error", "Internal server error"),
    "503": Refusal(503, "overloaded_error", "service_unavailable", "Service unavailable"),
    "529": Refusal(529, "overloaded_error", "server_overloaded", "Overloaded"),
}


class Request(NamedTuple):
    """One request that came in, without what it said."""

    provider: str
    wire: Wire
    model: str
    title: bool
    """It asks for the title of a session, not for an answer."""
    behaviour: str
    key: str
    headers: dict[str, str]
    roles: tuple[str, ...]
    results: list[str]
    """Of the tools that ran since the newest prompt."""
    signatures: list[str]
    """Of thoughts in earlier answers: a provider takes only its own."""
    at: float
    """Epoch seconds."""


class Answer(NamedTuple):
    """What a provider says: text, or one call of a tool."""

    text: str
    tool: str | None = None
    arguments: Json | None = None
    signature: str | None = None
    """Of a thought that goes before the text, on the Anthropic wire."""


class Providers:
    """The providers while a `with` block lasts. `requests` lists what reached them, oldest first.

    Any id is a provider as soon as it is asked, at `url(id)`; the path behind that decides its wire format.
    Those that had a `port` before can be had there again.
    """

    def __init__(self, port: int = 0) -> None:
        self.requests: list[Request] = []
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._next: dict[str, deque[str]] = {}
        self._always: dict[str, str] = {}
        self._server = _Server(self, port)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def port(self) -> int:
        """Where they listen."""
        return self._server.server_port

    def url(self, provider: str) -> str:
        """Return the base address of a provider, as an agent's configuration wants it."""
        return f"http://127.0.0.1:{self.port}/{provider}/v1"

    def behave(self, provider: str, how: str | Sequence[str]) -> None:
        """Decide how a provider treats its requests: a list is for the next ones, titles apart; one word for all.

        `ok` | `slow:SECONDS` before the end of the answer | `429`, `429:SECONDS` until a retry | any other name of
        `REFUSALS` | `hang` | `refuse`: the connection is closed without a word | `mute`: status 200, then nothing |
        `first:NAME`: status 200, then this refusal as an event | `mid:NAME`: some text, then this refusal as an event |
        `late:NAME`: all but the end of the answer, then this refusal as an event | `cut`: some text, then the
        connection is closed. After the list it is `ok` again.
        """
        with self._lock:
            self._next[provider] = deque() if isinstance(how, str) else deque(how)
            self._always[provider] = how if isinstance(how, str) else "ok"

    def behaviour(self, provider: str, *, title: bool) -> str:
        """Take what the next request of a provider meets."""
        with self._lock:
            waiting = self._next.get(provider)
            return waiting.popleft() if waiting and not title else self._always.get(provider, "ok")

    def note(self, request: Request) -> None:
        """Remember a request."""
        with self._lock:
            self.requests.append(request)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, providers: Providers, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.providers = providers

    def handle_error(self, *_: object) -> None:  # type: ignore[explicit-override]  # typing.override is 3.12's
        """Say nothing: an agent that hangs up in the middle of an answer is no error here."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:  # type: ignore[explicit-override]  # typing.override is 3.12's
        """Write no access log."""

    def do_POST(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        body: Json = json.loads(self.rfile.read(length) or b"{}")
        provider = self.path.split("/")[1]
        wire: Wire = "anthropic" if self.path.endswith("/messages") else "openai"
        messages: list[Json] = body.get("messages", [])
        title = bool(TITLE.search(json.dumps([body.get("system"), messages[:2]])))
        behaviour = self.server.providers.behaviour(provider, title=title)
        headers = {name.lower(): value for name, value in self.headers.items()}
        key = headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")
        roles = tuple(str(message.get("role")) for message in messages)
        signatures = SIGNATURE.findall(json.dumps(messages))
        model = str(body.get("model"))
        self.server.providers.note(
            Request(
                provider,
                wire,
                model,
                title,
                behaviour,
                key,
                headers,
                roles,
                _results(messages),
                signatures,
                time.time(),
            )
        )
        answer = Answer("A title") if title else _answer(provider, model, body)
        self._respond(wire, behaviour, model, answer, streamed=bool(body.get("stream")))

    def _respond(self, wire: Wire, behaviour: str, model: str, answer: Answer, *, streamed: bool) -> None:
        name, _, wait = behaviour.partition(":")
        if name in {"hang", "refuse"}:
            self.server.providers.closing.wait(HANG if name == "hang" else 0)
            self.close_connection = True
        elif name == "mute":
            self._begin_events(wire)
            self.server.providers.closing.wait(HANG)
        elif name in REFUSALS:
            self._send_json(REFUSALS[name].status, _error(wire, REFUSALS[name]), _limit_headers(wire, 0, wait))
        elif name == "first":
            self._send_events(wire, [_error(wire, REFUSALS[wait])])
        elif name == "late":
            *said, _, _ = _events(wire, model, answer)
            self._send_events(wire, [*said, _error(wire, REFUSALS[wait])], pause=0.5)
        elif name in {"mid", "cut"}:
            text = answer._replace(text=answer.text or "Let me", tool=None)
            last = [_error(wire, REFUSALS[wait])] if name == "mid" else []
            self._send_events(wire, [*_begun(wire, model, text), *last], pause=0.1, ends=name == "mid")
        elif streamed:
            self._send_events(wire, _events(wire, model, answer), float(wait or 0))
        else:
            self._send_json(200, _whole(wire, model, answer), _limit_headers(wire, 999, "60"))

    def _send_json(self, status: int, body: Json, headers: dict[str, str]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"content-type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _send_events(self, wire: Wire, events: Iterable[Json], pause: float = 0, *, ends: bool = True) -> None:
        """Send a stream of events, with a pause before the last; one that never `ends` promises more than it sends."""
        self._begin_events(wire, ends=ends)
        *earlier, last = events
        for event in earlier:
            self._send_event(wire, event)
        self.server.providers.closing.wait(pause)
        self._send_event(wire, last)
        if wire == "openai" and ends:
            self.wfile.write(b"data: [DONE]\n\n")

    def _begin_events(self, wire: Wire, *, ends: bool = True) -> None:
        self.close_connection = True
        self.send_response(200)
        for name, value in {"content-type": "text/event-stream", **_limit_headers(wire, 999, "60")}.items():
            self.send_header(name, value)
        self.send_header("connection", "close")
        if not ends:
            self.send_header("content-length", "1000000")
        self.end_headers()

    def _send_event(self, wire: Wire, event: Json) -> None:
        head = f"event: {event['type']}\n" if wire == "anthropic" else ""
        self.wfile.write(f"{head}data: {json.dumps(event)}\n\n".encode())
        self.wfile.flush()


def _answer(provider: str, model: str, body: Json) -> Answer:
    """Answer the newest prompt.

    USE_TOOL in it wants one step of work, USE_TOOL2 two, USE_TASK a sub-agent, THINK a thought before the text; what
    only looks like a limit is said again.
    """
    messages: list[Json] = body.get("messages", [])
    prompt = json.dumps(messages[_newest(messages) :][:1])
    results = len(_results(messages))
    tools = {tool.get("name") or tool.get("function", {}).get("name") for tool in body.get("tools") or []}
    steps = 2 if "USE_TOOL2" in prompt else 1 if "USE_TOOL" in prompt else 0
    command = f"echo step{results + 1} >> steps.txt; cat steps.txt"
    if SUMMARY in prompt:
        return Answer(f"{SUMMARY}\n- summed up by {provider}")
    if "bash" in tools and results < steps:
        return Answer("", "bash", {"command": command, "description": "one step of work"})
    if "shell" in tools and results < steps:  # so it is called in OpenCode 2.x
        return Answer("", "shell", {"command": command})
    if "USE_TASK" in prompt and not results:
        task = {"description": "a part of the work", "prompt": "say hello"}
        if "task" in tools:
            return Answer("", "task", {**task, "subagent_type": "general"})
        if "subagent" in tools:
            return Answer("", "subagent", {**task, "agent": "general"})
    signature = f"signed by {provider}" if "THINK" in prompt else None
    said = f"Hello from {provider}, model {model}, after {results} results"
    return Answer(f"{said}: {LOOK_ALIKE}" if LOOK_ALIKE in prompt else said, signature=signature)


def _newest(messages: list[Json]) -> int:
    return max((at for at, message in enumerate(messages) if _is_prompt(message)), default=0)


def _results(messages: list[Json]) -> list[str]:
    """Return what the tools said since the newest prompt, on either wire."""
    told: list[Any] = []
    for message in messages[_newest(messages) + 1 :]:
        if message.get("role") == "tool":
            told.append(message["content"])
        elif message.get("role") == "user" and not isinstance(message["content"], str):
            told += [block["content"] for block in message["content"] if block.get("type") == "tool_result"]
    return [content if isinstance(content, str) else content[0]["text"] for content in told]


def _is_prompt(message: Json) -> bool:
    content = json.dumps(message.get("content"))
    return message.get("role") == "user" and '"tool_result"' not in content and INTERRUPTED not in content


def _error(wire: Wire, refusal: Refusal) -> Json:
    if wire == "anthropic":
        return {"type": "error", "error": {"type": refusal.anthropic, "message": refusal.message}}
    return {"error": {"message": refusal.message, "type": refusal.openai, "param": None, "code": refusal.openai}}


def _limit_headers(wire: Wire, remaining: int, wait: str) -> dict[str, str]:
    """Return what a response says about the limit on requests; nothing where the provider gives no hint."""
    if not wait:
        return {}
    told = {} if remaining else {"retry-after": wait}
    if wire == "openai":
        prefix, reset = "x-ratelimit-{}-requests", f"{wait}s"
    else:
        at = datetime.now(UTC) + timedelta(seconds=float(wait))
        prefix, reset = "anthropic-ratelimit-requests-{}", at.isoformat(timespec="seconds").replace("+00:00", "Z")
    values = {"limit": "1000", "remaining": str(remaining), "reset": reset}
    return told | {prefix.format(name): value for name, value in values.items()}


def _begun(wire: Wire, model: str, answer: Answer) -> Iterator[Json]:
    """Yield the events of an answer up to its text."""
    for event in _events(wire, model, answer):
        yield event
        if answer.text in json.dumps(event):
            return


def _events(wire: Wire, model: str, answer: Answer) -> Iterator[Json]:
    """Yield the events of a streamed answer."""
    return _anthropic_events(model, answer) if wire == "anthropic" else _openai_events(model, answer)


def _anthropic_events(model: str, answer: Answer) -> Iterator[Json]:
    usage = {"input_tokens": TOKENS_IN, "output_tokens": 1}
    message = {"id": _new_id("msg"), "type": "message", "role": "assistant", "model": model, "content": []}
    yield {"type": "message_start", "message": {**message, "stop_reason": None, "usage": usage}}
    yield {"type": "ping"}
    blocks: list[tuple[Json, list[Json]]] = []
    if answer.signature:
        thought = [{"type": "thinking_delta", "thinking": "Hm."}]
        signature = [{"type": "signature_delta", "signature": answer.signature}]
        blocks.append(({"type": "thinking", "thinking": "", "signature": ""}, thought + signature))
    if answer.tool:
        call = {"type": "tool_use", "id": _new_id("toolu"), "name": answer.tool, "input": {}}
        blocks.append((call, [{"type": "input_json_delta", "partial_json": json.dumps(answer.arguments)}]))
    else:
        blocks.append(({"type": "text", "text": ""}, [{"type": "text_delta", "text": answer.text}]))
    for index, (block, deltas) in enumerate(blocks):
        yield {"type": "content_block_start", "index": index, "content_block": block}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    stop = {"stop_reason": "tool_use" if answer.tool else "end_turn", "stop_sequence": None}
    yield {"type": "message_delta", "delta": stop, "usage": {"output_tokens": TOKENS_OUT}}
    yield {"type": "message_stop"}


def _openai_events(model: str, answer: Answer) -> Iterator[Json]:
    common = {"id": _new_id("chatcmpl"), "object": "chat.completion.chunk", "created": int(time.time())}
    chunk = {**common, "model": model}
    said: Json = {"content": answer.text}
    if answer.tool:
        function = {"name": answer.tool, "arguments": json.dumps(answer.arguments)}
        said = {"tool_calls": [{"index": 0, "id": _new_id("call"), "type": "function", "function": function}]}
    finish = "tool_calls" if answer.tool else "stop"
    for delta, reason in (({"role": "assistant", "content": ""}, None), (said, None), ({}, finish)):
        yield {**chunk, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}
    yield {**chunk, "choices": [], "usage": _openai_usage()}


def _whole(wire: Wire, model: str, answer: Answer) -> Json:
    """Return an answer that is not streamed."""
    if wire == "anthropic":
        content = [{"type": "text", "text": answer.text}]
        message = {"id": _new_id("msg"), "type": "message", "role": "assistant", "model": model}
        usage = {"input_tokens": TOKENS_IN, "output_tokens": TOKENS_OUT}
        return {**message, "content": content, "stop_reason": "end_turn", "usage": usage}
    choice = {"index": 0, "message": {"role": "assistant", "content": answer.text}, "finish_reason": "stop"}
    completion = {"id": _new_id("chatcmpl"), "object": "chat.completion", "created": int(time.time())}
    return {**completion, "model": model, "choices": [choice], "usage": _openai_usage()}


def _openai_usage() -> Json:
    total = TOKENS_IN + TOKENS_OUT
    return {"prompt_tokens": TOKENS_IN, "completion_tokens": TOKENS_OUT, "total_tokens": total}


def _new_id(kind: str) -> str:
    return f"{kind}_{time.time_ns()}"
