"""What is coming: said only where it is known, and what switching has gained."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rlmctl.insight.forecast import coming, gained

NOON = datetime(2026, 1, 12, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def local_time_is_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def limit(
    used: float, *, per: Any = "1h", window: Any = "calendar", minutes: float = 30, **more: Any
) -> dict[str, Any]:
    """A limit of 100 that resets so many minutes from noon."""
    resets = (NOON + timedelta(minutes=minutes)).isoformat()
    return {
        "per": per,
        "window": window,
        "of": "requests",
        "max": 100,
        "used": used,
        "reserved": 0,
        "resets_at": resets,
        **more,
    }


def told(*limits: dict[str, Any], until: str | None = None, others: tuple[Any, ...] = ()) -> list[str]:
    able = {"id": "a", "available": until is None, "until": until, "limits": list(limits)}
    return list(coming({"providers": [able, *others], "current_provider": "a"}, NOON))


@pytest.mark.parametrize(
    ("a", "sentence"),
    [
        (limit(60), "At this pace a lasts until about 12:20."),  # 2 a minute
        (limit(80), "At this pace a lasts until about 12:07."),
        (limit(60, reserved=20), "At this pace a lasts until about 12:10."),
        (
            limit(50, per="1d", minutes=720),
            "At this pace a lasts beyond Tue 13 Jan 00:00, when its limit per d starts anew.",
        ),
        (limit(60, per="1d", minutes=720), "At this pace a lasts until about 20:00."),
        (limit(60, per="1w", minutes=5040), "At this pace a lasts until about Wed 14 Jan 20:00."),
        (limit(40, per="5h", window="first_use", minutes=240), "At this pace a lasts until about 13:30."),
        (limit(60, per="month", minutes=19 * 1440 + 720), "At this pace a lasts until about Tue 20 Jan 04:00."),
    ],
)
def test_who_lasts_until_when(a: dict[str, Any], sentence: str) -> None:
    assert told(a) == [sentence]


@pytest.mark.parametrize(
    "a",
    [
        limit(4),  # too little of it
        limit(60, minutes=58),  # too little of its hour
        limit(60, window="rolling"),
        limit(60, window=None, per=None),
        limit(60) | {"resets_at": None},
        limit(60, model="opus"),
    ],
)
def test_what_nobody_knows_is_not_said(a: dict[str, Any]) -> None:
    assert [sentence for sentence in told(a) if "until" in sentence] == []


def test_the_first_limit_to_be_used_up_counts() -> None:
    assert told(limit(60), limit(80)) == ["At this pace a lasts until about 12:07."]


def test_when_nobody_can_serve_it_says_who_is_back_first() -> None:
    late, soon = ((NOON + timedelta(hours=hours)).isoformat() for hours in (3, 2))
    other = {"id": "b", "available": False, "until": soon, "limits": []}
    assert told(limit(60), until=late, others=(other,)) == ["b is back at 14:00."]


@pytest.mark.parametrize(
    ("times", "minutes", "sentence"),
    [
        (0, 0, None),
        (1, 0.5, "Kept going once this week."),
        (14, 200, "Kept going 14 times this week; 3 h 20 min not waited."),
        (1400, 2, "Kept going 1,400 times this week; 2 min not waited."),
    ],
)
def test_what_switching_has_gained(times: int, minutes: float, sentence: str | None) -> None:
    assert gained({"kept_going": times, "not_waited_ms": minutes * 60_000}, "this week") == sentence


def test_a_daemon_that_tells_no_gains_is_no_reason_to_fail() -> None:
    assert gained({"type": "history", "rows": []}, "this week") is None
