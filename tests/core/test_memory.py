"""What the ledger remembers has an end, whatever clients say, and so has what one of its calls does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from story import MODEL, NOON, Story, limit, provider

from rlmd.core import commands, leases, usage
from rlmd.core.leases import LEASE
from rlmd.core.model import Policy

if TYPE_CHECKING:
    import pytest

DAY = 86_400


def test_a_rest_that_is_prolonged_for_ever_is_planned_no_more_often_than_needed() -> None:
    story = Story(provider("a"))
    for n in range(5000):
        story.refuse("a", 100 + n)
    assert len(story.ledger.state._agenda) < 300
    assert story.ledger.next_deadline() is not None
    story.now += 100 + 4999
    story.settle(story.ledger.roll(story.now))
    assert story.told("recovered") == ["a may be used again: its cooldown is over"]


def test_what_is_planned_survives_the_clearing_of_what_is_not_true_any_more() -> None:
    story = Story(provider("a", 1, limit(3, "1d")), provider("b", 2))
    story.report(story.use())
    for n in range(2000):
        story.settle(commands.rest(story.ledger.state, "b", None, NOON + 10 + n, None, NOON))
    story.now = NOON + 10 + 1999
    story.settle(story.ledger.roll(story.now))
    assert story.told("recovered") == ["b may be used again: its cooldown is over"]
    story.now = NOON + DAY / 2
    story.settle(story.ledger.roll(story.now))
    assert [n.provider for n in story.notices if n.event == "reset"] == ["a"]


def said(name: str, left: int = 5, reset: str = "1h") -> dict[str, str]:
    """Headers of an answer that speaks of a window of this name."""
    return {
        f"x-ratelimit-limit-{name}": "9",
        f"x-ratelimit-remaining-{name}": str(left),
        f"x-ratelimit-reset-{name}": reset,
    }


def test_a_provider_may_name_so_many_windows_and_no_more() -> None:
    story = Story(provider("a"), provider("b", 2))
    for n in range(1000):
        story.report("a", headers=said(f"requests-{n}"))
    (target,) = story.ledger.state.targets["a"].values()
    assert list(target.snapshots) == [f"x-ratelimit-requests-{n}" for n in range(usage.SNAPSHOTS)]
    story.report("a", headers=said("requests-3", left=0))
    assert story.use().provider == "b", "what is known is kept up to date"


def test_windows_that_have_ended_make_room_for_others() -> None:
    story = Story(provider("a"), provider("b", 2))
    for n in range(usage.SNAPSHOTS):
        story.report("a", headers=said(f"requests-{n}", reset="1m" if n else "1h"))
    story.now += 61
    story.report("a", headers=said("requests-new", left=0))
    (target,) = story.ledger.state.targets["a"].values()
    assert list(target.snapshots) == ["x-ratelimit-requests-0", "x-ratelimit-requests-new"]
    assert story.use().provider == "b"


def test_a_request_under_way_remembers_each_window_once() -> None:
    story = Story(provider("a"))
    use = story.use()
    for n in range(1000):
        story.report("a", headers=said("requests", left=1000 - n), started_at=NOON - 1000 + n / 2)
    (lease,) = story.ledger.leases.values()
    assert len(lease.noted) == 1
    (target,) = story.ledger.state.targets["a"].values()
    (snapshot,) = target.snapshots.values()
    assert snapshot.since == 1
    story.refuse(use)
    assert snapshot.since == 0, "it is given back to the window that holds now"


def test_leases_whose_time_is_up_together_are_let_go_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "LAPSED", 10)
    story = Story(provider("a", 1, limit(100)), provider("b", 2))
    for _ in range(25):
        story.use()
    story.now += LEASE
    story.settle(story.ledger.roll(story.now))
    assert (len(story.ledger.leases), story.used("a"), story.reserved("a")) == (15, 10, 15)
    deadline = story.ledger.next_deadline()
    assert deadline is not None
    assert deadline <= story.now, "there is more to do at once"
    story.use()
    assert (len(story.ledger.leases), story.used("a"), story.reserved("a")) == (6, 20, 6)
    story.settle(story.ledger.roll(story.now))
    assert (len(story.ledger.leases), story.used("a"), story.reserved("a")) == (1, 25, 1)


def test_what_was_told_of_models_that_left_the_configuration_is_forgotten() -> None:
    story = Story(provider("a"))
    for n in range(100):
        policy = Policy((provider("a", models=(f"m{n}",), enabled=False),))
        story.ledger.configure(policy, story.now)
        story.ask(model=f"m{n}")
    assert set(story.ledger._all_limited) == {"m99"}
    story.ledger.configure(Policy((provider("a", models=(MODEL,)),)), story.now)
    assert not story.ledger._all_limited
