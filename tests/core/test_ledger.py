"""The aggregate on virtual time: what requests, refusals, restarts and silence do."""

from __future__ import annotations

import pytest
from story import MODEL, NOON, Story, limit, provider

from rlmd.core.expression import Expression
from rlmd.core.leases import LEASE
from rlmd.core.model import Cooldown, Pass, Pattern, Use, Wait

TWO = (provider("a", 1), provider("b", 2))


def test_the_best_priority_answers() -> None:
    story = Story(*TWO)
    use = story.use("a")
    assert (use.provider, use.model, use.switched, use.reason) == ("a", MODEL, False, "preferred")


def test_what_nobody_configured_is_passed() -> None:
    story = Story(*TWO)
    assert isinstance(story.ask("a", model="unknown"), Pass)
    assert isinstance(story.ask("elsewhere"), Pass)


def test_a_throttled_provider_is_left_in_the_same_turn() -> None:
    story = Story(*TWO)
    recorded = story.refuse(story.use(), after=60)
    assert (recorded.verdict.kind, recorded.verdict.until) == ("throttle", NOON + 60)
    assert isinstance(recorded.next, Use)
    assert (recorded.next.provider, recorded.next.switched, recorded.next.reason) == ("b", True, "cooldown")
    assert recorded.next.lease is None
    assert recorded.next.message == "a is cooling down until 12:01:00 (throttle); using b"
    assert story.use().provider == "b"


def test_the_next_turn_goes_there_at_once_and_comes_back_when_the_cooldown_ends() -> None:
    story = Story(*TWO)
    story.refuse(story.use(), after=60)
    story.report(story.use())
    assert story.use(purpose="turn").provider == "b"
    story.now += 59.9
    assert story.use(purpose="turn").provider == "b"
    story.now += 0.1
    back = story.use(purpose="turn")
    assert (back.provider, back.reason) == ("a", "probe")
    assert story.told("switched") == [
        "a is cooling down until 12:01:00 (throttle); using b",
        "using a",
    ]


def test_a_switch_away_from_who_rests_says_until_when_and_another_one_does_not() -> None:
    story = Story(*TWO)
    story.refuse(story.use(), after=60)
    story.report(story.use())
    story.now += 60
    story.use(purpose="turn")
    switches = [notice for notice in story.notices if notice.event == "switched"]
    assert [(notice.provider, notice.until) for notice in switches] == [("a", NOON + 60), ("b", None)]


def test_another_model_that_its_provider_does_not_have_is_no_switch() -> None:
    story = Story(*TWO, provider("c", 3, models=("other",)))
    story.report(story.use("a"))
    chosen = story.use("c", purpose="turn", model="other")
    assert (chosen.provider, chosen.reason, story.told("switched")) == ("c", "preferred", [])
    story.refuse("a", after=60)
    assert story.use("a", purpose="turn").provider == "b"
    assert [(notice.provider, notice.to) for notice in story.notices if notice.event == "switched"] == [("a", "b")]


def test_within_a_turn_a_session_stays_where_it_is() -> None:
    story = Story(*TWO)
    story.refuse(story.use(), after=60)
    story.report(story.use())
    story.now += 61
    staying = story.use("a")
    assert (staying.provider, staying.reason) == ("b", "sticky")


def test_a_turn_ends_after_half_an_hour_of_silence() -> None:
    story = Story(*TWO)
    story.refuse(story.use(), after=60)
    story.report(story.use())
    story.now += 1800
    assert story.use().provider == "a"


@pytest.mark.parametrize(("failback", "after_a_minute", "after_six"), [("idle", "b", "a"), ("session", "b", "b")])
def test_failback_can_be_slower(failback: str, after_a_minute: str, after_six: str) -> None:
    story = Story(*TWO, failback=failback)
    story.refuse(story.use(), after=30)
    story.report(story.use())
    story.now += 60
    assert story.use(purpose="turn").provider == after_a_minute
    story.now += 300
    assert story.use(purpose="turn").provider == after_six


