"""What a provider says that makes no sense rests nobody; nothing rests for longer than `cooldown.longest`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from story import MODEL, NOON, Story, provider

from rlmd.core.breaker import rest
from rlmd.core.model import DAY, Cooldown

if TYPE_CHECKING:
    from rlmd.core.model import Kind

LONGEST = 8 * DAY


def told(reset: str, of: str = "requests", remaining: str = "0") -> dict[str, str]:
    return {
        f"x-ratelimit-limit-{of}": "100",
        f"x-ratelimit-remaining-{of}": remaining,
        f"x-ratelimit-reset-{of}": reset,
    }


@pytest.mark.parametrize(
    "reset",
    [
        "1768219260000000000",  # an epoch in nanoseconds
        "1768219260000000",  # in microseconds
        "9999-12-31T23:59:59Z",
        "86400000",  # milliseconds, read as seconds
        str(LONGEST + 1),
        "1e306",
    ],
)
def test_a_reset_beyond_the_longest_cooldown_is_no_window(reset: str) -> None:
    story = Story(provider("a"))
    story.report(story.use(), "ok", status=200, headers=told(reset))
    assert story.use().provider == "a"
    assert ("snapshot", f"a/{MODEL}") not in story.facts


def test_a_window_ends_with_the_longest_cooldown_at_the_latest() -> None:
    story = Story(provider("a"))
    story.report(story.use(), "ok", status=200, headers=told(str(LONGEST)))
    assert story.wait().retry_at == NOON + LONGEST


@pytest.mark.parametrize("of", ["characters", "credits", "neurons", "minutes"])
def test_a_bucket_of_what_nobody_counts_is_no_window(of: str) -> None:
    story = Story(provider("a"))
    story.report(story.use(), "ok", status=200, headers=told("60", of))
    assert story.use().provider == "a"


def test_a_bucket_without_a_quantity_is_of_requests() -> None:
    story = Story(provider("a"))
    headers = {"x-ratelimit-limit": "100", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "60"}
    story.report(story.use(), "ok", status=200, headers=headers)
    assert story.wait().retry_at == NOON + 60


@pytest.mark.parametrize("kind", ["throttle", "quota", "transient"])
def test_a_provider_that_refuses_thousands_of_times_rests_for_the_longest_of_its_kind(kind: Kind) -> None:
    cooldown = Cooldown()
    assert rest(kind, 5000, cooldown) == rest(kind, 40, cooldown)
