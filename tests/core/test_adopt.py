"""What another program has counted is taken over as the least there was."""

from __future__ import annotations

from typing import TYPE_CHECKING

from story import NOON, Story, limit, provider

from rlmd.core.takeover import LONGEST, Found, adopt

if TYPE_CHECKING:
    from rlmd.core.takeover import Adoption


def take(story: Story, *found: Found, current: str | None = None) -> Adoption:
    made = adopt(story.ledger.state, found, current, story.now)
    story.settle(made.effects)
    return made


def test_counts_go_into_every_limit_that_holds_this_hour() -> None:
    story = Story(provider("a", 1, limit(50), limit(1000, "1d"), limit(9000, "month"), limit(10, "1m")))
    made = take(story, Found("a", requests=23, errors=2))
    assert [story.used("a", n) for n in range(4)] == [23, 23, 23, 0]
    assert made.taken == ["a: 23 requests in the hour that runs, 2 errors"]
    assert made.left == []


def test_twice_is_once_and_what_was_counted_here_stays() -> None:
    story = Story(provider("a", 1, limit(50)))
    for _ in range(30):
        story.report(story.use())
    take(story, Found("a", requests=23))
    assert story.used("a") == 30
    for _ in range(2):
        take(story, Found("a", requests=40))
    assert story.used("a") == 40


def test_providers_of_one_account_add_up() -> None:
    story = Story(provider("a", 1, limit(50), account="x"), provider("b", 2, account="x"))
    take(story, Found("a", requests=20), Found("b", requests=10))
    assert story.used("a") == 30


def test_a_limit_that_it_fills_is_full_and_told() -> None:
    story = Story(provider("a", 1, limit(50)), provider("b", 2))
    take(story, Found("a", requests=50))
    assert story.use().provider == "b"
    assert story.told("exhausted") == ["a has used 50 of 50 requests per 1h, resets 13:00:00"]


def test_a_cooldown_ahead_holds_across_a_restart() -> None:
    story = Story(provider("a", 1), provider("b", 2))
    made = take(story, Found("a", until=NOON + 600))
    assert made.taken == ["a rests until 12:10:00"]
    assert story.use().provider == "b"
    story.restart()
    assert story.use(session="t").provider == "b"
    story.now += 600
    assert story.use(session="u").provider == "a"


def test_a_longer_rest_that_is_known_already_stays() -> None:
    story = Story(provider("a", 1), provider("b", 2))
    story.refuse(story.use(), 3000)
    take(story, Found("a", until=NOON + 600))
    story.now += 601
    assert story.use(session="t").provider == "b"


def test_what_is_over_or_unknown_or_beyond_belief_is_left_and_said() -> None:
    story = Story(provider("a", 1), provider("b", 2))
    made = take(story, Found("a", until=NOON - 60), Found("b", until=NOON + LONGEST + 1), Found("gone", requests=3))
    assert made.taken == []
    assert made.left == [
        "a: its cooldown is over since 11:59:00",
        "b: a cooldown of more than a year",
        "gone is not in the configuration",
    ]
    assert story.use().provider == "a"
    assert story.notices == []


def test_the_current_provider_is_taken_where_none_is_known() -> None:
    story = Story(provider("a", 1), provider("b", 2))
    assert take(story, current="b").taken == ["b was used last"]
    assert story.ledger.state.current == "b"
    story.report(story.use())
    assert take(story, current="b").left == ["b as the current provider; to put it first: rlmctl use b"]
    assert take(story, current="a").left == []
    assert story.ledger.state.current == "a"
