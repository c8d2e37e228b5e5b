"""Whatever a provider says in its headers, the house goes on: every reply, every event, a restart, ten days later.

A fixed sample; `RLMD_HEADERS=3000 pytest tests/daemon/test_any_header.py` makes up so many histories anew.
"""

from __future__ import annotations

import logging
import os
import tempfile
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from logging.handlers import BufferingHandler
from pathlib import Path
from typing import Any

import trio
from house import MODEL, NOON, OPENROUTER, House, Peer, Place, virtually
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rlmd.core.breaker import JITTER_MAX
from rlmd.core.model import DAY

WANTED = os.environ.get("RLMD_HEADERS")
SAMPLE = 100
LONGEST = 8 * DAY
CONFIG = """\
time_zone = "{}"
patience = "0s"
[[provider]]
id = "anthropic"
priority = 1
models = ["sonnet"]
hourly_limit = 1000000
"""
ZONES = ("UTC", "Pacific/Kiritimati", "America/Los_Angeles")

# What stands for a number or a time.

SECONDS = st.integers(-(10**4), 10**9) | st.sampled_from([0, 1, 60, 3600, 86_400, 8 * 86_400, 366 * 86_400, 86_400_000])
EPOCHS = st.builds(
    lambda ahead, unit: str(int(NOON + ahead) * unit), SECONDS, st.sampled_from([1, 10**3, 10**6, 10**9])
)
DATES = st.datetimes(timezones=st.sampled_from([UTC])) | st.builds(
    lambda ahead: datetime.fromtimestamp(NOON, UTC) + timedelta(seconds=ahead), SECONDS
)
WRITTEN = st.builds(datetime.isoformat, DATES) | st.builds(lambda at: format_datetime(at, usegmt=True), DATES)
SPANS = st.builds(
    lambda count, unit: f"{count}{unit}",
    st.integers(0, 10**12) | st.floats(0, 10**9),
    st.sampled_from(["ms", "s", "m0s", "h2m", "d", "w", " days", " months", "mo", ":03:11"]),
)
NUMBERS = st.one_of(
    st.integers(0, 1000).map(str),
    st.integers(-(2**70), 2**70).map(str),
    st.floats().map(str),
    st.sampled_from(["0", "-1", "1e306", "-1e306", "1e13", "nan", "inf", "-0", "1_000", "0x10", "", " ", "٣٤", "½"]),
)
RESETS = st.one_of(
    SECONDS.map(str),
    EPOCHS,
    WRITTEN,
    SPANS,
    NUMBERS,
    st.sampled_from(
        ["9999-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00", "253402300799", "12:03:11", "never", "ü\u2028"]
    ),
    st.text(max_size=20),
)
BUCKETS = st.sampled_from(
    [
        *("", "-requests", "-tokens", "-input-tokens", "-requests-day", "-tokens-minute", "-req-minute", "-day"),
        *("-characters", "-credits", "-neurons", "-minutes", "-images", "-cents", "-unified", "-" + "x" * 300),
    ]
)


def triple(vendor: str, bucket: str, limit: str, remaining: str, reset: str, *, late: bool) -> dict[str, str]:
    """The three headers of a bucket, with the role before its name or after it."""
    told = {"limit": limit, "remaining": remaining, "reset": reset}
    return {f"{vendor}{bucket}-{role}" if late else f"{vendor}-{role}{bucket}": value for role, value in told.items()}


TRIPLES = st.builds(
    triple, st.sampled_from(["x-ratelimit", "anthropic-ratelimit", "helicone-ratelimit", "ratelimit", "x-tokenlimit"]),
    BUCKETS, NUMBERS, st.just("0") | NUMBERS, RESETS, late=st.booleans(),
)  # fmt: skip
POLICIES = st.builds(
    lambda name, left, reset, quota, length, unit: {
        "ratelimit": f'"{name}";r={left};t={reset}',
        "ratelimit-policy": f'"{name}";q={quota};w={length}{unit}',
        "helicone-ratelimit-policy": f"{quota};w={length};u=cents",
    },
    st.sampled_from(["day", "default", "100-in-15min", "characters", "per_user", ""]), st.just("0") | NUMBERS, RESETS,
    NUMBERS, NUMBERS | RESETS, st.sampled_from(["", ';qu="requests"', ";qu=tokens", ";qu=content-bytes"]),
)  # fmt: skip
ONES = st.dictionaries(
    st.sampled_from(
        [
            *("retry-after", "retry-after-ms", "x-ratelimit-user-retry-after", "x-ratelimit-reset", "date"),
            *("ratelimit", "ratelimit-policy", "ratelimit-reset", "x-usage-ratelimit-session"),
            *(f"anthropic-ratelimit-unified{of}" for of in ("-status", "-reset", "-5h-status", "-5h-reset")),
            "anthropic-ratelimit-unified-5h-utilization",
            *(f"x-codex-primary-{of}" for of in ("used-percent", "window-minutes", "reset-at", "reset-after-seconds")),
        ]
    ),
    st.sampled_from(["rejected", "limit=9, remaining=0, reset=5", "ent=0&rem=0&rst=9999-12-31T23:59:59Z"]) | RESETS,
    max_size=6,
)
HEADERS = st.builds(
    lambda *parts: {name: value for part in parts for name, value in part.items()},
    ONES,
    TRIPLES | st.just({}),
    TRIPLES | st.just({}),
    POLICIES | st.just({}),
)

