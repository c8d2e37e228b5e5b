"""What a refusal tells of the limit behind it."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace
from story import NOON, Story, provider

from rlmd.core.model import Allowance
from rlmd.core.observed_limits import spanned
from rlmd.core.target import REQUESTS_REMEMBERED, RequestLog

if TYPE_CHECKING:
    from rlmd.core.model import Use

MINUTE, HOUR = 60.0, 3600.0
TWO = (provider("a", 1), provider("b", 2))


def serve(story: Story, times: int, apart: float = 1.0) -> None:
    for _ in range(times):
        story.report(story.use())
        story.now += apart


def shown(story: Story, **refusal: Any) -> Allowance:
    """Have the next request refused, and return what that tells, apart from whether it is of one model."""
    use: Use = story.use()
    story.refuse(use, **refusal)
    told = [notice.allowance for notice in story.notices if notice.allowance is not None]
    assert told
    return replace(told[-1], model=None)


def sentence(text: str) -> str:
    return f'{{"error":{{"type":"rate_limit_error","message":"{text}"}}}}'


def test_a_throttle_that_says_nothing_is_taken_for_one_of_a_minute() -> None:
    story = Story(*TWO)
    serve(story, 30, apart=4)  # two minutes: the first half is over a minute ago
    assert shown(story) == Allowance("requests", "kind", "1m", used=15)


def test_the_length_of_the_wait_tells_the_window_and_its_end() -> None:
    story = Story(*TWO, now=NOON + 600)
    serve(story, 10)  # before the window that ends in half an hour began
    story.now = NOON + 1000 + HOUR / 2
    serve(story, 20)
    story.now = NOON + HOUR + 600
    assert shown(story, after=HOUR / 2) == Allowance("requests", "wait", "1h", used=20)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "This request would exceed your organization's rate limit of 30,000 input tokens per minute",
            Allowance("input_tokens", "text", "1m", 30_000),
        ),
        (
            "Rate limit reached for gpt-x on tokens per min (TPM): Limit 30000, Used 29500, Requested 1200",
            Allowance("tokens", "text", "1m", 30_000),
        ),
        ("You may send 50 requests per day. Rate limit reached", Allowance("requests", "text", "1d", 50, 3)),
        ("Rate limit exceeded: free-models-per-day", Allowance("requests", "text", "1d", used=3)),
        ("Rate limit: your hourly allowance is used up", Allowance("requests", "text", "1h", used=3)),
        ("Rate limit: too many tokens per minute", Allowance("tokens", "text", "1m")),
    ],
)
def test_the_sentence_tells_more_than_the_wait(text: str, told: Allowance) -> None:
    story = Story(*TWO)
    serve(story, 3)
    assert shown(story, after=7, body=sentence(text)) == told


def test_an_empty_window_in_the_headers_tells_most() -> None:
    story = Story(*TWO)
    serve(story, 5)
    headers = {
        "anthropic-ratelimit-requests-limit": "5",
        "anthropic-ratelimit-requests-remaining": "0",
        "anthropic-ratelimit-requests-reset": "2026-01-12T12:00:50Z",
    }
    use = story.use()
    story.report(use, "error", status=429, headers=headers)
    assert [n.allowance for n in story.notices if n.allowance] == [Allowance("requests", "header", "1m", 5, 5)]


def test_an_empty_window_of_another_length_is_not_taken_for_a_minutes() -> None:
    story = Story(*TWO)
    serve(story, 5)
    policy = {"ratelimit": '"burst";r=0;t=5', "ratelimit-policy": '"burst";q=5;w=10'}
    story.report(story.use(), "error", status=429, headers=policy)
    (told,) = (n.allowance for n in story.notices if n.allowance)
    assert (told.basis, told.max) == ("wait", None)


def test_a_plan_whose_window_nobody_names_is_left_open() -> None:
    story = Story(*TWO)
    serve(story, 3)
    body = '{"error":{"type":"usage_limit_reached","message":"The usage limit has been reached"}}'
    told = shown(story, body=body)
    assert (told.per, told.used) == (None, None)


def test_a_refusal_of_one_model_counts_the_requests_of_that_model() -> None:
    story = Story(provider("a", 1, models=("sonnet", "opus")), provider("b", 2))
    serve(story, 4)
    story.report(story.use(model="opus"), "ok", model="opus")
    assert shown(story, body=sentence("rate limit for model sonnet")).used == 4
    assert [n.allowance.model for n in story.notices if n.allowance] == ["sonnet"]


def test_providers_of_one_account_are_counted_together() -> None:
    story = Story(provider("a", 1, account="x"), provider("b", 2, account="x"))
    serve(story, 4)
    story.report(story.use("b"), model="sonnet")
    body = sentence("Your organization's rate limit is reached")
    assert shown(story, body=body).used == 5


def test_what_an_earlier_run_counted_is_not_guessed() -> None:
    story = Story(*TWO)
    serve(story, 3)
    story.restart()
    story.now += 10
    serve(story, 2)
    assert shown(story) == Allowance("requests", "kind", "1m")
    story.now += 2 * MINUTE
    serve(story, 2)
    assert shown(story) == Allowance("requests", "kind", "1m", used=2)


def test_only_so_many_requests_are_remembered_one_by_one() -> None:
    recent = RequestLog()
    for second in range(REQUESTS_REMEMBERED + 10):
        recent.note(float(second), "a/m")
    assert recent.used(5.0) is None
    assert recent.used(10.0) == REQUESTS_REMEMBERED
    assert (recent.used(REQUESTS_REMEMBERED, "a/m"), recent.used(REQUESTS_REMEMBERED, "a/n")) == (10, 0)


@pytest.mark.parametrize(
    ("seconds", "span"),
    [(None, None), (0.5, "1m"), (60, "1m"), (61, "1h"), (3601, "1h"), (7200, "5h"), (86_400, "1d"), (9e5, "month")],
)
def test_a_wait_names_the_shortest_window_it_fits_in(seconds: float | None, span: str | None) -> None:
    assert spanned(seconds) == span
    assert spanned(inf) is None
