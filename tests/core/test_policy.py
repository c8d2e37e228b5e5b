"""The policy, sentence by sentence, where neither the breaker's nor the ledger's own tests pin it already."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace
from story import MODEL, NOON, Story, limit, provider

from rlmd.core import commands
from rlmd.core.leases import LEASE
from rlmd.core.model import Cooldown, ProviderModel, Usage, Use, Wait
from rlmd.core.requests import Acquire, UsageReport

if TYPE_CHECKING:
    from rlmd.core.breaker import Breaker

HOUR = 3600.0
TWO = (provider("a", 1), provider("b", 2))
THREE = (*TWO, provider("c", 3))
QUOTA = '{"error":{"type":"usage_limit_reached","message":"The usage limit has been reached"}}'
OVERLOADED = '{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}'
THROTTLED_MODEL = '{"type":"error","error":{"type":"rate_limit_error","message":"rate limit for model sonnet"}}'


def breaker(story: Story, key: str) -> Breaker:
    return story.ledger.state.breakers[key]


def roll(story: Story) -> None:
    story.settle(story.ledger.roll(story.now))


def order(story: Story, what: Any, *args: Any, **more: Any) -> None:
    """A person's order by hand."""
    story.settle(what(story.ledger.state, *args, story.now, **more))


def quota(story: Story, use: Use | str, after: float, **more: Any) -> Any:
    """The provider says that the whole account has used its plan up."""
    return story.refuse(use, after, body=QUOTA, **more)


def next_use(recorded: Any) -> Use:
    assert isinstance(recorded.next, Use), recorded
    return recorded.next


def next_wait(recorded: Any) -> Wait:
    assert isinstance(recorded.next, Wait), recorded
    return recorded.next


def reload(story: Story, *providers: Any, **policy: Any) -> None:
    story.policy = Story(*providers, **policy).policy
    story.reload(story.policy)


def left(remaining: int, reset: str = "90s", of: str = "requests") -> dict[str, str]:
    return {
        f"x-ratelimit-limit-{of}": "1000",
        f"x-ratelimit-remaining-{of}": str(remaining),
        f"x-ratelimit-reset-{of}": reset,
    }


# 2. Cooldown: a circuit breaker a scope


def test_a_target_is_available_when_its_server_account_and_model_are_closed() -> None:
    for key in ("server:a", "account:a", f"model:a/{MODEL}"):
        story = Story(*TWO)
        breaker(story, key).order(NOON + 60, "test", NOON)
        assert story.use().provider == "b", key


def test_one_failure_of_a_server_rests_nothing_whatever_wait_it_names() -> None:
    story = Story(provider("a"))
    recorded = story.report(story.use(), "error", status=524, headers={"retry-after": "120"})
    assert (recorded.verdict.kind, recorded.verdict.hint, recorded.verdict.until) == ("transient", 120, None)
    assert story.use().provider == "a"


def test_a_models_throttle_leaves_the_other_models_of_the_provider_alone() -> None:
    story = Story(provider("a", 1, models=(MODEL, "haiku")), provider("b", 2, models=(MODEL, "haiku")))
    recorded = story.refuse(story.use(), after=60, body=THROTTLED_MODEL)
    assert recorded.verdict.scope == "model"
    assert story.use(session="x").provider == "b"
    assert story.use(session="y", model="haiku").provider == "a"


def test_providers_with_the_same_account_share_its_breaker_and_its_limits() -> None:
    story = Story(provider("a", 1, limit(2), account="key"), provider("b", 2, account="key"), provider("c", 3))
    quota(story, story.use(), after=60)
    assert story.use(session="x").provider == "c"
    story.now += 60
    story.report(story.use(session="y", purpose="turn").provider, session="y")
    story.report(story.use(session=None))
    assert story.used("b") == 2
    assert story.use(session=None).provider == "c"


def test_of_two_statements_of_one_limit_of_an_account_the_smaller_holds() -> None:
    for first, second in ((1, 9), (9, 1)):
        story = Story(provider("a", 1, limit(first), account="key"), provider("b", 2, limit(second), account="key"))
        story.report(story.use(session=None))
        assert isinstance(story.ask(session=None), Wait)


def test_a_hint_gets_jitter_of_at_most_a_fifth_and_half_a_minute() -> None:
    for hint, share, end in ((60, 0.5, 66.0), (60, 0.0, 60.0), (9000, 0.5, 9015.0)):
        story = Story(*TWO)
        assert story.refuse(story.use(), after=hint, rand=share).verdict.until == NOON + end


def test_overload_never_shortens_a_longer_block_and_never_doubles() -> None:
    story = Story(*TWO)
    uses = [story.use(session=str(n)) for n in range(3)]
    assert story.report(uses[0], "error", status=529, body=OVERLOADED).verdict.until == NOON + 10
    assert story.report(uses[1], "error", status=529, body=OVERLOADED, headers={"retry-after": "90"}).verdict.until == (
        NOON + 90
    )
    assert story.report(uses[2], "error", status=529, body=OVERLOADED).verdict.until == NOON + 90
    for _ in range(3):
        story.now = breaker(story, "server:a").until
        probe = story.use(session=None)
        until = story.report(probe, "error", status=529, body=OVERLOADED).verdict.until
        assert until == story.now + 10


def test_auth_blocks_nothing_and_goes_nowhere_else_and_is_told_once() -> None:
    story = Story(*TWO)
    for n in range(3):
        recorded = story.report(story.use(session=str(n)), "error", status=401, session=str(n))
        assert (recorded.verdict.kind, recorded.verdict.until, recorded.next) == ("auth", None, None)
    assert len(story.told("auth")) == 1, "twenty sessions with one bad key are one notification"
    story.report(story.use())
    story.report(story.use(), "error", status=401)
    assert len(story.told("auth")) == 2, "it worked since: this is news"


def test_a_missing_model_is_told_once_and_another_provider_takes_the_request() -> None:
    story = Story(*TWO)
    body = '{"error":{"code":"model_not_found","message":"The model does not exist"}}'
    for n in range(3):
        recorded = story.report(story.use(session=str(n)), "error", status=404, body=body, session=str(n))
        assert recorded.verdict.kind == "model_missing"
        assert next_use(recorded).provider == "b"
    [warning] = story.told("warning")
    assert "a" in warning
    assert repr(MODEL) in warning


def test_nothing_else_routes_away() -> None:
    story = Story(*TWO)
    for status in (400, 413, 422):
        recorded = story.report(story.use(), "error", status=status)
        assert (recorded.next, recorded.verdict.until) == (None, None)
    recorded = story.report(story.use(), "cancelled")
    assert (recorded.verdict.kind, recorded.next) == ("cancelled", None)
    assert story.use().provider == "a"


def test_five_transient_failures_in_a_row_rest_the_server_also_where_each_had_begun_to_answer() -> None:
    for accepted in (False, True):
        story = Story(*TWO)
        for n in range(5):
            story.now += 100
            use = story.use(session=str(n))
            assert use.provider == "a"
            if accepted:
                story.report(use, "accepted")
            recorded = story.report(use, "error", session=str(n))
        assert (recorded.verdict.kind, recorded.verdict.until) == ("transient", story.now + 30)