def test_a_full_limit_switches_before_the_error() -> None:
    story = Story(provider("a", 1, limit(3)), provider("b", 2))
    for _ in range(3):
        story.report(story.use())
    fourth = story.use()
    assert (fourth.provider, fourth.reason) == ("b", "limit")
    assert fourth.message == "a has used 3 of 3 requests per 1h until 13:00:00; using b"
    assert story.told("exhausted") == ["a has used 3 of 3 requests per 1h, resets 13:00:00"]


def test_requests_under_way_are_reserved() -> None:
    story = Story(provider("a", 1, limit(2)), provider("b", 2))
    first, second = story.use(session="1"), story.use(session="2")
    assert {first.provider, second.provider} == {"a"}
    assert story.use(session="3").provider == "b"
    story.refuse(first, after=1)
    assert (story.used("a"), story.reserved("a")) == (0, 1)


def test_asking_only_reserves_nothing() -> None:
    story = Story(provider("a", 1, limit(1)))
    assert story.use(purpose="turn").lease is None
    assert story.use(dry_run=True).lease is None
    assert story.reserved("a") == 0
    assert len(story.ledger.sessions) == 1, "a turn is remembered, a dry run is not"


def test_a_refused_request_is_given_back_and_counted_as_an_error() -> None:
    story = Story(provider("a", 1, limit(50)))
    story.refuse(story.use(), after=5)
    totals = story.ledger.state.totals["a"]
    assert (story.used("a"), story.reserved("a"), totals.requests, totals.errors) == (0, 0, 0, 1)


def test_a_request_counts_once_it_is_accepted() -> None:
    story = Story(provider("a", 1, limit(50)))
    use = story.use()
    story.report(use, "accepted")
    assert (story.used("a"), story.reserved("a")) == (1, 0)
    story.report(use, "ok")
    assert story.used("a") == 1


def test_an_error_after_the_first_byte_still_counts_the_request() -> None:
    story = Story(*TWO)
    story = Story(provider("a", 1, limit(50)), provider("b", 2))
    use = story.use()
    story.report(use, "accepted")
    body = 'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'
    recorded = story.report(use, "error", status=200, body=body)
    assert recorded.verdict.kind == "overloaded"
    assert (story.used("a"), story.ledger.state.totals["a"].errors) == (1, 1)


def test_the_same_lease_reported_twice_counts_once_also_after_a_restart() -> None:
    story = Story(provider("a", 1, limit(50)), provider("b", 2))
    ok, refused = story.use(session="1"), story.use(session="2")
    story.report(ok)
    first = story.refuse(refused, after=60)
    for _ in range(2):
        again, twice = story.report(ok), story.refuse(refused, after=60)
        assert (again.duplicate, twice.duplicate, twice.verdict) == (True, True, first.verdict)
        assert (story.used("a"), story.ledger.state.totals["a"].errors) == (1, 1)
        story.restart()


def test_a_report_for_a_lease_of_a_former_daemon_counts() -> None:
    story = Story(provider("a", 1, limit(50)))
    use = story.use()
    story.restart()
    assert story.used("a") == 0
    assert not story.report(use).duplicate
    assert story.report(use).duplicate
    assert story.used("a") == 1


def test_accepted_before_a_restart_and_finished_after_it_counts_once() -> None:
    story = Story(provider("a", 1, limit(50)))
    use = story.use()
    story.report(use, "accepted")
    story.restart()
    assert not story.report(use, "ok").duplicate
    assert story.used("a") == 1


def test_a_lease_nobody_reports_counts_and_is_let_go() -> None:
    story = Story(provider("a", 1, limit(50)))
    story.use()
    story.now += LEASE
    story.settle(story.ledger.roll(story.now))
    assert (story.used("a"), story.reserved("a"), story.ledger.state.totals["a"].in_flight) == (1, 0, 0)


def test_a_late_refusal_of_a_lapsed_lease_gives_the_request_back_once() -> None:
    story = Story(provider("a", 1, limit(50)))
    use = story.use()
    story.settle(story.ledger.release([use.lease or ""], story.now))
    assert story.used("a") == 1
    story.refuse(use, after=5)
    story.refuse(use, after=5)
    totals = story.ledger.state.totals["a"]
    assert (story.used("a"), totals.requests, totals.errors) == (0, 0, 1)


