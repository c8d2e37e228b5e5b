"""An agent of a few lines: asks the daemon where to go, sends a real request there, tells what came of it.

It does what the shim does inside OpenCode, so it also shows how to teach another agent to use the daemon.
"""

from __future__ import annotations

import http.client
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable

    from rlmd.client.connection import Client

HOPS = 4
"""How often a turn may be sent: more would be ping-pong."""
OK = 200


class StandIn:
    """An agent that would by itself use this provider and model.

    `connect` leads to the daemon, `url` to a provider; `wires` says who speaks `anthropic`, who `openai`.
    """

    requests_a_turn = 1

    def __init__(
        self,
        connect: Callable[[], Client],
        url: Callable[[str], str],
        wires: dict[str, str],
        provider: str,
        model: str,
    ) -> None:
        self._connect = connect
        self._url = url
        self._wires = wires
        self._own = {"provider": provider, "model": model}
        self._turns = 0

    def turn(self, prompt: str) -> str:
        """Have one prompt answered by whoever can, in a new session. Return the answer, or why there is none."""
        self._turns += 1
        asked = {**self._own, "session": f"demo-{self._turns}", "agent": "stand-in"}
        with self._connect() as daemon:
            daemon.request("acquire", purpose="turn", **asked)
            for _ in range(HOPS):
                place = daemon.request("acquire", **asked)
                if place["type"] != "use":
                    return str(place["message"])
                target = {name: place[name] for name in ("provider", "model", "lease")}
                status, headers, body = self._post(place["provider"], place["model"], prompt)
                if status == OK:
                    daemon.request("report", outcome="accepted", **target)
                    daemon.request("report", outcome="ok", status=status, headers=headers, **target)
                    return _text(body)
                seen = {"status": status, "headers": headers, "body": body}
                if "next" not in daemon.request("report", outcome="error", **seen, **target):
                    return f"{place['provider']} says {status}, and nobody else would do better"
        return "nobody could answer"

    def _post(self, provider: str, model: str, prompt: str) -> tuple[int, dict[str, str], str]:
        address = urlsplit(self._url(provider))
        path = f"{address.path}/{'messages' if self._wires[provider] == 'anthropic' else 'chat/completions'}"
        messages = [{"role": "user", "content": prompt}]
        body = json.dumps({"model": model, "messages": messages, "max_tokens": 100, "stream": True})
        connection = http.client.HTTPConnection(address.netloc, timeout=5)
        try:
            connection.request("POST", path, body, {"content-type": "application/json"})
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read().decode()
        finally:
            connection.close()


def _text(stream: str) -> str:
    """Return the text in a stream of events of either wire."""
    events = [line.removeprefix("data: ") for line in stream.splitlines() if line.startswith("data: {")]
    return "".join(piece for event in events for piece in _pieces(json.loads(event)))


def _pieces(event: dict[str, Any]) -> list[str]:
    anthropic = event["delta"].get("text", "") if event.get("type") == "content_block_delta" else ""
    return [anthropic, *(choice["delta"].get("content") or "" for choice in event.get("choices", ()))]