def test_a_request_that_is_accepted_and_then_ends_well_is_one_result_of_a_minute() -> None:
    story = Story(*TWO)
    uses = [story.use(session=str(n)) for n in range(7)]
    for use in uses[:3]:
        story.report(use, "accepted")
        story.report(use, "ok")
    untils = [story.report(use, "error", status=500).verdict.until for use in uses[3:]]
    assert untils == [None, None, None, NOON + 30], "four of seven are over half"


def test_a_probe_that_is_accepted_closes_and_halves_the_level() -> None:
    story = Story(*TWO)
    key = "account:a"
    for level in (1, 2, 3):
        story.refuse(story.use(session=None))
        assert breaker(story, key).level == level
        story.now = breaker(story, key).until
    story.report(story.use(session=None), "accepted")
    assert (breaker(story, key).state(story.now), breaker(story, key).level) == ("closed", 1)


def test_a_probe_accepted_and_then_broken_in_the_stream_moves_on_for_this_turn() -> None:
    story = Story(*TWO)
    story.report(story.use(), "error", status=529, body=OVERLOADED)
    story.now += 10
    probe = story.use(session="x")
    assert probe.reason == "probe"
    story.now += 1
    story.report(probe, "accepted")
    recorded = story.report(probe, "error", status=200, body=f"event: error\ndata: {OVERLOADED}\n\n")
    assert (recorded.verdict.kind, recorded.verdict.until) == ("overloaded", None), "it is older than the change"
    assert next_use(recorded).provider == "b"
    assert story.use(session="x").provider == "b"


def test_only_a_low_value_request_tries_a_long_block_early() -> None:
    story = Story(*TWO)
    quota(story, story.use(), after=8 * HOUR)
    story.now += HOUR
    assert story.use(dry_run=True).provider == "b", "this session has asked before"
    early = story.use(purpose="aux")
    assert (early.provider, early.reason) == ("a", "probe")
    assert story.use(session="new").provider == "b", "one at a time"
    quota(story, early, after=7 * HOUR)
    story.now += 2 * HOUR - 1
    assert story.use(session="newest").provider == "b"
    story.now += 1
    assert story.use(session="newer").reason == "probe"


@pytest.mark.parametrize("only_asking", [{"dry_run": True}, {"purpose": "turn"}])
def test_who_only_asks_does_not_take_the_probe(only_asking: dict[str, Any]) -> None:
    story = Story(*TWO)
    quota(story, story.use(), after=60)
    story.now += 60
    for _ in range(3):
        assert story.use(session="x", **only_asking).reason == "probe"
    assert story.use(session="y").reason == "probe"
    assert story.use(session="z").provider == "b"


def test_who_stands_ready_for_another_place_reserves_nothing() -> None:
    story = Story(provider("a", 1, limit(1)), provider("b", 2, limit(1)))
    assert story.use(lease_for=("a", MODEL)).lease is not None
    moved = story.use(lease_for=("a", MODEL))
    assert (moved.provider, moved.lease) == ("b", None)
    assert story.reserved("b") == 0
    assert story.use(lease_for=("b", MODEL)).lease is not None
    assert story.reserved("b") == 1


def test_what_was_never_sent_counts_nothing_and_keeps_nobody_off() -> None:
    story = Story(provider("a", 1, limit(1), limit(1000, of="tokens")), provider("b", 2))
    quota(story, story.use(), after=HOUR)
    story.now += HOUR
    probe = story.use(session="other", estimate=400)
    assert (probe.provider, probe.reason) == ("a", "probe")
    assert story.use(session="third").provider == "b"

    assert story.report(probe, "unsent").verdict.kind == "cancelled"
    assert [story.used("a", n) + story.reserved("a", n) for n in (0, 1)] == [0, 0]
    assert story.ledger.state.targets["a"][MODEL].totals.requests == 0
    assert story.use(session="fourth").reason == "probe"
    assert story.report(probe, "ok").duplicate


@pytest.mark.parametrize("failure", [{"status": 500}, {"status": 401}, {"status": 429, "body": THROTTLED_MODEL}])
def test_an_early_probe_that_fails_for_whatever_reason_changes_the_time_of_the_next(failure: dict[str, Any]) -> None:
    story = Story(*TWO)
    quota(story, story.use(), after=8 * HOUR)
    before = (breaker(story, "account:a").until, breaker(story, "account:a").level)
    story.now += 4 * HOUR
    story.report(story.use(purpose="aux"), "error", **failure)
    assert breaker(story, "account:a").early_at == story.now + 2 * HOUR
    assert (breaker(story, "account:a").until, breaker(story, "account:a").level) == before
    assert story.use(purpose="aux").provider == "b"


def test_the_end_of_a_block_that_was_tried_early_is_announced_once() -> None:
    story = Story(*TWO)
    quota(story, story.use(), after=8 * HOUR)
    story.now += 4 * HOUR
    quota(story, story.use(purpose="aux"), after=8 * HOUR)
    for hour, told in ((8, 0), (12, 1)):
        story.now = NOON + hour * HOUR
        roll(story)
        assert len(story.told("recovered")) == told, "the early probe was told a later end"


def test_a_slow_early_probe_is_the_only_one_and_its_success_ends_the_block() -> None:
    story = Story(*TWO)
    quota(story, story.use(), after=8 * HOUR)
    story.now += HOUR
    slow = story.use(session="new")
    assert (slow.provider, slow.reason) == ("a", "probe")
    for n in range(10):
        story.now += 21
        assert story.use(session=f"newer {n}").provider == "b"
    story.report(slow, "accepted")
    assert breaker(story, "account:a").state(story.now) == "closed"


def test_a_provider_that_is_put_first_is_tried_at_once_and_then_on_schedule() -> None:
    story = Story(*TWO)
    quota(story, story.use(), after=8 * HOUR)
    assert story.use().provider == "b"
    story.now += 60
    order(story, commands.pin, "a", None)
    story.restart()
    first = story.use()
    assert (first.provider, first.reason) == ("a", "probe")
    quota(story, first, after=8 * HOUR)
    assert story.use().provider == "b"
    story.now += 2 * HOUR
    assert story.use().provider == "a", "also in the midst of a turn: the person wants it"


def test_a_pin_for_one_model_tries_what_keeps_that_model() -> None:
    both = (MODEL, "haiku")
    story = Story(provider("a", 1, models=both), provider("b", 2, models=both))
    for model in both:
        body = THROTTLED_MODEL.replace("sonnet", model)
        story.refuse(story.use(session=model, model=model), after=60, body=body, session=model)
    order(story, commands.pin, "a", "haiku")
    assert story.use(session="x", model="haiku").provider == "a"
    assert story.use(session="y").provider == "b"