# What else a report carries that is odd, and allowed.

TIMES = st.sampled_from(["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", "2026-01-12T12:00:00Z"]) | st.none()
TOKENS = st.sampled_from([0, 1, 10**12])
USAGE = st.fixed_dictionaries({"input": TOKENS, "output": TOKENS, "cache_read": TOKENS}) | st.none()
REPORTS = st.fixed_dictionaries(
    {
        "status": st.sampled_from([200, 200, 402, 429, 429, 500, 503, 529]),
        "headers": HEADERS,
        "started_at": TIMES,
        "usage": USAGE,
        "body": st.builds(lambda wait: f'{{"error":{{"message":"try again in {wait}","resets_at":{wait}}}}}', RESETS),
    }
)
ESTIMATES = st.sampled_from([None, 0, 1000, 10**12])

FAR = {"x-ratelimit-limit-requests": "100", "x-ratelimit-remaining-requests": "0"}
NANOSECONDS = {**FAR, "x-ratelimit-reset-requests": "1796083200000000000"}
MILLISECONDS = {**FAR, "x-ratelimit-reset-requests": "86400000"}
NEGATIVE = {"ratelimit": '"day";r=50;t=86400', "ratelimit-policy": '"day";q=100;w=-60'}
HUGE = {"ratelimit": '"day";r=50;t=86400', "ratelimit-policy": '"day";q=100;w=1e306'}


def reports(headers: dict[str, str]) -> list[dict[str, Any]]:
    return [{"status": 200, "headers": headers}, {"status": 429, "headers": headers}]


@settings(
    max_examples=int(WANTED or SAMPLE),
    derandomize=WANTED is None,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(st.lists(REPORTS, min_size=1, max_size=4), ESTIMATES, st.sampled_from(ZONES))
@example(reports(NANOSECONDS), None, "UTC")
@example(reports(MILLISECONDS), None, "UTC")
@example(reports(NEGATIVE), None, "UTC")
@example(reports(HUGE), None, "UTC")
def test_any_header_goes_through_the_house(told: list[dict[str, Any]], estimate: int | None, zone: str) -> None:
    handler = BufferingHandler(10**6)
    logging.getLogger().addHandler(handler)
    try:
        with tempfile.TemporaryDirectory(prefix="rlmd-") as root:
            virtually(history, Path(root), told, estimate, zone)
    finally:
        logging.getLogger().removeHandler(handler)
    assert [record.getMessage() for record in handler.buffer if is_problem(record)] == []


def is_problem(record: logging.LogRecord) -> bool:
    """Whether the log tells of a bug, or of damage."""
    return bool(record.exc_info) or record.levelno >= logging.ERROR or "damaged" in record.getMessage()


async def history(root: Path, told: list[dict[str, Any]], estimate: int | None, zone: str) -> None:
    """Report all of it, look at everything, restart, look again, and again ten days later."""
    async with trio.open_nursery() as nursery:
        place = Place(root)
        place.configure(CONFIG.format(zone) + OPENROUTER)
        house = House(place, nursery)
        house.begin()
        peer, listener = await house.peer(), await house.peer()
        await listener.ask("subscribe")
        for provider, model in (("anthropic", MODEL), ("openrouter", "anthropic/sonnet")):
            for fields in told:
                outcome = "ok" if fields["status"] == 200 else "error"
                reply = await peer.ask("report", provider=provider, model=model, outcome=outcome, session="s", **fields)
                assert reply["type"] == "recorded", reply
                house.stepped += 1
        await look(house, peer, estimate)
        await goes_on(listener)
        await house.restart()
        assert not list(place.paths.state_dir.glob("*damaged*"))
        assert not list(place.paths.state_dir.glob("*set-aside"))
        await look(house, await house.peer(), estimate)
        house.stepped += 10 * DAY
        peer = await house.peer()
        await look(house, peer, estimate)
        decision = await peer.ask("acquire", provider="anthropic", model=MODEL, session="t")
        assert decision["type"] == "use", "nothing rests for longer than cooldown.longest"
        await house.end()


async def look(house: House, peer: Peer, estimate: int | None) -> None:
    """Ask for everything that there is to be told; nothing in it lies too far ahead."""
    decision = await peer.ask(
        "acquire", provider="anthropic", model=MODEL, session="s", estimate=estimate, dry_run=True
    )
    assert decision["type"] in {"use", "wait"}, decision
    explained = await peer.ask("explain", model=MODEL)
    assert explained["type"] == "explained", explained
    log = await peer.ask("log")
    assert log["type"] == "log", log
    status = await peer.ask("status")
    assert status["type"] == "status", status
    ends = [decision.get("retry_at"), explained["retry_at"], *(event.get("until") for event in log["events"])]
    for provider in status["providers"]:
        ends += [provider["until"], *(limit["resets_at"] for limit in provider["limits"])]
        ends += [blocked["until"] for blocked in provider["blocked"]]
    latest = house.now() + LONGEST + JITTER_MAX
    assert all(datetime.fromisoformat(end).timestamp() <= latest for end in ends if end is not None), ends


async def goes_on(listener: Peer) -> None:
    await listener.say({"op": "ping", "id": 0})
    while (message := await listener.hear())["type"] == "event":
        pass
    assert message == {"type": "pong", "id": 0}
