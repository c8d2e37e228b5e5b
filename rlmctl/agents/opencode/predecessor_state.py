"""The state in the form of the plugin that this project replaces, out and in: `.opencode/rate-limit-state.json`."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, NamedTuple

HOUR = 3600.0
SPANS = {"hourly_limit": "1h", "daily_limit": "1d"}
MILLISECONDS_FROM = 10**11
"""A number of seconds is smaller for three thousand years to come, one of milliseconds since 1973 is not."""


class Reading(NamedTuple):
    """What of the file can be taken over, and sentences on the rest."""

    providers: list[dict[str, Any]]
    current: str | None
    left: list[str]


def written(status: dict[str, Any]) -> dict[str, Any]:
    """Write a status reply in that form."""
    return {
        "providers": {
            provider["id"]: {
                "requestCount": provider["request_count"],
                "hourlyLimit": _ours(provider, "1h"),
                "dailyLimit": _ours(provider, "1d"),
                "cooldownUntil": provider["until"],
                "isAvailable": provider["available"],
                "errorCount": provider["error_count"],
            }
            for provider in status["providers"]
        },
        "currentProvider": status["current_provider"],
        "modelMapping": status["model_mapping"],
    }


def read(document: dict[str, Any], age: float) -> Reading:
    """Read counts and cooldowns. The file says of no hour: one that was written `age` > 1 h ago counts for none."""
    providers: list[dict[str, Any]] = []
    left: list[str] = []
    stale = age > HOUR
    for name, state in document["providers"].items():
        if not isinstance(state, dict):
            left.append(f"{name}: {state!r:.40} is no provider's state")
            continue
        counts = {"requests": _count(state, "requestCount"), "errors": _count(state, "errorCount")}
        if stale and any(counts.values()):
            left.append(f"{name}: its counts are of an hour that is over: the file is {age / HOUR:,.0f} h old")
            counts = {}
        until = _moment(state.get("cooldownUntil"))
        if until is None and state.get("cooldownUntil") is not None:
            left.append(f"{name}: cooldownUntil {state['cooldownUntil']!r:.40} is no time")
        if until is None and state.get("isAvailable") is False:
            left.append(f"{name}: it is not available, but no cooldown says until when; rlmctl disable {name}")
        providers.append({"provider": name, **counts, **({"until": until.isoformat()} if until else {})})
    current = document.get("currentProvider")
    return Reading(providers, current if isinstance(current, str) else None, left)


def limits(document: dict[str, Any], status: dict[str, Any]) -> tuple[str, list[str]]:
    """Write the limits that the configuration has not as TOML; say which models it serves otherwise."""
    known = {provider["id"]: provider for provider in status["providers"]}
    mapping = document.get("modelMapping")
    mapping = mapping if isinstance(mapping, dict) else {}
    blocks: list[str] = []
    for name, state in document["providers"].items():
        theirs = _limits(state)
        if name not in known:
            models = [model for model, serving in mapping.items() if isinstance(serving, list) and name in serving]
            unnamed = "" if models else "  # name them here"
            blocks.append(
                f"\n[[provider]]\nid = {json.dumps(name)}\nmodels = {json.dumps(models)}{unnamed}\n"
                + "".join(f"{key} = {value}\n" for key, value in theirs.items())
            )
        elif changed := {key: value for key, value in theirs.items() if value != _ours(known[name], SPANS[key])}:
            lines = "".join(f"{key} = {value}\n" for key, value in changed.items())
            blocks.append(f"\n# below id = {json.dumps(name)}, in the place of those there:\n{lines}")
    left = [] if not mapping or mapping == status["model_mapping"] else ["modelMapping: the configuration has its own"]
    return "".join(blocks), left


def _count(state: dict[str, Any], name: str) -> int:
    value = state.get(name)
    return int(value) if isinstance(value, int | float) and value > 0 else 0


def _moment(value: object) -> datetime | None:
    """Read a time as that plugin may have written it: epoch milliseconds, or a date as text."""
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value / 1000 if value >= MILLISECONDS_FROM else value, UTC)
        if isinstance(value, str):
            moment = datetime.fromisoformat(value)
            return moment if moment.tzinfo else moment.astimezone()
    except (ValueError, OverflowError, OSError):
        pass
    return None


def _limits(state: Any) -> dict[str, int]:
    if not isinstance(state, dict):
        return {}
    found = {"hourly_limit": _count(state, "hourlyLimit"), "daily_limit": _count(state, "dailyLimit")}
    return {key: value for key, value in found.items() if value}


def _ours(provider: dict[str, Any], per: str) -> float | None:
    wanted = {"of": "requests", "per": per, "source": "config"}
    for limit in provider["limits"]:
        if "model" not in limit and wanted.items() <= limit.items():
            maximum: float = limit["max"]
            return maximum
    return None
