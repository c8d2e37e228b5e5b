"""A file of JSON that holds the counters and is written anew for each request, as plugins inside an agent do."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

HOUR = 3600


class JsonFile:
    """The counters of two providers in this process; another one that writes the same file undoes what this counts."""

    def __init__(self, path: Path) -> None:
        self.path = path
        names = ("anthropic", "openrouter")
        self.providers: dict[str, dict[str, Any]] = {
            name: {
                "requestCount": {"hourly": 0, "daily": 0},
                "hourlyLimit": 10**8,
                "dailyLimit": 10**9,
                "lastReset": 0.0,
                "cooldownUntil": None,
                "errorCount": 0,
            }
            for name in names
        }

    def take(self) -> str:
        """Choose the first provider that has room, count the request there, write everything."""
        now = time.time()
        for name, provider in self.providers.items():
            if now - provider["lastReset"] > HOUR:
                provider["lastReset"], provider["requestCount"]["hourly"] = now, 0
            count = provider["requestCount"]
            rests = provider["cooldownUntil"] is not None and provider["cooldownUntil"] > now
            if not rests and count["hourly"] < provider["hourlyLimit"] and count["daily"] < provider["dailyLimit"]:
                count["hourly"] += 1
                count["daily"] += 1
                state = {"providers": self.providers, "currentProvider": name}
                self.path.write_text(json.dumps(state, indent=2), encoding="utf-8")
                return name
        raise RuntimeError("all limited")