def test_a_probe_that_was_overtaken_by_a_later_refusal_changes_nothing() -> None:
    story = Story(*TWO)
    quota(story, story.use(), after=60)
    story.now += 60
    probe = story.use(session="x")
    assert probe.reason == "probe"
    story.now += 10
    quota(story, "a", after=600)
    story.now += 10
    story.report(probe, "ok")
    assert breaker(story, "account:a").state(story.now) == "open"


def test_no_second_probe_goes_while_an_overtaken_one_is_under_way() -> None:
    story = Story(*TWO)
    quota(story, story.use(), after=60)
    story.now += 60
    story.use(session="x")
    quota(story, "a", after=5)
    story.now += 5
    assert story.use(session="y").provider == "b"


def test_a_late_failure_with_a_hint_that_ends_later_extends_and_the_level_stays() -> None:
    story = Story(*TWO)
    first, second, third = (story.use(session=str(n)) for n in range(3))
    story.now += 1
    story.refuse(first)
    story.now += 1
    story.refuse(second)
    assert breaker(story, "account:a").until == NOON + 31
    story.refuse(third, after=60)
    assert (breaker(story, "account:a").until, breaker(story, "account:a").level) == (NOON + 62, 1)


def test_levels_pins_and_orders_survive_a_restart() -> None:
    story = Story(*THREE)
    story.refuse(story.use())
    order(story, commands.pin, "c", MODEL)
    order(story, commands.enable, "b", enabled=False)
    order(story, commands.rest, "c", None, NOON + 100, None)
    story.restart()
    assert breaker(story, "account:a").level == 1
    assert story.ledger.pin_for(MODEL) == "c"
    assert {(r.provider, r.state, r.reason) for r in story.wait().refusals} == {
        ("a", "open", "throttle"),
        ("b", "disabled", "disabled"),
        ("c", "open", "by hand"),
    }


# 3. Windows: what has been used


def test_a_calendar_day_ends_at_local_midnight_also_when_it_has_23_hours() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    eve = 1_774_738_800.0  # 2026-03-29 00:00 there; at 02:00 the clocks go to 03:00
    story = Story(provider("a", 1, limit(1, "1d", zone=berlin)), now=eve)
    story.report(story.use())
    assert story.wait().retry_at == eve + 23 * HOUR
    story.now = eve + 23 * HOUR
    assert story.use().provider == "a"


def test_a_clock_that_steps_back_does_not_open_the_older_window_again() -> None:
    story = Story(provider("a", 1, limit(2)))
    story.report(story.use())
    story.now += HOUR
    story.report(story.use())
    story.now -= HOUR
    story.report(story.use())
    assert isinstance(story.ask(), Wait)


def test_a_clock_that_steps_back_does_not_keep_leases_for_ever() -> None:
    story = Story(provider("a", 1, limit(50)))
    story.use(session="before")
    story.now -= 24 * HOUR
    story.use(session="after")
    story.now += LEASE
    roll(story)
    assert (story.reserved("a"), story.ledger.state.totals["a"].in_flight) == (0, 0)


def test_a_clock_that_steps_back_does_not_make_what_follows_late() -> None:
    story = Story(provider("a"), provider("b", 2))
    story.settle(commands.reset(story.ledger.state, "cooldowns", None, story.now))
    story.now -= 7200
    story.refuse(story.use(), 60)
    assert story.use().provider == "b", "its refusal is no older than what is known of it"
    story.now += 61
    assert story.use(session=None).reason == "probe"


def test_a_clock_that_was_set_back_between_two_runs_does_not_make_what_follows_late() -> None:
    story = Story(provider("a"), provider("b", 2))
    for seconds in (30, 60):
        story.refuse(story.use(session=None))
        story.now += seconds
    story.report(story.use(session=None))
    story.now -= 7200
    story.restart()
    story.refuse(story.use(session=None), 60)
    assert story.use(session=None).provider == "b"


def test_what_a_provider_says_is_believed_after_the_clock_stepped_back() -> None:
    story = Story(provider("a"), provider("b", 2))
    left = {"x-ratelimit-limit-requests": "9", "x-ratelimit-reset-requests": "5h"}
    story.report(story.use(), headers=left | {"x-ratelimit-remaining-requests": "5"})
    story.now -= 7200
    story.report(story.use(), headers=left | {"x-ratelimit-remaining-requests": "0"})
    assert story.use().provider == "b"


def test_a_reset_by_hand_forgets_on_the_disk_what_had_ended() -> None:
    story = Story(provider("a"), provider("b", 2))
    story.refuse("a", 60)
    story.now += 3600
    story.restart()
    story.settle(commands.reset(story.ledger.state, "cooldowns", None, story.now))
    story.now -= 3590
    story.restart(boot="b3")
    assert story.use().provider == "a"


def test_a_clock_that_jumps_ahead_counts_a_request_once() -> None:
    story = Story(provider("a", 1, limit(50, "1d")))
    use = story.use()
    story.now += 2 * LEASE
    story.report(use)
    story.report(use)
    assert (story.used("a"), story.ledger.state.totals["a"].requests) == (1, 1)


def test_a_refund_goes_to_the_window_of_the_reservation_and_an_overage_to_the_current_one() -> None:
    story = Story(provider("a", 1, limit(1000, "1h", of="tokens")), now=NOON - 1)
    small, large = story.use(session="1", estimate=400), story.use(session="2", estimate=400)
    story.now = NOON
    story.report(small, usage=Usage(input=100))
    assert story.used("a") == 0
    story.report(large, usage=Usage(input=450))
    assert story.used("a") == 50


def test_tokens_of_a_lapsed_lease_are_replaced_by_the_figures_that_come_after_all() -> None:
    for finished in (False, True):
        story = Story(provider("a", 1, limit(1000, "1h", of="tokens")))
        use = story.use(estimate=600)
        if finished:
            story.report(use)
        story.settle(story.ledger.release([use.lease or ""], story.now))
        assert story.used("a") == 600
        if finished:
            story.meter(use.lease, input=100)
        else:
            story.report(use, usage=Usage(input=100))
        assert story.used("a") == 100, finished
        other = story.use(estimate=300)
        story.settle(story.ledger.release([other.lease or ""], story.now))
        story.restart()
        story.report(other, usage=Usage(input=350))
        assert story.used("a") == 450


def test_a_late_refusal_is_taken_off_the_hour_in_which_it_was_counted() -> None:
    story = Story(provider("a", 1, limit(5)), now=NOON + 3590)
    use = story.use()
    story.settle(story.ledger.release([use.lease or ""], story.now))
    story.now += 20
    story.refuse(use, after=1)
    counted = [(used.at, used.amount) for used in story.history if used.what == "requests"]
    assert counted == [(NOON + 3590, 1), (NOON + 3590, -1)]


def test_a_late_refusal_after_a_reset_leaves_no_negative_number() -> None:
    story = Story(provider("a", 1, limit(5)))
    use = story.use()
    story.settle(story.ledger.release([use.lease or ""], story.now))
    order(story, commands.reset, "counters", None)
    story.refuse(use, after=1)
    assert story.ledger.state.totals["a"].requests == 0