def test_a_late_success_of_a_lapsed_lease_counts_no_second_time() -> None:
    story = Story(provider("a", 1, limit(50)))
    use = story.use()
    story.settle(story.ledger.release([use.lease or ""], story.now))
    story.report(use)
    assert (story.used("a"), story.ledger.state.totals["a"].requests) == (1, 1)


def test_everything_durable_is_there_after_a_restart() -> None:
    story = Story(provider("a", 1, limit(50)), provider("b", 2, limit(50)))
    story.report(story.use())
    story.refuse(story.use(), after=600)
    story.restart()
    assert story.used("a") == 1
    assert story.use().provider == "b"
    assert story.ledger.state.current == "a"
    assert story.ledger.state.totals["a"].errors == 1


def test_a_cooldown_that_ended_while_the_daemon_was_away_is_dropped() -> None:
    story = Story(*TWO)
    story.refuse(story.use(), after=60)
    story.now += 61
    story.restart()
    back = story.use(purpose="turn")
    assert (back.provider, back.reason) == ("a", "preferred")


def test_after_a_block_one_probe_goes_first() -> None:
    story = Story(*TWO)
    story.refuse(story.use(), after=60)
    story.now += 60
    probe = story.use(session="1")
    assert (probe.provider, probe.reason) == ("a", "probe")
    assert story.use(session="2").provider == "b"
    story.report(probe, "accepted")
    assert story.use(session="3").provider == "a"


def test_a_probe_that_is_cancelled_or_lost_makes_room_for_the_next() -> None:
    story = Story(*TWO)
    story.refuse(story.use(), after=60)
    story.now += 60
    story.report(story.use(session="1"), "cancelled")
    lost = story.use(session="2")
    assert lost.reason == "probe"
    story.settle(story.ledger.release([lost.lease or ""], story.now))
    assert story.use(session="3").reason == "probe"


def test_who_asks_while_a_probe_is_out_waits_for_its_outcome_and_not_for_its_lease() -> None:
    story = Story(provider("a"))
    story.refuse(story.use(session="1"), after=10)
    story.now += 10
    probe = story.use(session="2")
    assert story.wait(session="3").retry_at == story.now + 20
    story.now += 20
    assert story.use(session="3").reason == "probe", "the first one is slow: the next tries beside it"
    story.report(probe, "accepted")
    assert story.use(session="4").reason == "preferred", "and slow evidence is still evidence"


def test_a_session_that_stays_says_why_it_did_not_get_what_was_asked_for() -> None:
    story = Story(provider("a", 1, limit(1)), provider("b", 2))
    story.report(story.use())
    story.report(story.use())
    again = story.use("a")
    assert (again.provider, again.reason) == ("b", "limit")
    assert again.message == "a has used 1 of 1 request per 1h until 13:00:00; using b"


def test_an_agent_whose_clock_is_off_by_years_makes_no_late_reports() -> None:
    story = Story(*TWO)
    story.refuse(story.use(), after=60)
    story.report(story.use("b"))
    story.now += 61
    story.report(story.use(purpose="step", session="x"), "ok")
    use = story.use(session="y")
    assert story.refuse(use, started_at=0.0).verdict.until is not None


def test_twenty_parallel_refusals_are_one_cooldown_and_the_same_answer() -> None:
    story = Story(*TWO)
    uses = [story.use(session=str(n)) for n in range(20)]
    nexts = [story.refuse(use, session=str(n)).next for n, use in enumerate(uses)]
    assert {n.provider for n in nexts if isinstance(n, Use)} == {"b"}
    assert len(story.told("state")) == 1
    assert story.ledger.state.breakers["account:a"].level == 1


