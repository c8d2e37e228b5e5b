"""Durations as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlmd.config import durations


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("8d", 691_200),
        ("2w", 1_209_600),
        ("150ms", 0.15),
        ("1.5h", 5400),
        ("0s", 0),
        (" 2m ", 120),
        ("1w1d1h1m1s1ms", 694_861.001),
    ],
)
def test_a_duration_in_seconds(text: str, seconds: float) -> None:
    assert durations.parse(text) == seconds


@pytest.mark.parametrize("text", ["", "-1s", "1y", "1e3s", "inf", "٣s", "0 hours", "1 houur", "m3n"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match=r'^is no number with a unit, such as "90s" or "1h30m"$'):
        durations.parse(text)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("90", "90s"),
        ("s", "1s"),
        ("hour", "1h"),
        ("1 hour", "1h"),
        ("2 Hours", "2h"),
        ("10min", "10m"),
        ("10 mins", "10m"),
        ("4 days and 2 hrs", "98h"),
        ("1h30", "90m"),
        ("1,5h", "90m"),
        ("1m1h", "61m"),
        ("1h1h", "2h"),
        ("500msec", "500ms"),
    ],
)
def test_a_duration_in_other_words_is_told_the_right_one(text: str, meant: str) -> None:
    with pytest.raises(ValueError, match=r"is no number with a unit \(did you mean") as caught:
        durations.parse(text)
    assert str(caught.value) == f'is no number with a unit (did you mean "{meant}"?)'
    assert durations.parse(meant) > 0


@pytest.mark.parametrize("text", ["36501d", "9" * 400 + "s"])
def test_a_hundred_years_are_the_longest(text: str) -> None:
    with pytest.raises(ValueError, match=r"^is more than a hundred years$"):
        durations.parse(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.15, "150ms"),
        (90, "90s"),
        (125, "2m5s"),
        (180, "3m"),
        (5400, "90m"),
        (9000, "2h30m"),
        (86_400, "1d"),
        (691_200, "8d"),
        (1_209_600, "2w"),
        (34_560_000, "400d"),
    ],
)
def test_a_duration_reads_short(seconds: float, text: str) -> None:
    assert durations.show(seconds) == text


@given(st.integers(0, int(durations.LONGEST * 1000)))
def test_what_is_shown_reads_back(milliseconds: int) -> None:
    assert durations.parse(durations.show(milliseconds / 1000)) == milliseconds / 1000


@given(st.integers(1, int(durations.LONGEST)))
def test_a_span_reads_back(seconds: int) -> None:
    assert durations.parse(durations.span(seconds)) == seconds


@pytest.mark.parametrize(
    ("text", "name"),
    [("60m", "1h"), ("24h", "1d"), ("7d", "1w"), ("3600s", "1h"), ("5h", "5h"), ("1h30m", "90m"), ("1000ms", "1s")],
)
def test_one_length_has_one_name(text: str, name: str) -> None:
    assert durations.span(durations.parse(text)) == name


@pytest.mark.parametrize("text", ["0s", "500ms", "1500ms"])
def test_a_span_is_whole_seconds(text: str) -> None:
    with pytest.raises(ValueError, match=r"^is no whole number of seconds$"):
        durations.span(durations.parse(text))