def test_a_late_refusal_gives_the_estimate_back_too() -> None:
    story = Story(provider("a", 1, limit(1000, "1h", of="tokens"), limit(5)))
    use = story.use(estimate=600)
    story.settle(story.ledger.release([use.lease or ""], story.now))
    story.refuse(use, after=1)
    assert (story.used("a", 0), story.used("a", 1)) == (0, 0)


@pytest.mark.parametrize("first", ["usage", "report"])
def test_usage_may_come_before_the_report_or_after_it_and_counts_once(first: str) -> None:
    story = Story(provider("a", 1, limit(1000, "1h", of="tokens"), limit(5)))
    use = story.use(estimate=600)
    for what in ("usage", "report") if first == "usage" else ("report", "usage"):
        if what == "usage":
            story.meter(use.lease, input=100)
        else:
            story.report(use)
    story.meter(use.lease, input=100)
    story.report(use, usage=Usage(input=70))
    assert (story.used("a", 0), story.reserved("a", 0), story.used("a", 1)) == (100, 0, 1)
    assert story.ledger.leases == {}


def test_usage_without_a_lease_counts() -> None:
    story = Story(provider("a", 1, limit(1000, "1h", of="tokens")))
    story.settle(story.ledger.meter(UsageReport(Usage(input=30, cache_read=10), provider="a", model=MODEL), NOON))
    story.settle(story.ledger.meter(UsageReport(Usage(input=30), provider="nobody", model=MODEL), NOON))
    assert story.used("a") == 40


def test_cost_and_cached_tokens_are_metered() -> None:
    story = Story(
        provider(
            "a",
            1,
            limit(5, "1d", of="cost"),
            limit(1000, "1d", of="input_tokens"),
            limit(1000, "1d", of="output_tokens"),
        ),
        provider("b", 2),
    )
    usage = Usage(input=10, output=20, reasoning=30, cache_read=40, cache_write=50, cost=5.25)
    story.report(story.use(estimate=15), usage=usage)
    assert [story.used("a", n) for n in range(3)] == [5.25, 100, 50]
    assert story.use().message == "a has used $5.25 of $5.00 per 1d until Tue 13 Jan 00:00; using b"


def test_a_report_without_a_lease_counts_at_its_end() -> None:
    story = Story(provider("a", 1, limit(50)))
    story.report("a", "accepted")
    story.report("a", "ok")
    story.report("a", "cancelled")
    story.report("a", "error", status=500)
    totals = story.ledger.state.totals["a"]
    assert (story.used("a"), totals.requests, totals.errors, totals.in_flight) == (2, 2, 1, 0)


def test_a_duplicate_with_another_outcome_gets_the_first_verdict_and_changes_nothing() -> None:
    story = Story(provider("a", 1, limit(50)), provider("b", 2))
    use = story.use()
    story.report(use)
    before = dict(story.facts)
    again = story.refuse(use, after=60)
    assert (again.duplicate, again.verdict.kind, again.next) == (True, "ok", None)
    assert story.report(use, "accepted").duplicate
    assert story.facts == before


def test_a_report_counts_for_the_provider_of_its_lease_whatever_it_says() -> None:
    story = Story(provider("a", 1, limit(50)), provider("b", 2, limit(50)))
    use = story.use()
    story.report("b", lease=use.lease)
    assert (story.used("a"), story.used("b")) == (1, 0)


def test_the_effective_remaining_is_the_smaller_and_local_use_is_taken_off() -> None:
    story = Story(provider("a", 1, limit(50)), provider("b", 2))
    story.report(story.use(session=None), headers=left(3))
    uses = [story.use(session=None) for _ in range(4)]
    assert [use.provider for use in uses] == ["a", "a", "a", "b"]
    assert uses[-1].message == "a says that no requests are left until 12:01:30; using b"
    story.report(uses[0], "error", status=500)
    assert story.use(session=None).provider == "a", "a refused one was no use"


def test_what_a_request_took_replaces_its_estimate_in_the_providers_window_too() -> None:
    story = Story(provider("a"), provider("b", 2))
    story.report(story.use(session=None), headers=left(1000, of="tokens"))
    story.report(story.use(session=None, estimate=100), usage=Usage(input=150, output=250))
    assert story.use(session=None, estimate=600).provider == "a"
    assert story.use(session=None, estimate=1).provider == "b"


def test_a_snapshot_of_a_request_that_began_before_the_one_already_held_is_dropped() -> None:
    story = Story(*TWO)
    old = story.use(session=None)
    story.now += 5
    new = story.use(session=None)
    story.now += 5
    story.report(new, headers=left(0))
    story.report(old, headers=left(50))
    assert story.use(session=None).provider == "b"


def test_a_window_has_rolled_over_only_when_its_reset_moved_by_a_minute_or_has_passed() -> None:
    for moved, stays in (("59s", True), ("61s", False)):
        story = Story(*TWO)
        first, second = story.use(session=None), story.use(session=None)
        story.report(first, headers=left(0, "1s"), started_at=NOON)
        story.report(second, headers=left(50, moved), started_at=NOON)
        assert (story.use(session=None).provider == "b") is stays, moved
        story.now += 1
        assert story.use(session=None).provider == "a"


def test_a_nearer_end_that_the_provider_names_later_is_believed_within_one_window() -> None:
    story = Story(*TWO)
    first, second = story.use(session=None), story.use(session=None)
    story.report(first, headers=left(5, "59s"))
    story.report(second, headers=left(0, "1s"))
    assert story.use(session=None).provider == "b"
    story.now += 1
    assert story.use(session=None).provider == "a"


def test_what_the_provider_says_survives_a_restart() -> None:
    story = Story(*TWO)
    story.report(story.use(session=None), headers=left(0))
    story.restart()
    assert story.use(session=None).provider == "b"
    story.now += 90
    story.restart(boot="b3")
    assert story.use(session=None).provider == "a"


def test_a_warning_is_raised_once_a_window_also_across_a_restart() -> None:
    story = Story(provider("a", 1, limit(10, warn_at=(0.5,))))
    for n in range(9):
        story.report(story.use())
        story.restart(boot=f"boot{n}")
    assert len(story.told("warning")) == 1
    story.report(story.use())
    story.now += HOUR + 1
    story.restart()
    for _ in range(2):
        story.report(story.use())
    story.now += HOUR
    roll(story)
    assert story.told("recovered") == [], "what ended while nobody was there is no news an hour later"


def test_a_rolling_limit_that_stays_nearly_full_is_told_once_a_window() -> None:
    story = Story(provider("a", 1, limit(60, "1m")), provider("b", 2))
    for _ in range(400):
        use = story.use(session=None)
        story.report(use)
        story.now += 0.5
        roll(story)
    told = [n for n in story.notices if n.event in {"exhausted", "recovered", "warning"}]
    assert len(told) <= 4 * 4, [n.message for n in told]


