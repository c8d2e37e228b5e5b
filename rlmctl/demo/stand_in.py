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
    """One session of an agent that would use `provider` and `model` by itself.

    `url` gives the base address of a provider; the models' names decide nothing here, the wire does.
    """

    def __init__(self, daemon: Client, url: Callable[[str], str], wires: dict[str, str]) -> None:
        self._daemon = daemon
        self._url = url
        self._wires = wires
        self._turns = 0

    def turn(self, prompt: str, provider: str, model: str) -> str:
        """Have one prompt answered, by whoever can. Returns the answer, or why there is none."""
        self._turns += 1
        session = {"session": "demo"}
        place = self._daemon.request("acquire", provider=provider, model=model, purpose="turn", **session)
        for _ in range(HOPS):
            place = self._daemon.request("acquire", provider=place["provider"], model=place["model"], **session)
            if place["type"] != "use":
                return str(place["message"])
            target = {"provider": place["provider"], "model": place["model"], "lease": place["lease"], **session}
            status, headers, body = self._post(place["provider"], place["model"], prompt)
            if status == OK:
                self._daemon.request("report", outcome="accepted", **target)
                self._daemon.request("report", outcome="ok", status=status, headers=headers, **target)
                return _text(body)
            report = {"outcome": "error", "status": status, "headers": headers, "body": body}
            recorded = self._daemon.request("report", **report, **target)
            place = recorded.get("next", place)
        return "nobody could answer"
