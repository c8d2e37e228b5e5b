"""An agent of fifty lines: asks the daemon where to go, sends a real request there, tells what came of it.

It does what the shim does inside OpenCode, so it also shows how to teach another agent to use the daemon.
"""

from __future__ import annotations

import http.client
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable

    from rlmctl.client import Client

HOPS = 4
"""How often a turn may be sent on: more would be ping-pong."""
OK = 200


class StandIn:
    """One session of an agent that would by itself use this provider and model.

    `url` is the base address of a provider; `wires` says which of them speak `anthropic`, which `openai`.
    """

    def __init__(self, daemon: Client, url: Callable[[str], str], wires: dict[str, str]) -> None:
        self._daemon = daemon
        self._url = url
        self._wires = wires

    def turn(self, prompt: str, provider: str, model: str) -> str:
        """Have one prompt answered by whoever can. Return the answer, or why there is none."""
        place = self._ask(provider, model, purpose="turn")
        for _ in range(HOPS):
            if place["type"] == "use":
                place = self._ask(place["provider"], place["model"])
            if place["type"] != "use":
                return str(place["message"])
            target = {name: place[name] for name in ("provider", "model", "lease")}
            status, headers, body = self._post(place["provider"], place["model"], prompt)
            if status == OK:
                self._daemon.request("report", outcome="accepted", **target)
                self._daemon.request("report", outcome="ok", status=status, headers=headers, **target)
                return _text(body)
            error = {"outcome": "error", "status": status, "headers": headers, "body": body}
            place = self._daemon.request("report", **error, **target).get("next", place)
        return "nobody could answer"

    def _ask(self, provider: str, model: str, purpose: str = "step") -> dict[str, Any]:
        return self._daemon.request(
            "acquire", provider=provider, model=model, purpose=purpose, session="demo", agent="stand-in"
        )

    def _post(self, provider: str, model: str, prompt: str) -> tuple[int, dict[str, str], str]:
        messages = [{"role": "user", "content": prompt}]
        anthropic = self._wires[provider] == "anthropic"
        address = urlsplit(self._url(provider))
        path = f"{address.path}/{'messages' if anthropic else 'chat/completions'}"
        body = {"model": model, "messages": messages, "max_tokens": 100, "stream": True}
        connection = http.client.HTTPConnection(address.netloc, timeout=5)
        try:
            connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read().decode()
        finally:
            connection.close()


def _text(stream: str) -> str:
    """Return the text in a stream of events of either wire."""
    text = ""
    for line in stream.splitlines():
        event = line.removeprefix("data: ")
        if event == line or event == "[DONE]":
            continue
        piece = json.loads(event)
        text += piece.get("delta", {}).get("text", "")
        for choice in piece.get("choices", ()):
            text += choice["delta"].get("content", "")
    return text