def test_what_is_told_of_limits_reads_like_a_sentence() -> None:
    story = Story(
        provider("a", 1, limit(1), limit(2_500_000, "1d", of="tokens", model=MODEL)),
        provider("b", 2),
        provider("c", 3, limit(1000, "1m", of="tokens")),
    )
    story.report(story.use(), usage=Usage(input=2_400_000))
    assert story.told("exhausted") == ["a has used 1 of 1 request per 1h, resets 13:00:00"]
    assert story.told("warning") == [
        f"a has used 2,400,000 of 2,500,000 tokens per 1d of {MODEL}, resets Tue 13 Jan 00:00"
    ]
    story.now += HOUR
    roll(story)
    assert story.told("reset") == ["a: a new window of 1 request per 1h begins"]
    assert story.use(session="x", estimate=200_000).message == (
        f"a has used 2,400,000 of 2,500,000 tokens per 1d of {MODEL} and this takes 200,000 "
        "until Tue 13 Jan 00:00; using b"
    )
    order(story, commands.enable, "b", enabled=False)
    waiting = story.wait(session="y", estimate=3_000_000)
    assert waiting.retry_at is None
    assert waiting.message == (
        f"no provider of {MODEL} can serve this request, and waiting will not help: "
        f"a never takes 3,000,000 at once: its limit is 2,500,000 tokens per 1d of {MODEL}; "
        "b is disabled (rlmctl enable b); "
        "c never takes 3,000,000 at once: its limit is 1,000 tokens per 1m"
    )
    assert waiting.brief == f"a/{MODEL} cannot take this; b/{MODEL} is disabled; c/{MODEL} cannot take this"


# 4. Who is next


def test_the_order_is_pin_then_session_then_agent_then_priority_then_flight_then_id() -> None:
    story = Story(*THREE, provider("d", 1), prefer="agent")
    assert story.use("c", session="s").provider == "c", "the agent asked for it"
    assert story.use("b", session="s").provider == "c", "the session is there"
    order(story, commands.pin, "b", None)
    assert story.use("a", session="s").provider == "b", "the person wants it"
    order(story, commands.pin, None, None)
    story = Story(*THREE, provider("d", 1))
    assert [story.use("c", session=None).provider for _ in range(3)] == ["a", "d", "a"]


def test_a_pin_on_a_provider_that_serves_only_the_fallback_waits_for_its_turn() -> None:
    story = Story(provider("a"), provider("b", 2, models=("llama",)), fallback={MODEL: ("llama",)})
    order(story, commands.pin, "b", None)
    assert story.use().provider == "a"
    quota(story, story.use(session="x"), after=600)
    use = story.use()
    assert (use.provider, use.model, use.reason) == ("b", "llama", "fallback_model")


def test_fallbacks_of_fallbacks_come_in_their_order_and_say_which_model_answers() -> None:
    story = Story(
        provider("a"),
        provider("b", 1, models=("llama",)),
        provider("c", 1, models=("qwen",)),
        provider("d", 9, models=("opus",)),
        fallback={MODEL: ("opus", "llama"), "opus": ("qwen",)},
    )
    order(story, commands.enable, "a", enabled=False)
    seen = []
    for _ in range(3):
        use = story.use(session=None)
        seen.append((use.provider, use.model))
        assert use.message.endswith(f"using {use.provider} with {use.model}")
        order(story, commands.enable, use.provider, enabled=False)
    assert seen == [("d", "opus"), ("c", "qwen"), ("b", "llama")]
    assert story.wait(session=None).retry_at is None


def test_a_fallback_that_fails_is_followed_by_the_next_one_for_what_was_asked() -> None:
    story = Story(
        provider("a"),
        provider("b", 1, models=("llama",)),
        provider("c", 1, models=("qwen",)),
        fallback={MODEL: ("llama", "qwen")},
    )
    quota(story, story.use(), after=600)
    use = next_use(story.refuse(story.use(), after=60))
    assert (use.provider, use.model, use.reason) == ("c", "qwen", "fallback_model")
    assert next_wait(story.refuse(story.use(), after=90)).retry_at == NOON + 60


def test_a_turn_that_is_over_by_silence_forgets_what_failed_also_for_a_title() -> None:
    story = Story(*TWO)
    story.report(story.use(), "error", status=500)
    story.now += 1800
    assert story.use(purpose="aux").provider == "a"


def test_headroom_counts_what_the_provider_itself_says_is_left() -> None:
    story = Story(provider("a", 1, limit(100)), provider("b", 1, limit(10)), strategy="headroom")
    story.report(story.use(session=None), headers=left(20))
    assert story.use(session=None).provider == "b", "99 of 100 by our count, 20 of 1,000 by its own"


def test_headroom_sees_one_account_as_one_window() -> None:
    story = Story(
        provider("a", 1, limit(4), account="key"),
        provider("b", 1, account="key"),
        provider("c", 9, limit(4)),
        strategy="headroom",
    )
    assert [story.use(session=None).provider for _ in range(8)] == ["a", "c", "b", "c", "a", "c", "b", "c"]


@pytest.mark.parametrize(
    ("failback", "after_a_minute", "after_six"), [("turn", "a", "a"), ("idle", "b", "a"), ("session", "b", "b")]
)
def test_a_session_returns_when_failback_says(failback: str, after_a_minute: str, after_six: str) -> None:
    story = Story(*TWO, failback=failback)
    story.refuse(story.use(), after=30)
    story.report(story.use())
    story.now += 60
    assert story.use(purpose="aux").provider == "b", "within the turn it stays"
    assert story.use(purpose="turn", dry_run=True).provider == after_a_minute
    story.now += 360
    assert story.use(purpose="turn").provider == after_six


def test_aux_requests_do_not_move_the_session() -> None:
    story = Story(*TWO)
    order(story, commands.rest, "a", None, NOON + 60, None)
    assert story.use(purpose="aux").provider == "b"
    story.now += 60
    assert story.use().provider == "a"


def test_patience_waits_for_the_sessions_own_provider_and_tells_no_lie() -> None:
    story = Story(*TWO, patience=3.0)
    order(story, commands.rest, "a", None, NOON + 2, None)
    waiting = story.wait()
    assert waiting.retry_at == NOON + 2
    assert waiting.message == "waiting for a until 12:00:02: a is cooling down until 12:00:02 (by hand)"
    assert story.told("all_limited") == [], "b could serve"
    story.now += 2
    assert story.use().provider == "a"


def test_patience_is_for_the_provider_the_session_has_not_for_a_better_one() -> None:
    story = Story(*TWO, patience=3.0)
    story.refuse(story.use(), after=60)
    assert story.use().provider == "b"
    story.now += 58
    assert story.use(purpose="turn").provider == "b", "nobody waits in order to move"
    story = Story(*THREE, patience=3.0)
    quota(story, story.use(), after=600)
    story.report(story.use())
    order(story, commands.rest, "b", None, NOON + 2, None)
    assert story.wait(purpose="turn").retry_at == NOON + 2, "nor is a conversation moved on from b to c"