def test_all_limited_says_from_when_somebody_may_serve() -> None:
    story = Story(*TWO)
    story.refuse(story.use(), after=600)
    recorded = story.refuse(story.use(), after=300)
    assert isinstance(recorded.next, Wait)
    assert recorded.next.retry_at == NOON + 300
    waiting = story.wait()
    assert [(r.provider, r.state, r.until) for r in waiting.refusals] == [
        ("b", "open", NOON + 300),
        ("a", "open", NOON + 600),
    ], "the session's own provider first"
    assert waiting.brief == f"b/{MODEL} rests until 12:05:00; a/{MODEL} rests until 12:10:00"
    story.wait(session="other")
    assert len(story.told("all_limited")) == 1
    story.now = NOON + 300
    assert story.use().provider == "b"


def test_time_cannot_help_where_all_are_disabled() -> None:
    story = Story(provider("a", enabled=False), provider("b", enabled=False))
    waiting = story.wait()
    assert waiting.retry_at is None
    assert "waiting will not help" in waiting.message


def test_time_cannot_help_a_request_that_never_fits() -> None:
    story = Story(provider("a", 1, limit(1000, "1m", of="tokens")))
    assert story.wait(estimate=1001).retry_at is None
    assert story.use(estimate=1000).provider == "a"


def test_patience_waits_for_a_provider_that_is_nearly_back_once() -> None:
    story = Story(*TWO, patience=3.0)
    recorded = story.refuse(story.use(), after=2)
    assert isinstance(recorded.next, Wait)
    assert recorded.next.retry_at == NOON + 2
    story.now += 2
    recorded = story.refuse(story.use(), after=2)
    assert isinstance(recorded.next, Use)
    assert recorded.next.provider == "b"


def test_a_transient_failure_moves_this_request_only() -> None:
    story = Story(*TWO)
    recorded = story.report(story.use(), "error", status=500)
    assert (recorded.verdict.kind, recorded.verdict.until) == ("transient", None)
    assert isinstance(recorded.next, Use)
    assert recorded.next.provider == "b"
    assert story.use().provider == "b", "no ping-pong within the turn"
    assert story.use(purpose="turn").provider == "a"


def test_an_error_that_the_answer_does_not_show_is_transient() -> None:
    story = Story(*TWO)
    assert story.report(story.use(), "error", status=200, body="data: {}").verdict.kind == "transient"


def test_a_provider_that_failed_in_this_turn_is_taken_as_the_last_one() -> None:
    story = Story(*TWO)
    story.report(story.use(), "error", status=500)
    story.refuse(story.use(), after=60)
    assert story.use().provider == "a"


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_bad_request_moves_and_rests_nothing(status: int) -> None:
    story = Story(*TWO)
    recorded = story.report(story.use(), "error", status=status, body='{"error":{"message":"Invalid: 429"}}')
    assert (recorded.next, recorded.verdict.until) == (None, None)
    assert story.use().provider == "a"


def test_a_bad_key_is_told_and_neither_hidden_nor_rested() -> None:
    story = Story(*TWO)
    recorded = story.report(story.use(), "error", status=401, body='{"error":{"message":"Incorrect API key"}}')
    assert (recorded.verdict.kind, recorded.next) == ("auth", None)
    assert len(story.told("auth")) == 1
    assert story.use().provider == "a"


def test_too_long_for_one_model_goes_to_a_longer_one_only() -> None:
    short = provider("a", context=1000)
    long = provider("c", 3, context=2000)
    body = '{"error":{"code":"context_length_exceeded","message":"maximum context length is 1000 tokens"}}'
    story = Story(short, provider("b", 2), long)
    use = story.use()
    recorded = story.report(use, "error", status=400, body=body)
    assert isinstance(recorded.next, Use)
    assert recorded.next.provider == "c"
    assert story.use().provider == "c", "the rest of the turn is as long"
    alone = Story(short, provider("b", 2))
    assert not isinstance(alone.report(alone.use(), "error", status=400, body=body).next, Use)
    assert alone.use().provider == "a"


def test_an_estimate_beyond_a_models_context_passes_it_over() -> None:
    story = Story(provider("a", context=1000), provider("b", 2))
    assert story.use(estimate=1001).provider == "b"


