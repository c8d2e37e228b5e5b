"""history: drawn over time in the terminal, as numbers for scripts."""

from __future__ import annotations

import io
import json
import re
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from ctl.person import MODEL
from rlmctl.insight.rests import Rest, rests
from rlmctl.show.history_chart import picture

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ctl.person import Daemon

NOON = datetime(2026, 1, 12, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def local_time_is_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def hour(at: int, requests: int, provider: str = "a", **errors: int) -> dict[str, Any]:
    """What a provider did in an hour of the day."""
    stamp = (NOON + timedelta(hours=at - 12)).isoformat()
    amounts = {"requests": requests, "tokens": requests * 1000, "cost": requests / 100, "switches": 0}
    return {"at": stamp, "provider": provider, "model": "m", "errors": errors, **amounts}


def drawn(*rows: dict[str, Any], hours: int = 8, width: int = 48, told: list[Rest] | None = None) -> list[str]:
    """The lines of a chart of the hours before noon."""
    screen = Console(file=io.StringIO(), width=width, color_system=None)
    since = NOON - timedelta(hours=hours)
    screen.print(picture({"bucket": "hour", "rows": list(rows)}, told or [], since, NOON, screen))
    assert isinstance(screen.file, io.StringIO)
    return [line.rstrip() for line in screen.file.getvalue().splitlines()]


def test_a_chart_for_each_provider_on_one_scale() -> None:
    lines = drawn(hour(4, 8), hour(6, 32, throttle=2), hour(11, 16), hour(6, 4, "b"), hour(7, 2, "b"))
    assert lines[:12] == [
        "a  56 requests, at most 32 in an hour",
        "            █████",
        "            █████",
        "            █████                         █████",
        "█████       █████                         █████",
        "────────────────────────────────────────────────",
        "            \N{MULTIPLICATION SIGN}",
        "",
        "b  6 requests, at most 4 in an hour",
        "            ▄▄▄▄▄ ▂▂▂▂▂",
        "────────────────────────────────────────────────",
        "",
    ]
    assert lines[12] == "04:00       06:00       08:00       10:00"


def test_an_hour_begins_at_the_full_one_of_the_local_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    half_past = [row | {"at": row["at"].replace(":00:00", ":30:00")} for row in (hour(4, 8), hour(6, 32))]
    lines = drawn(*half_past)
    assert lines[0] == "a  40 requests, at most 32 in an hour"
    assert lines[7] == "09:00          12:00          15:00"


def test_where_it_rested_the_line_is_heavy() -> None:
    told = [Rest("a", None, NOON - timedelta(hours=7, minutes=30), NOON - timedelta(hours=6, seconds=1), "")]
    lines = drawn(hour(4, 1), hour(4, 1, "b"), told=told)
    line_of_a, line_of_b = (line for line in lines if line.startswith("──"))
    assert line_of_a == "───━━━━━━━━━" + "─" * 36
    assert line_of_b == "─" * 48


def test_more_hours_than_there_are_columns_share_them() -> None:
    lines = drawn(hour(-132, 3), hour(-131, 4), hour(11, 1), hours=144, width=48)
    assert lines[0] == "a  8 requests, at most 7 in 3 hours"
    assert lines[4] == "█" + " " * 46 + "▅"


def test_it_adds_up_what_it_shows() -> None:
    lines = drawn(hour(4, 8, throttle=1), hour(5, 2, quota=1, throttle=2), hour(5, 90, "b"), width=100)
    table = [line.split() for line in lines[-4:]]
    assert table[0] == ["provider", "model", "requests", "tokens", "cost", "switches", "errors"]
    assert table[1] == ["a", "m", "10", "10k", "$0.10", "0", "3", "throttle,", "1", "quota"]
    assert table[2] == ["b", "m", "90", "90k", "$0.90", "0", "none"]
    assert table[3][:3] == ["together", "100", "100k"]


def event(minute: int, kind: str, until: int | None = None, **facts: str) -> dict[str, Any]:
    at = NOON + timedelta(minutes=minute)
    ends = {} if until is None else {"until": (NOON + timedelta(minutes=until)).isoformat()}
    return {"event": kind, "at": at.isoformat(), "message": "", **facts, **ends}


A: dict[str, Any] = {"provider": "a"}
AM: dict[str, Any] = {"provider": "a", "model": "m"}


@pytest.mark.parametrize(
    ("told", "found"),
    [
        ([event(0, "exhausted", 30, **A)], [("a", 0, 30)]),
        ([event(0, "state", 30, **AM, reason="throttle")], [("a", 0, 30)]),
        ([event(0, "exhausted", 90, **A)], [("a", 0, 60)]),  # an hour has gone by: now
        ([event(0, "exhausted", 30, **A), event(10, "recovered", **A)], [("a", 0, 10)]),
        ([event(0, "state", 30, **AM), event(10, "state", **AM, reason="closed")], [("a", 0, 10)]),
        ([event(0, "exhausted", 30, **A), event(10, "reset")], [("a", 0, 10)]),
        ([event(0, "exhausted", 30, **A), event(10, "recovered", provider="b")], [("a", 0, 30)]),
        ([event(0, "state", 30, **AM), event(10, "recovered", provider="a", model="n")], [("a", 0, 30)]),
        ([event(0, "state", 20, **AM), event(10, "state", 40, **AM)], [("a", 0, 40)]),
        ([event(0, "state", 20, **AM), event(30, "state", 40, **AM)], [("a", 0, 20), ("a", 30, 40)]),
        ([event(0, "warning", 30, **A), event(1, "state", **A), event(2, "all_limited", 30, model="m")], []),
    ],
)
def test_rests_as_the_log_tells_them(told: list[dict[str, Any]], found: list[tuple[str, int, int]]) -> None:
    minutes = [
        (rest.provider, (rest.since - NOON) / timedelta(minutes=1), (rest.until - NOON) / timedelta(minutes=1))
        for rest in rests(told, NOON + timedelta(hours=1))
    ]
    assert minutes == found


def test_history_says_what_was_used_by_whom(limited: Daemon) -> None:
    run = limited.ctl("history", "--by", "hour")
    assert (run.returncode, run.stderr) == (0, "")
    assert re.search(rf"^anthropic +{MODEL} +1 .* 1 throttle *$", run.stdout, re.MULTILINE)
    rows = json.loads(limited.ctl("history", "--by", "hour", "--json").stdout)["rows"]
    told = [(row["provider"], row["model"], row["requests"], row["errors"]) for row in rows]
    assert told == [("anthropic", MODEL, 1, {"throttle": 1})]
    assert limited.ctl("history", "--provider", "openrouter").stdout == "nothing in the last 7d\n"


def test_history_of_no_time_at_all_is_wrong_usage(limited: Daemon) -> None:
    run = limited.ctl("history", "--since", "soon")
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith('rlmctl: "soon" ')
    assert run.stderr.endswith("  mend: rlmctl history --since 7d\n")