def test_patience_passes_over_a_first_provider_that_is_disabled() -> None:
    story = Story(*THREE, patience=3.0)
    order(story, commands.enable, "a", enabled=False)
    order(story, commands.rest, "b", None, NOON + 2, None)
    assert story.wait().retry_at == NOON + 2


def test_patience_holds_for_a_pinned_provider_in_a_new_session() -> None:
    story = Story(*TWO, patience=3.0)
    order(story, commands.pin, "b", None)
    order(story, commands.rest, "b", None, NOON + 2, None)
    assert story.wait().retry_at == NOON + 2


@pytest.mark.parametrize("failback", ["turn", "idle", "session"])
@pytest.mark.parametrize(("first", "second"), [(2000, 1999), (1999, 2000)])
def test_at_the_time_that_is_named_the_request_is_admitted_also_when_the_turn_has_ended_by_then(
    failback: str, first: float, second: float
) -> None:
    story = Story(*TWO, patience=3.0, failback=failback)
    story.refuse(story.use(), after=first)
    story.refuse(story.use(), after=second)
    waiting = story.wait()
    assert waiting.retry_at is not None
    story.now = waiting.retry_at
    assert isinstance(story.ask(), Use)


def test_next_of_a_report_knows_how_large_the_request_is() -> None:
    small = provider("b", 2, context=100)
    story = Story(provider("a"), small, provider("c", 3))
    assert next_use(story.refuse(story.use(estimate=500), after=60)).provider == "c"
    story = Story(provider("a"), provider("b", 2, limit(100, "1m", of="tokens")), provider("c", 3))
    assert next_use(story.refuse(story.use(estimate=500), after=60)).provider == "c"


def test_a_request_that_is_too_long_goes_only_to_a_larger_model_and_stays_there() -> None:
    too_long = '{"error":{"code":"context_length_exceeded","message":"maximum context length is 100 tokens"}}'
    large = provider("b", 2, context=1000)
    story = Story(provider("a", 1, context=100), provider("c", 1, context=100), large, provider("d", 3))
    recorded = story.report(story.use(), "error", status=400, body=too_long)
    assert (recorded.verdict.kind, next_use(recorded).provider) == ("context", "b")
    assert story.told("switched") == ["a has no larger context window; using b"]
    assert [(used.provider, used.what) for used in story.history if used.what == "switches"] == [("a", "switches")]
    assert story.use().provider == "b"
    assert len(story.told("switched")) == 1, "once"
    alone = Story(provider("a", 1, context=100), provider("d", 3))
    assert alone.report(alone.use(), "error", status=400, body=too_long).next is None
    unknown = Story(provider("a"), large)
    assert unknown.report(unknown.use(), "error", status=400, body=too_long).next is None


def test_a_model_whose_context_is_smaller_than_the_estimate_is_passed_over() -> None:
    story = Story(provider("a", 1, context=100), provider("b", 2))
    use = story.use(estimate=101)
    assert (use.provider, use.reason) == ("b", "limit")
    assert story.use(estimate=100, session="x").provider == "a"


def test_where_a_cooldown_and_a_full_limit_meet_the_later_one_is_told() -> None:
    story = Story(provider("a", 1, limit(1)), provider("b", 2))
    story.report(story.use())
    order(story, commands.rest, "a", None, NOON + 60, None)
    assert story.use(session="x").message == "a has used 1 of 1 request per 1h until 13:00:00; using b"
    order(story, commands.rest, "a", None, NOON + 2 * HOUR, None)
    assert story.use(session="y").message == "a is cooling down until 14:00:00 (by hand); using b"


def test_no_ping_pong_within_a_turn_also_with_fallback_models() -> None:
    both = (MODEL, "llama")
    story = Story(provider("a", 1, models=both), provider("b", 2, models=both), fallback={MODEL: ("llama",)})
    recorded = story.report(story.use(), "error", status=500)
    assert (next_use(recorded).provider, next_use(recorded).model) == ("b", MODEL)
    recorded = story.report(story.use(), "error", status=429, body=THROTTLED_MODEL, headers={"retry-after": "60"})
    use = next_use(recorded)
    assert (use.provider, use.model) == ("a", MODEL), "both failed: the first is the last resort"
    assert story.use(purpose="turn").provider == "a", "a new turn forgets"


def test_the_last_one_is_taken_although_it_failed() -> None:
    story = Story(*TWO)
    story.report(story.use(), "error", status=500)
    quota(story, story.use(), after=600)
    use = story.use()
    assert (use.provider, use.reason) == ("a", "preferred")


def test_nobody_left_is_told_once_also_where_a_report_finds_it_out() -> None:
    story = Story(*TWO)
    quota(story, story.use(), after=600)
    assert next_wait(quota(story, story.use(), after=300)).retry_at == NOON + 300
    assert len(story.told("all_limited")) == 1
    story.wait()
    assert len(story.told("all_limited")) == 1


def test_a_turn_is_opened_by_a_step_and_not_by_a_title() -> None:
    story = Story(*TWO)
    story.report(story.use(), "error", status=500)
    assert story.use(purpose="aux").provider == "b"
    story.now += 1800
    assert story.use().provider == "a"


def test_a_decision_costs_the_same_with_a_thousand_providers_and_all_sessions() -> None:
    few = Story(*TWO)
    others = [provider(f"p{n}", 1, models=tuple(f"m{n}-{k}" for k in range(10))) for n in range(1000)]
    many = Story(*TWO, *others)
    for n in range(500):
        many.report(many.use(session=str(n)))

    def cost(story: Story) -> float:
        """Of the fastest of many: whatever else the machine does only adds."""
        best = 1.0
        for _ in range(300):
            began = time.perf_counter()
            for _ in range(10):
                story.ledger.acquire(Acquire("a", MODEL, session="s", dry_run=True), story.now)
            best = min(best, time.perf_counter() - began)
        return best

    assert cost(many) < cost(few) * 1.5


def test_explain_tells_what_the_next_request_gets() -> None:
    story = Story(*THREE)
    story.refuse(story.use(), after=60)
    story.use()
    found = story.ledger.explain(MODEL, "s", NOON)
    assert found is not None
    ask, ordered, choice = found
    assert ask.sticky == "b"
    assert [t.provider.id for t in ordered] == ["b", "a", "c"]
    assert choice.target is not None
    assert choice.target.provider.id == "b"
    assert story.ledger.explain("nobody", None, NOON) is None


# 5. Fleet manners, and what a person does


def test_the_recovery_of_an_account_names_its_providers() -> None:
    story = Story(provider("a", 1, limit(1), account="key"), provider("b", 2, account="key"))
    story.report(story.use())
    quota(story, "a", after=60)
    story.now += 60
    roll(story)
    told = [(n.provider, n.message) for n in story.notices if n.event == "recovered"]
    assert told == [("a", "a and b may be used again: their cooldown is over")]
    story.now = NOON + HOUR
    roll(story)
    told = [(n.provider, n.message) for n in story.notices if n.event in {"recovered", "reset"}][1:]
    assert told == [
        ("a", "a and b: a new window of 1 request per 1h begins"),
        ("a", "a and b may be used again: their limit per 1h has room"),
    ]