def test_an_account_is_shared_by_its_providers() -> None:
    story = Story(provider("a", 1, limit(2), account="key"), provider("helicone", 2, account="key"), provider("c", 3))
    story.report(story.use())
    story.report(story.use("helicone"))
    assert story.use(session="x").provider == "c", "two of two requests of the account are used"
    story = Story(provider("a", 1, account="key"), provider("helicone", 2, account="key"), provider("c", 3))
    body = '{"error":{"message":"You exceeded your current quota","code":"insufficient_quota"}}'
    recorded = story.report(story.use(), "error", status=429, body=body)
    assert recorded.verdict.scope == "account"
    assert isinstance(recorded.next, Use)
    assert recorded.next.provider == "c"


def test_a_fallback_model_serves_when_no_provider_has_the_wanted_one() -> None:
    story = Story(provider("a"), provider("b", 2, models=("llama",)), fallback={MODEL: ("llama",)})
    recorded = story.refuse(story.use(), after=60)
    assert isinstance(recorded.next, Use)
    assert (recorded.next.provider, recorded.next.model, recorded.next.reason) == ("b", "llama", "fallback_model")


def test_a_pin_comes_first_and_is_left_when_it_cannot_serve() -> None:
    story = Story(*TWO)
    story.ledger.state.pins["*"] = "b"
    assert (story.use().provider, story.use().reason) == ("b", "pinned")
    story.refuse(story.use(), after=60)
    assert story.use().provider == "a"


def test_prefer_agent_begins_with_what_the_agent_asked_for() -> None:
    story = Story(*TWO, prefer="agent")
    assert story.use("b").provider == "b"
    assert Story(*TWO).use("b").provider == "a"


def test_headroom_prefers_the_largest_free_share() -> None:
    story = Story(provider("a", 1, limit(10)), provider("b", 2, limit(10)), strategy="headroom")
    assert [story.use(session=None).provider for _ in range(4)] == ["a", "b", "a", "b"]


def test_equal_priorities_share_the_load() -> None:
    story = Story(provider("a"), provider("b"))
    assert [story.use(session=None).provider for _ in range(4)] == ["a", "b", "a", "b"]


def test_tokens_are_reserved_by_estimate_and_replaced_by_what_was_used() -> None:
    story = Story(provider("a", 1, limit(1000, "1m", of="tokens")), provider("b", 2))
    use = story.use(estimate=600)
    assert story.use(estimate=600, session="x").provider == "b"
    story.report(use, "ok")
    assert (story.used("a"), story.reserved("a")) == (0, 600), "until the figures come"
    story.meter(use.lease, input=100, output=50)
    assert (story.used("a"), story.reserved("a")) == (150, 0)
    assert story.meter(use.lease, input=100, output=50).duplicate
    assert story.used("a") == 150


def test_an_estimate_that_is_never_replaced_stands() -> None:
    story = Story(provider("a", 1, limit(1000, "1h", of="tokens")))
    story.report(story.use(estimate=600))
    story.now += LEASE
    story.settle(story.ledger.roll(story.now))
    assert (story.used("a"), story.reserved("a")) == (600, 0)


def test_usage_in_the_report_counts_and_a_refused_one_gives_its_estimate_back() -> None:
    from rlmd.core.model import Usage

    story = Story(provider("a", 1, limit(1000, "1h", of="tokens")))
    story.report(story.use(), usage=Usage(input=10, output=5))
    story.refuse(story.use(estimate=500), after=1)
    assert (story.used("a"), story.reserved("a")) == (15, 0)


def test_warnings_come_at_their_shares_once_a_window() -> None:
    story = Story(provider("a", 1, limit(10, warn_at=(0.5,))))
    for _ in range(10):
        story.report(story.use())
    assert story.told("warning") == ["a has used 5 of 10 requests per 1h, resets 13:00:00"]
    story.restart()
    story.now += 3600
    for _ in range(5):
        story.report(story.use())
    assert len(story.told("warning")) == 2


