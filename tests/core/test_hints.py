"""How long a provider said to wait, in every notation, and what its headers tell of its windows."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlmd.core.errors.failure import read
from rlmd.core.errors.headers import Reported, asked, read_windows
from rlmd.core.errors.notations import ahead, moment, span
from rlmd.core.model import DAY, HOUR

NOW = datetime.fromisoformat("2026-09-24T15:30:00Z").timestamp()
UNIFIED = "anthropic-ratelimit-unified"


def wait(headers: dict[str, str] | None = None, body: object = "", message: str = "") -> float | None:
    text = body if isinstance(body, str) else json.dumps(body)
    fault = read(429, headers or {}, text, message)
    assert fault is not None
    return asked(fault, NOW)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("20ms", 0.02),
        ("7.66s", 7.66),
        ("6m0s", 360),
        ("1h2m3s", 3723),
        ("5h19m54s", 19194),
        ("3h2m", 10920),
        ("19hr", 68400),
        ("3 days", 3 * DAY),
        ("1 minute 30 seconds", 90),
        ("2 hours and 5 minutes", 7500),
        ("1 week", 7 * DAY),
        ("1 month", 30 * DAY),
        ("250 milliseconds", 0.25),
        ("12:03:11", 43391),
        (" 2S ", 2),
        ("soon", None),
        ("5", None),
        ("-5s", None),
        ("5 models", None),
        ("", None),
        ("1s" * 40, None),
    ],
)
def test_a_span(text: str, seconds: float | None) -> None:
    assert span(text) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-09-24T15:31:00Z", 60),
        ("2026-09-24T15:31:00.250Z", 60.25),
        ("2026-09-24T15:31:00.123456789Z", 60.123456),
        ("2026-09-24T17:31:00+02:00", 60),
        ("2026-09-24T17:31:00+0200", 60),
        ("2026-09-24 15:31:00", 60),
        ("2026-09-24 at 15:31 UTC", 60),
        ("Thu, 24 Sep 2026 15:31:00 GMT", 60),
        ("Thursday, 24-Sep-26 15:31:00 GMT", 60),
        ("Thu Sep 24 15:31:00 2026", 60),
        ("Thu, 24 Foo 2026 15:31:00 GMT", None),
        ("Thu, 99 Sep 2026 15:31:00 GMT", None),
        ("2026-13-24T15:31:00Z", None),
        ("2026-09-24", None),
        ("tomorrow", None),
        ("x" * 100, None),
    ],
)
def test_a_date(text: str, seconds: float | None) -> None:
    when = moment(text)
    assert when == (None if seconds is None else pytest.approx(NOW + seconds))


def test_a_date_without_a_zone_is_where_it_is_said_to_be() -> None:
    assert moment("2026-09-24 23:31:00", 8 * HOUR) == NOW + 60
    assert moment("2026-09-24T15:31:00Z", 8 * HOUR) == NOW + 60


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (12, 12),
        ("12.5", 12.5),
        (NOW + 90, 90),
        (str(int(NOW) + 90), 90),
        ((NOW + 90) * 1000, 90),
        ("90s", 90),
        ("2026-09-24T15:31:30Z", 90),
        (0, None),
        ("0", None),
        (-3, None),
        (NOW - 1, None),
        ("2026-09-24T15:29:00Z", None),
        (366 * DAY, 366 * DAY),
        ("99999999", None),
        ("9999-12-31T23:59:59Z", None),
        (str(int(NOW + 90) * 10**6), None),
        (str(int(NOW + 90) * 10**9), None),
        ("52w9d", None),
        ("1e306", None),
        ("nan", None),
        (float("inf"), None),
        ("1e999", None),
        (True, None),
        (None, None),
        ([], None),
        ("", None),
    ],
)
def test_what_lies_ahead(value: object, seconds: float | None) -> None:
    assert ahead(value, NOW) == (None if seconds is None else pytest.approx(seconds))


# Each source by itself.


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "37"}, 37),
        ({"Retry-After": "1.5"}, 1.5),
        ({"retry-after": "Thu, 24 Sep 2026 15:31:30 GMT"}, 90),
        ({"retry-after-ms": "20"}, 0.02),
        ({"x-ratelimit-user-retry-after": "465000"}, 465000),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "0"}, None),
        ({"retry-after-ms": "-20"}, None),
        ({"retry-after-ms": "x"}, None),
        ({"retry-after-ms": "1e306"}, None),
        ({"x-ratelimit-remaining-characters": "0", "x-ratelimit-reset-characters": "50"}, 50),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "41.724s"}, 41.724),
        ({"x-ratelimit-remaining-tokens": "5", "x-ratelimit-reset-tokens": "41.724s"}, None),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "120ms"}, 0.12),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(NOW) + 100)}, 100),
        ({"X-Rate-Limit-Remaining": "0", "X-Rate-Limit-Reset": "7"}, 7),
        ({"ratelimit-limit": "100", "ratelimit-remaining": "0", "ratelimit-reset": "50"}, 50),
        ({"helicone-ratelimit-remaining": "0", "helicone-ratelimit-reset": "1260"}, 1260),
        (
            {
                "anthropic-ratelimit-input-tokens-remaining": "0",
                "anthropic-ratelimit-input-tokens-reset": "2026-09-24T15:30:37Z",
            },
            37,
        ),
        ({"ratelimit": '"default";r=0;t=50'}, 50),
        ({"ratelimit": '"a";r=5;t=9, "b"; r=0; t=30'}, 30),
        ({"ratelimit": "limit=100, remaining=0, reset=50"}, 50),
        ({"ratelimit": "limit=100, remaining=3, reset=50"}, None),
        ({"ratelimit": "nonsense"}, None),
        ({"x-codex-primary-used-percent": "100", "x-codex-primary-reset-after-seconds": "600"}, 600),
        ({"x-codex-primary-used-percent": "100", "x-codex-primary-reset-at": str(int(NOW) + 600)}, 600),
        ({"x-codex-spark-primary-used-percent": "100", "x-codex-spark-primary-reset-after-seconds": "6"}, 6),
        ({"x-codex-primary-used-percent": "99", "x-codex-primary-reset-after-seconds": "600"}, None),
        ({"x-codex-primary-used-percent": "", "x-codex-primary-reset-after-seconds": "600"}, None),
        ({"x-usage-ratelimit-session": "ent=0&rem=0&rst=2026-09-24T15%3A31%3A30Z"}, 90),
        ({"x-usage-ratelimit-session": "&" * 999}, None),
    ],
)
def test_a_wait_in_the_headers(headers: dict[str, str], seconds: float | None) -> None:
    assert wait(headers) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        ({"error": {"resets_at": NOW + 5238}}, 5238),
        ({"error": {"resets_at": "2026-09-24T18:00:00Z"}}, 9000),
        ({"error": {"resets_in_seconds": 90}}, 90),
        ({"error": {"metadata": {"headers": {"X-RateLimit-Reset": str(int(NOW + 60) * 1000)}}}}, 60),
        ({"error": {"details": [{"retryDelay": "34.07s"}]}}, 34.07),
        ({"error": {"details": [{"metadata": {"quotaResetDelay": "479.417207ms"}}]}}, 0.479417207),
        ({"error": {"resets_at": NOW - 5}}, None),
        ({"error": {"resets_at": float("nan"), "resets_in_seconds": -3}}, None),
        ({"error": {"resets_at": None, "retry_after": 8}}, 8),
        ({"error": {"message": "Please try again in 9m38.016s. Need more?"}}, 578.016),
        ({"error": {"message": "Please try again in 3h2m"}}, 10920),
        ({"error": {"message": "Please retry after 86400 seconds."}}, 86400),
        ({"error": {"message": "Your quota will reset after 5h19m54s."}}, 19194),
        ({"error": {"message": "Resets in 19hr"}}, 68400),
        ({"error": {"message": "Please wait 12 hours"}}, 43200),
        ({"error": {"message": "please try again after 1 seconds"}}, 1),
        ({"error": {"message": "Your quota will reset after 0s."}}, None),
        ({"error": {"message": "Limits reset every 5 hours"}}, None),
        ({"error": {"message": "You will regain access on 2026-10-01 at 00:00 UTC."}}, 549000),
        ({"error": {"message": "It will reset at 2026-09-24 15:31:30"}}, 90),
        ({"error": {"code": "1310", "message": "Your limit will reset at 2026-09-27 12:05:49"}}, 218149),
        ({"error": {"message": "It did reset at 2026-09-24 15:29:30"}}, None),
        ("Rate limit is exceeded. Try again in 2 seconds.", 2),
    ],
)
def test_a_wait_in_the_body(body: object, seconds: float | None) -> None:
    assert wait(body=body) == (None if seconds is None else pytest.approx(seconds))


def test_a_wait_in_the_message() -> None:
    assert wait(message="429 Rate limit reached, try again in 20s") == 20


def test_a_wait_in_the_headers_that_the_body_carries() -> None:
    frame = {"error": {"type": "x"}, "headers": {"Retry-After": "77"}}
    assert wait(body=frame) == 77
    assert wait({"retry-after": "5"}, frame) == 5


# Plan windows.


def test_of_the_plan_windows_marked_rejected_the_latest_counts() -> None:
    headers = {
        f"{UNIFIED}-status": "rejected",
        f"{UNIFIED}-reset": str(NOW + 10),
        f"{UNIFIED}-5h-status": "rejected",
        f"{UNIFIED}-5h-reset": str(NOW + 100),
        f"{UNIFIED}-7d-status": "rejected",
        f"{UNIFIED}-7d-reset": str(NOW + 900),
        f"{UNIFIED}-7d_opus-status": "allowed",
        f"{UNIFIED}-7d_opus-reset": str(NOW + 5000),
        f"{UNIFIED}-overage-status": "rejected",
        f"{UNIFIED}-overage-reset": str(NOW + 9000),
        "retry-after": "3",
    }
    assert wait(headers) == 900


def test_the_plans_own_reset_counts_where_no_window_is_named() -> None:
    headers = {f"{UNIFIED}-status": "rejected", f"{UNIFIED}-reset": str(NOW + 60)}
    assert wait(headers) == 60
    assert wait({**headers, f"{UNIFIED}-status": "allowed"}) is None


# The order of the sources.

ORDER: list[tuple[dict[str, str], dict[str, Any]]] = [
    ({f"{UNIFIED}-5h-status": "rejected", f"{UNIFIED}-5h-reset": str(NOW + 1)}, {}),
    ({}, {"resets_at": NOW + 2}),
    ({"retry-after-ms": "3000"}, {}),
    ({"retry-after": "4"}, {}),
    ({}, {"details": [{"retryDelay": "5s"}]}),
    ({}, {"message": "try again in 6s"}),
    ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "7s"}, {}),
]


@pytest.mark.parametrize("first", range(len(ORDER)))
def test_the_sources_have_an_order(first: int) -> None:
    headers: dict[str, str] = {}
    error: dict[str, Any] = {}
    for more_headers, more_error in ORDER[first:]:
        headers |= more_headers
        error |= more_error
    assert wait(headers, {"error": error}) == pytest.approx(first + 1)


def test_of_the_empty_buckets_the_latest_counts() -> None:
    headers = {
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "7s",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "2m",
    }
    assert wait(headers) == 120


@pytest.mark.parametrize("limit", ["-1", "0"])
@pytest.mark.parametrize("remaining", ["-1", "0"])
def test_unknown_is_not_exhausted(limit: str, remaining: str) -> None:
    headers = {
        "x-ratelimit-limit-tokens": limit,
        "x-ratelimit-remaining-tokens": remaining,
        "x-ratelimit-reset-tokens": "60",
    }
    assert wait(headers) is None
    assert read_windows(headers, NOW) == ()


# What any answer's headers tell.


def near(value: float) -> Any:
    return pytest.approx(value)


def bucket(name: str, limit: str = "9", remaining: str = "4", reset: str = "3") -> dict[str, str]:
    """The three headers of one bucket."""
    return {name.format("limit"): limit, name.format("remaining"): remaining, name.format("reset"): reset}


def test_the_windows_of_an_openai_answer() -> None:
    headers = {
        "X-RateLimit-Limit-Requests": "500",
        "X-RateLimit-Remaining-Requests": "499",
        "X-RateLimit-Reset-Requests": "120ms",
        "x-ratelimit-limit-tokens": "30000",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "6m0s",
    }
    assert read_windows(headers, NOW) == (
        Reported("x-ratelimit-requests", "requests", 500, 499, near(NOW + 0.12)),
        Reported("x-ratelimit-tokens", "tokens", 30000, 0, NOW + 360),
    )


def test_the_windows_of_an_anthropic_answer() -> None:
    headers = {
        "anthropic-ratelimit-input-tokens-limit": "30000",
        "anthropic-ratelimit-input-tokens-remaining": "29000",
        "anthropic-ratelimit-input-tokens-reset": "2026-09-24T15:30:37Z",
        "anthropic-ratelimit-output-tokens-limit": "8000",
        "anthropic-ratelimit-output-tokens-remaining": "8000",
        "anthropic-ratelimit-output-tokens-reset": "2026-09-24T15:30:00Z",
    }
    assert read_windows(headers, NOW) == (
        Reported("anthropic-ratelimit-input-tokens", "input_tokens", 30000, 29000, NOW + 37, 60),
        Reported("anthropic-ratelimit-output-tokens", "output_tokens", 8000, 8000, None, 60),
    )


def test_a_plans_windows_are_shares() -> None:
    headers = {
        f"{UNIFIED}-status": "allowed_warning",
        f"{UNIFIED}-5h-utilization": "0.42",
        f"{UNIFIED}-5h-reset": str(NOW + 600),
        f"{UNIFIED}-7d_opus-utilization": "1.02",
        f"{UNIFIED}-7d_opus-reset": str(NOW + 900),
        "x-codex-primary-used-percent": "97",
        "x-codex-primary-window-minutes": "10080",
        "x-codex-primary-reset-after-seconds": "410602",
        "x-codex-secondary-used-percent": "0",
        "x-codex-secondary-window-minutes": "0",
        "x-usage-ratelimit-session": "ent=0&rem=35.3&rst=2026-09-24T17%3A05%3A31Z",
    }
    assert read_windows(headers, NOW) == (
        Reported("unified-5h", None, 1, near(0.58), NOW + 600, 5 * HOUR),
        Reported("unified-7d_opus", None, 1, 0, NOW + 900, 7 * DAY),
        Reported("x-codex-primary", None, 1, near(0.03), NOW + 410602, 7 * DAY),
        Reported("x-usage-ratelimit-session", None, 1, near(0.353), NOW + 5731),
    )


@pytest.mark.parametrize(
    ("headers", "window"),
    [
        (
            {"ratelimit": '"day";r=40;t=50', "ratelimit-policy": '"day";q=100;w=86400'},
            Reported("ratelimit-day", "requests", 100, 40, NOW + 50, DAY),
        ),
        (
            {"ratelimit": "limit=100, remaining=40, reset=50"},
            Reported("ratelimit", "requests", 100, 40, NOW + 50),
        ),
        (
            {
                "x-ratelimit-limit-tokens-minute": "60000",
                "x-ratelimit-remaining-tokens-minute": "59000",
                "x-ratelimit-reset-tokens-minute": "12.1",
            },
            Reported("x-ratelimit-tokens-minute", "tokens", 60000, 59000, near(NOW + 12.1), 60),
        ),
        (
            {"x-tokenlimit-limit": "90000", "x-tokenlimit-remaining": "12000"},
            Reported("x-tokenlimit", "tokens", 90000, 12000),
        ),
        (bucket("x-ratelimit-{}-req-minute"), Reported("x-ratelimit-req-minute", "requests", 9, 4, NOW + 3, 60)),
        (bucket("x-ratelimit-{}-1m"), Reported("x-ratelimit-1m", "requests", 9, 4, NOW + 3)),
        (
            {"ratelimit": '"100-in-15min";r=4;t=3', "ratelimit-policy": '"100-in-15min";q=9;w=900;pk=:YQ==:'},
            Reported("ratelimit-100-in-15min", "requests", 9, 4, NOW + 3, 900),
        ),
        (
            {"ratelimit": '"per_user";r=4;t=3', "ratelimit-policy": '"per_user";q=9;qu="tokens"'},
            Reported("ratelimit-per_user", "tokens", 9, 4, NOW + 3),
        ),
        (
            {"x-ratelimit-limit": "10", "x-ratelimit-remaining": "12", "x-ratelimit-reset": "3"},
            Reported("x-ratelimit", "requests", 10, 10, NOW + 3),
        ),
    ],
)
def test_one_window(headers: dict[str, str], window: Reported) -> None:
    assert read_windows(headers, NOW) == (window,)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-ratelimit-limit": "10"},
        {"x-ratelimit-remaining": "10"},
        {"x-ratelimit-limit": "many", "x-ratelimit-remaining": "few"},
        {"x-ratelimit-limit": "10", "x-ratelimit-remaining": "0"},
        {"x-ratelimit-limit-images": "10", "x-ratelimit-remaining-images": "9"},
        {"x-codex-primary-used-percent": "nan"},
        {"x-usage-ratelimit-weekly": "ent=0"},
        {"ratelimit": '"a";r=1;t=5'},
        {"ratelimit-policy": "100;w=60"},
        *(
            bucket("x-ratelimit-{}-" + of)
            for of in ("characters", "credits", "neurons", "minutes-used", "image-requests")
        ),
        {**bucket("helicone-ratelimit-{}"), "helicone-ratelimit-policy": "1000;w=86400;u=cents"},
        {"ratelimit": '"day";r=5;t=9', "ratelimit-policy": '"day";q=9;w=86400;qu="content-bytes"'},
        {"ratelimit": '"characters";r=5;t=9', "ratelimit-policy": '"characters";q=9;w=86400'},
        *(
            {"ratelimit": '"day";r=5;t=9', "ratelimit-policy": f'"day";q=9;w={length}'}
            for length in ("0", "-60", "1e306", "31622401")
        ),
        bucket("x-ratelimit-{}", limit="1e306"),
        bucket("x-ratelimit-{}", limit="1e13", remaining="1e12"),
        bucket("x-ratelimit-{}-" + "requests" * 100),
    ],
)
def test_what_is_not_told_is_not_reported(headers: dict[str, str]) -> None:
    assert read_windows(headers, NOW) == ()


@settings(deadline=None, max_examples=200)
@given(
    headers=st.dictionaries(
        st.from_regex(r"(x-|anthropic-)?ratelimit(-limit|-remaining|-reset)?(-tokens)?", fullmatch=True)
        | st.sampled_from([f"{UNIFIED}-5h-utilization", "x-codex-primary-used-percent", "ratelimit-policy"]),
        st.text(max_size=40)
        | st.floats().map(str)
        | st.sampled_from(["0", "-1", '"a";r=0;t=1', "limit=1, remaining=0"]),
    ),
    now=st.floats(0, 4e9),
)
def test_what_is_observed_is_always_sound(headers: dict[str, str], now: float) -> None:
    for window in read_windows(headers, now):
        assert 0 <= window.remaining <= window.limit
        assert window.limit > 0
        assert window.reset is None or window.reset > now