def test_the_recovery_of_a_model_names_it() -> None:
    story = Story(provider("team/a"), provider("b", 2))
    story.refuse(story.use("team/a"), after=60, body=THROTTLED_MODEL)
    story.now += 60
    roll(story)
    [notice] = [n for n in story.notices if n.event == "recovered"]
    assert (notice.provider, notice.model) == ("team/a", MODEL)
    assert notice.message == f"team/a/{MODEL} may be used again: its cooldown is over"


def test_who_is_no_longer_configured_is_not_announced() -> None:
    story = Story(*TWO)
    story.refuse(story.use(), after=60)
    reload(story, provider("b", 2))
    story.now += 60
    roll(story)
    assert story.told("recovered") == []


def test_roll_announces_everything_once_and_next_deadline_knows_when() -> None:
    story = Story(provider("a", 1, limit(2)), provider("b", 2))
    story.report(story.use())
    story.refuse(story.use(session="x"), after=60)
    story.use(session="y")
    expected = [NOON + 60, NOON + LEASE, NOON + HOUR]
    for at in expected:
        assert story.ledger.next_deadline() == at
        story.now = at
        roll(story)
        before = len(story.notices)
        roll(story)
        assert len(story.notices) == before
    assert story.ledger.next_deadline() is None
    assert all(a <= b for a, b in pairwise(n.at for n in story.notices))


def test_a_rest_ordered_twice_ends_once() -> None:
    story = Story(*TWO)
    for _ in range(2):
        order(story, commands.rest, "a", MODEL, NOON + 60, "lunch")
    assert story.told("state") == [f"a/{MODEL} rests until 12:01:00 (lunch)"] * 2
    story.now += 60
    roll(story)
    assert len(story.told("recovered")) == 1


def test_a_rest_ordered_by_hand_is_the_last_word_on_its_end() -> None:
    story = Story(*TWO)
    under_way = story.use()
    order(story, commands.rest, "a", None, NOON + 8 * HOUR, None)
    story.now += 7 * HOUR
    story.report(under_way)
    assert story.use(session="new", purpose="aux").provider == "b", "nobody tries it early"
    order(story, commands.rest, "a", None, story.now + 60, None)
    story.now += 60
    assert story.use(session="newer").provider == "a"


def test_a_changed_configuration_is_the_last_word_on_who_is_enabled() -> None:
    for away in (False, True):
        story = Story(*TWO)
        order(story, commands.enable, "a", enabled=False)
        story.reload(story.policy)
        story.restart()
        assert story.use().provider == "b", "the configuration says what it said: the order holds"
        for enabled, taken in ((False, "b"), (True, "a")):
            story.policy = Story(provider("a", enabled=enabled), provider("b", 2)).policy
            if away:
                story.restart()
            else:
                story.reload(story.policy)
            assert story.use(session=None).provider == taken


def test_a_reset_of_everything_forgets_who_was_enabled_or_disabled_by_hand() -> None:
    story = Story(provider("a", enabled=False), provider("b", 2))
    order(story, commands.enable, "a", enabled=True)
    order(story, commands.reset, "cooldowns", "a")
    assert story.use(session=None).provider == "a"
    order(story, commands.reset, "all", "a")
    assert story.told("reset")[-1] == (
        "counters and cooldowns of a were reset by hand; a is disabled again, as the configuration says"
    )
    story.restart()
    assert story.use(session=None).provider == "b"


def test_enabling_by_hand_beats_the_configuration() -> None:
    story = Story(provider("a", enabled=False), provider("b", 2))
    assert story.use("a").reason == "disabled"
    order(story, commands.enable, "a", enabled=True)
    story.restart()
    assert story.use("a").provider == "a"
    assert story.told("state") == ["a is enabled by hand"]


def test_a_reset_forgets_counts_or_cooldowns_of_one_or_of_all() -> None:
    story = Story(provider("a", 1, limit(2)), provider("b", 2, limit(2)))
    story.report(story.use("a"), headers=left(0))
    story.refuse("b", after=600)
    under_way = story.reserved("a")
    order(story, commands.reset, "counters", "a")
    assert (story.used("a"), story.reserved("a"), story.ledger.state.totals["a"].requests) == (0, under_way, 0)
    assert breaker(story, "account:b").opened
    order(story, commands.reset, "all", None)
    assert not breaker(story, "account:b").opened
    assert story.told("reset") == [
        "counters of a were reset by hand",
        "counters and cooldowns of all providers were reset by hand",
    ]
    story.restart()
    assert story.use("a").reason == "preferred"
    assert story.use("b", session="x").message == "using a"


def test_orders_refuse_names_that_nobody_configured() -> None:
    story = Story(*TWO, provider("c", 3, models=("llama",)))
    state = story.ledger.state
    with pytest.raises(commands.UnknownNameError, match="there are: a, b, c"):
        commands.enable(state, "x", NOON, enabled=True)
    with pytest.raises(commands.UnknownNameError, match="there are: a, b, c"):
        commands.reset(state, "all", "x", NOON)
    with pytest.raises(commands.UnknownNameError, match="there are: sonnet"):
        commands.rest(state, "a", "x", NOON + 1, None, NOON)
    with pytest.raises(commands.UnknownNameError, match="there are: a, b, c"):
        commands.pin(state, "x", None, NOON)
    with pytest.raises(commands.UnknownNameError, match="there are: llama, sonnet"):
        commands.pin(state, "a", "x", NOON)
    with pytest.raises(commands.UnknownNameError, match="c serves no model 'sonnet'"):
        commands.pin(state, "c", MODEL, NOON)


def test_a_pin_is_told_and_taken_back() -> None:
    story = Story(*TWO)
    order(story, commands.pin, "b", MODEL)
    assert (story.use().provider, story.ledger.state.current) == ("b", "b")
    order(story, commands.pin, None, MODEL)
    order(story, commands.pin, "b", None)
    order(story, commands.pin, None, None)
    assert story.use(session="x").provider == "a"
    assert story.told("state") == [
        f"b is used first for {MODEL} until you say otherwise",
        f"the choice of the provider is automatic again for {MODEL}",
        "b is used first until you say otherwise",
        "the choice of the provider is automatic again",
    ]


# Reload and restart


def test_a_reload_away_and_back_loses_no_request_under_way() -> None:
    with_limit, without = provider("a", 1, limit(2)), provider("a", 1)
    story = Story(with_limit, provider("b", 2))
    under_way = story.use(session="1")
    reload(story, without, provider("b", 2))
    reload(story, with_limit, provider("b", 2))
    assert story.reserved("a") == 1
    story.report(under_way)
    assert (story.used("a"), story.reserved("a")) == (1, 0)
    story.report(story.use(session="2"))
    story.restart()
    assert story.used("a") == 2
    assert story.use(session="3").provider == "b"