def test_the_end_of_a_window_and_of_a_cooldown_are_announced_once() -> None:
    story = Story(provider("a", 1, limit(1)), provider("b", 2))
    story.report(story.use())
    story.refuse(story.use(), after=60)
    assert story.ledger.next_deadline() == NOON + 60
    story.now += 60
    story.settle(story.ledger.roll(story.now))
    assert story.told("recovered") == ["b may be used again: its cooldown is over"]
    story.now = NOON + 3600
    story.settle(story.ledger.roll(story.now))
    story.settle(story.ledger.roll(story.now))
    assert story.told("reset") == ["a: a new window of 1 request per 1h begins"]
    assert story.told("recovered")[1:] == ["a may be used again: its limit per 1h has room"]
    assert story.ledger.next_deadline() is None


def test_what_a_provider_says_is_left_holds_beside_our_own_count() -> None:
    story = Story(provider("a", 1, limit(50)), provider("b", 2))
    left = {
        "x-ratelimit-limit-requests": "10",
        "x-ratelimit-remaining-requests": "1",
        "x-ratelimit-reset-requests": "90s",
    }
    story.report(story.use(), headers=left)
    assert story.use().provider == "a"
    second = story.use(session="x")
    assert (second.provider, second.reason) == ("b", "limit")
    story.restart()
    story.now += 90
    assert story.use(purpose="turn").provider == "a"


def test_a_quota_without_a_hint_ends_with_the_configured_window_that_is_used_up() -> None:
    story = Story(provider("a", 1, limit(1)), provider("b", 2))
    first = story.use()
    story.report(first)
    body = '{"error":{"type":"usage_limit_reached","message":"The usage limit has been reached"}}'
    recorded = story.report("a", "error", status=429, body=body, session="x")
    assert (recorded.verdict.kind, recorded.verdict.until) == ("quota", NOON + 3600)


def test_a_persons_pattern_comes_first() -> None:
    pattern = Pattern(Expression("weekly cap"), "quota", provider="a", lasts=6 * 3600.0)
    story = Story(*TWO, cooldown=Cooldown(patterns=(pattern,)))
    recorded = story.report(story.use(), "error", status=418, body="Weekly CAP reached")
    assert (recorded.verdict.kind, recorded.verdict.until) == ("quota", NOON + 6 * 3600)


def test_reloading_keeps_counts_of_unchanged_limits_and_leases_under_way() -> None:
    story = Story(provider("a", 1, limit(50), limit(7, "1d")), provider("b", 2))
    story.report(story.use())
    open_lease = story.use()
    changed = Story(provider("a", 1, limit(2), limit(9, "90s")), provider("b", 2)).policy
    story.reload(changed)
    assert (story.used("a", 0), story.reserved("a", 0), story.used("a", 1)) == (1, 1, 0)
    assert story.use(session="x").provider == "b", "one used and one under way of now two"
    story.report(open_lease)
    assert (story.used("a", 0), story.reserved("a", 0)) == (2, 0)
    story.reload(story.policy)
    assert story.used("a", 1) == 2, "what was counted for the day is still known, and who was under way"


def test_a_report_for_a_provider_that_left_the_configuration_is_taken_once() -> None:
    story = Story(*TWO)
    use = story.use()
    story.restart()
    story.reload(Story(provider("b", 2)).policy)
    assert not story.report(use).duplicate
    assert story.report(use).duplicate


def test_after_a_reload_that_changed_its_account_a_failed_place_is_not_named_as_the_next() -> None:
    story = Story(provider("a"))
    use = story.use()
    story.reload(Story(provider("a", account="another")).policy)
    recorded = story.report(use, "error", status=500)
    assert not isinstance(recorded.next, Use)


def test_only_the_last_ten_thousand_sessions_are_remembered() -> None:
    story = Story(*TWO)
    for n in range(10_001):
        story.ask(session=str(n), purpose="turn")
    assert len(story.ledger.sessions) == 10_000
    assert story.ledger.sessions.get("0") is None


def test_a_limit_without_warnings_still_tells_when_it_is_used_up() -> None:
    story = Story(provider("a", 1, limit(2, warn_at=())))
    story.report(story.use())
    assert story.notices == []
    story.report(story.use())
    assert story.told("exhausted") == ["a has used 2 of 2 requests per 1h, resets 13:00:00"]