def test_a_provider_that_is_taken_out_keeps_nothing_waiting_and_is_never_named() -> None:
    story = Story(provider("a", 1, limit(5)), provider("b", 2))
    use = story.use()
    order(story, commands.pin, "a", None)
    reload(story, provider("b", 2))
    recorded = story.refuse(use, after=60)
    assert next_use(recorded).provider == "b"
    assert story.ledger.leases == {}
    assert story.use("b").provider == "b"
    assert story.ledger.state.current is None
    reload(story, provider("a", 1, limit(5)), provider("b", 2))
    assert (story.used("a"), story.reserved("a"), story.ledger.state.totals["a"].in_flight) == (0, 0, 0)
    assert story.use("b", session="x").provider == "b", "its cooldown is still known"


def test_a_model_that_is_taken_out_while_its_request_is_under_way() -> None:
    story = Story(provider("a", 1, limit(5), models=(MODEL, "haiku")), provider("b", 2, models=("haiku",)))
    use = story.use(model="haiku")
    reload(story, provider("a", 1, limit(5)))
    recorded = story.refuse(use, after=60)
    assert recorded.next is None, "nobody serves it any more"
    assert (story.used("a"), story.reserved("a")) == (0, 0)


def test_a_request_goes_on_with_its_provider_of_the_same_name_after_a_reload() -> None:
    story = Story(*TWO)
    lone = Story(provider("a"))
    for told in (story, lone):
        use = told.use()
        told.reload(told.policy)
        recorded = told.report(use, "error", status=500, headers=left(1))
        if told is lone:
            assert recorded.next is None, "to send it back to where it failed is no next"
    story.restart()
    assert [story.use(session=None).provider for _ in range(2)] == ["a", "b"], "what the answer said is known"


def test_a_changed_account_begins_anew_and_the_old_one_settles_its_own() -> None:
    story = Story(provider("a", 1, limit(2), account="old"), provider("b", 2))
    quota(story, story.use(), after=60)
    story.now += 60
    probe = story.use(session="x")
    reload(story, provider("a", 1, limit(2), account="new"), provider("b", 2))
    assert story.use(session="y").provider == "a"
    story.report(probe)
    assert story.used("a") == 0
    assert not breaker(story, "account:old").opened
    reload(story, provider("a", 1, limit(2), account="old"), provider("b", 2))
    assert story.used("a") == 1


def test_a_renamed_model_of_the_agent_is_the_same_model() -> None:
    base = provider("a", 1, limit(2))
    story = Story(replace(base, models={MODEL: ProviderModel("old")}))
    use = story.use("a", model="old")
    reload(story, replace(base, models={MODEL: ProviderModel("new")}))
    story.report(use, model="old")
    assert story.used("a") == 1
    assert story.use("a", model="new").model == "new"


def test_a_request_under_way_counts_in_a_limit_that_a_reload_adds() -> None:
    story = Story(*TWO)
    use, refused = story.use(session="1", estimate=70), story.use(session="2")
    story.report(accepted := story.use(session="3"), "accepted")
    more = provider("a", 1, limit(3), limit(1000, "1m", of="tokens"))
    reload(story, more, provider("b", 2))
    assert (story.reserved("a", 0), story.reserved("a", 1)) == (2, 70), "what was accepted before is in the past"
    story.report(use, usage=Usage(input=50))
    story.refuse(refused, after=1)
    story.report(accepted)
    assert (story.used("a", 0), story.reserved("a", 0), story.used("a", 1)) == (1, 0, 50)


def test_a_raised_limit_is_told_anew() -> None:
    story = Story(provider("a", 1, limit(10, "month")), provider("b", 2))
    for _ in range(10):
        story.report(story.use(session=None))
    assert story.told("exhausted") == ["a has used 10 of 10 requests per month, resets Sun 1 Feb 00:00"]
    reload(story, provider("a", 1, limit(40, "month")), provider("b", 2))
    assert story.told("recovered") == ["a may be used again: its limit per month has room"]
    for _ in range(30):
        story.report(story.use(session=None))
    assert story.told("warning")[1:] == [
        f"a has used {used} of 40 requests per month, resets Sun 1 Feb 00:00" for used in (32, 38)
    ]
    assert story.told("exhausted")[1:] == ["a has used 40 of 40 requests per month, resets Sun 1 Feb 00:00"]


@pytest.mark.parametrize("away", [False, True])
def test_a_lowered_limit_is_told_at_once_and_its_end_too(away: bool) -> None:
    story = Story(provider("a", 1, limit(20)), provider("b", 2))
    for _ in range(8):
        story.report(story.use(session=None))
    story.policy = Story(provider("a", 1, limit(5)), provider("b", 2)).policy
    if away:
        story.restart()
    else:
        story.reload(story.policy)
    assert story.told("exhausted") == ["a has used 8 of 5 requests per 1h, resets 13:00:00"]
    story.reload(story.policy)
    story.restart(boot="b3")
    assert len(story.told("exhausted")) == 1, "once"
    story.now += HOUR
    roll(story)
    assert story.told("recovered") == ["a may be used again: its limit per 1h has room"]


def test_a_journey_keeps_the_count_of_an_hour_where_the_hours_are_the_same() -> None:
    zones = {"Europe/Berlin": 3, "America/New_York": 3, "Asia/Kolkata": 0}
    story = Story(provider("a", 1, limit(9, zone=ZoneInfo("Europe/Berlin"))))
    for _ in range(3):
        story.report(story.use(session=None))
    for zone, used in zones.items():
        reload(story, provider("a", 1, limit(9, zone=ZoneInfo(zone))))
        assert story.used("a") == used, zone


def test_a_count_that_an_older_rlmd_kept_by_its_zone_goes_on() -> None:
    story = Story(provider("a", 1, limit(9, zone=ZoneInfo("Europe/Berlin"))))
    story.report(story.use())
    kept = story.facts.pop(("window", "a|requests/1h/calendar/*/UTC"))
    story.facts["window", "a|requests/1h/calendar/*/Europe/Berlin"] = kept
    story.restart()
    assert story.used("a") == 1


def test_a_lowered_limit_holds_at_once() -> None:
    story = Story(provider("a", 1, limit(5)), provider("b", 2))
    for _ in range(3):
        story.report(story.use())
    reload(story, provider("a", 1, limit(3)), provider("b", 2))
    assert story.use(session="x").provider == "b"
    reload(story, provider("a", 1, limit(4)), provider("b", 2))
    assert story.use(session="y").provider == "a"


def test_a_cooldown_by_default_follows_the_configuration() -> None:
    story = Story(*TWO, cooldown=Cooldown(default=120.0, throttle=7.0))
    assert story.refuse(story.use()).verdict.until == NOON + 7
    assert story.report(story.use(), "error", status=429, body=QUOTA).verdict.until == NOON + 120
