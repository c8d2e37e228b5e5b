"""Days of many agents on a virtual clock: what providers with limits of their own see of it."""

from __future__ import annotations

import tracemalloc
from datetime import UTC
from itertools import pairwise
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from story import MODEL, NOON, limit, provider

from rlmctl.simulation.provider import Behaviour, Meter, build
from rlmctl.simulation.result import Result, Row
from rlmctl.simulation.run import Load, simulate
from rlmd.core.errors.classify import classify
from rlmd.core.model import HOUR, Policy, Provider

THREE = (provider("a", 1), provider("b", 2), provider("c", 3))
SEEDS = range(1, 4)


def run(
    providers: tuple[Provider, ...] = THREE,
    behaviours: dict[str, Behaviour] | None = None,
    *,
    per_hour: float = 600,
    hours: float = 6,
    seed: int = 1,
    policy: dict[str, Any] | None = None,
    **load: Any,
) -> Result:
    result = simulate(
        Policy(providers=providers, zone=UTC, **(policy or {})),
        Load(**{"start": NOON, "span": hours * HOUR, "rate": per_hour / HOUR, "provider": "a", "model": MODEL, **load}),
        behaviours or {},
        Random(seed),
    )
    assert result.unfinished >= 0
    return result


def total(result: Result, name: str = "") -> Row:
    """What came of the requests sent to one provider, or to all."""
    together = Row()
    for provider_id, row in result.totals().items():
        if name in {"", provider_id}:
            for count in Row.__struct_fields__:
                setattr(together, count, getattr(together, count) + getattr(row, count))
    return together


def refusals(result: Result, name: str) -> list[tuple[float, float]]:
    """Start and end of each rest after a refusal."""
    return [(h.at, h.until or 0.0) for h in result.hits if h.provider == name and h.by != "configuration"]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("per_hour", [300, 3000])
def test_a_hidden_limit_is_met_once_in_each_of_its_windows(per_hour: float, seed: int) -> None:
    hidden = {"a": Behaviour((limit(40),)), "b": Behaviour((limit(100),)), "c": Behaviour((limit(200),))}
    result = run(behaviours=hidden, per_hour=per_hour, hours=4, seed=seed)
    for name in hidden:
        windows = [at // HOUR for at, _ in refusals(result, name)]
        assert windows
        assert len(windows) == len(set(windows))
        assert {at // HOUR for at, _ in refusals(result, name)} == {
            until // HOUR - 1 for _, until in refusals(result, name)
        }


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("status", [429, 529])
def test_a_provider_that_gives_no_hint_refuses_once_in_each_block(status: int, seed: int) -> None:
    hidden = {
        "a": Behaviour((limit(40),), hint=False, status=status),
        "b": Behaviour((limit(20, "5m"), limit(100_000, "1m", "tokens")), hint=False),
        "c": Behaviour((limit(300, "5h", window="first_use"),), hint=False),
    }
    result = run(behaviours=hidden, per_hour=2000, hours=2, seed=seed)
    for name in hidden:
        rests = refusals(result, name)
        assert rests
        assert all(until <= at for (_, until), (at, _) in pairwise(rests))
    kinds = {h.by for h in result.hits}
    assert kinds == {"refusal", "probe"}


def test_requests_that_were_under_way_when_the_first_refusal_came_are_counted_apart() -> None:
    result = run((provider("a"),), {"a": Behaviour((limit(50),))}, per_hour=20 * HOUR, hours=0.1, wait=0.0)
    (hit,) = result.hits
    row = total(result)
    assert (row.served + result.unfinished, row.refused) == (50, 1)
    assert 0 < row.refused_in_flight == hit.in_flight < 20 * 1.5
    assert (hit.provider, hit.limit, hit.by) == ("a", "50 requests per 1h", "refusal")


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_refused_where_the_configured_limits_are_true(seed: int) -> None:
    providers = (
        provider("a", 1, limit(40), limit(150, "1d", zone=ZoneInfo("Europe/Berlin"))),
        provider("b", 2, limit(30, "5m"), limit(300_000, "1m", "tokens"), limit(200, "5h", window="first_use")),
        provider("c", 3, limit(20_000, "5m", "output_tokens"), limit(5_000_000, "1h", "input_tokens")),
    )
    result = run(providers, per_hour=1500, hours=6, seed=seed)
    row = total(result)
    assert (row.refused, row.refused_probe, row.refused_in_flight, row.failed, result.failed) == (0, 0, 0, 0, 0)
    assert {h.by for h in result.hits} == {"configuration"}
    assert {h.limit for h in result.hits} >= {"40 requests per 1h", "150 requests per 1d", "200 requests per 5h"}
    assert result.totals().keys() == {"a", "b", "c"}


def test_a_configured_limit_that_is_too_high_is_one_that_is_hidden() -> None:
    result = run((provider("a", 1, limit(100)), provider("b", 2)), {"a": Behaviour((limit(40),))})
    assert total(result, "a").refused == 6
    assert max(hour.providers["a"].served for hour in result.hours) == 40


def test_one_that_is_too_low_is_kept_all_the_same() -> None:
    result = run((provider("a", 1, limit(40)), provider("b", 2)), {"a": Behaviour(())})
    assert max(hour.providers["a"].served for hour in result.hours) == 40
    assert total(result, "a").switched_away > 0


def test_providers_of_one_account_share_what_it_really_allows() -> None:
    twins = (provider("a", 1, account="x"), provider("b", 2, account="x"), provider("c", 3))
    result = run(twins, {"b": Behaviour((limit(40),))})
    assert total(result, "a").served + total(result, "b").served == 6 * 40


def test_the_same_seed_gives_the_same_course_and_another_seed_another() -> None:
    hidden = {"a": Behaviour((limit(40),), hint=False), "b": Behaviour((limit(100),))}
    first, again, other = (msgspec.json.encode(run(behaviours=hidden, seed=seed)) for seed in (7, 7, 8))
    assert first == again != other


def test_an_outage_moves_everybody_and_they_come_back() -> None:
    down = Behaviour(outages=((NOON + HOUR, NOON + 2 * HOUR),))
    result = run(THREE[:2], {"a": down}, hours=4)
    before, during, after = (result.hours[n].providers for n in (0, 1, 3))
    assert "b" not in before
    assert during["a"].served == 0
    assert 0 < during["a"].failed < during["b"].served
    assert after["a"].served > after.get("b", Row()).served
    assert (total(result).refused, result.failed, result.given_up, result.hits) == (0, 0, 0, [])


def test_where_the_only_provider_is_down_the_error_ends_the_turn() -> None:
    result = run(THREE[:1], {"a": Behaviour(outages=((NOON, NOON + HOUR),))}, hours=2, wait=0.5 * HOUR)
    assert result.failed > 0
    assert result.hours[1].providers["a"].served > 0


def test_where_all_are_limited_requests_wait_for_as_long_as_the_agent_does() -> None:
    providers = (provider("a", 1, limit(60, "5m")), provider("b", 2, limit(20, "1m", window="first_use")))
    result = run(providers, per_hour=2400, hours=1.5, wait=40.0)
    assert result.waited > 100
    assert 0 < result.waited_seconds / result.waited < result.waited_longest
    assert result.given_up > 100
    patient = run(providers, per_hour=2400, hours=1.5, wait=400.0)
    assert patient.waited_longest > result.waited_longest
    impatient = run(providers, per_hour=2400, hours=1.5, wait=0.0)
    assert (impatient.waited, impatient.waited_seconds) == (0, 0.0)


def test_where_time_cannot_help_nobody_waits() -> None:
    result = run((provider("a", enabled=False),), hours=0.5)
    assert result.given_up == result.requests > 0
    assert result.totals() == {}


def test_a_conversation_that_waits_sends_what_came_up_meanwhile_one_after_the_other() -> None:
    hidden = {"a": Behaviour((limit(30, "1m", window="first_use"),))}
    result = run((provider("a"),), hidden, per_hour=3000, hours=1, sessions=1)
    assert result.waited > 500
    assert total(result).refused_in_flight < 3 * len(result.hits)
    assert result.failed == 0


def test_a_long_run_needs_little_memory() -> None:
    peaks = []
    classify("a", 429, {}, "", "", NOON)  # what is loaded once is no growth
    for hours in (3, 12):
        tracemalloc.start()
        run((provider("a", 1, limit(1000, "5h")), provider("b", 2)), per_hour=1500, hours=hours)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 2 * peaks[0]


def test_a_rolling_limit_is_met_again_when_what_was_counted_is_old_enough() -> None:
    meter = Meter(limit(2, "1m"))
    for at in (0.0, 10.0):
        assert meter.has_room(0, NOON + at)
        meter.begin(0, NOON + at)
    assert not meter.has_room(0, NOON + 59.9)
    assert meter.end == NOON + 60
    assert meter.has_room(0, NOON + 60)
    meter.begin(0, NOON + 60)
    assert not meter.has_room(0, NOON + 60)
    assert meter.has_room(0, NOON + 1000)
    assert meter.used == 0


def test_what_a_provider_counts_of_tokens() -> None:
    meters = {of: Meter(limit(1000, of=of)) for of in ("tokens", "input_tokens", "output_tokens", "cost")}
    for meter in meters.values():
        assert meter.has_room(700, NOON)
        meter.begin(700, NOON)
        meter.finish(400, NOON + 1)
    assert {of: meter.used for of, meter in meters.items()} == {
        "tokens": 1100,
        "input_tokens": 700,
        "output_tokens": 400,
        "cost": 0,
    }
    assert not meters["tokens"].has_room(0, NOON + 2)
    assert meters["input_tokens"].has_room(300, NOON + 2)
    assert not meters["input_tokens"].has_room(301, NOON + 2)
    meters["tokens"].finish(5, NOON + HOUR)
    assert meters["tokens"].used == 5


@pytest.mark.parametrize(
    ("behaviour", "status", "headers"),
    [
        (Behaviour((limit(1), limit(1, "1d"))), 429, {"retry-after": "43200"}),
        (Behaviour((limit(1),)), 429, {"retry-after": "3600"}),
        (Behaviour((limit(1),), hint=False), 429, {}),
        (Behaviour((limit(1),), status=529), 529, {"retry-after": "3600"}),
    ],
)
def test_how_a_provider_refuses(behaviour: Behaviour, status: int, headers: dict[str, str]) -> None:
    place = build(Policy(providers=THREE), {"a": behaviour})["a", MODEL]
    assert place.take(10, NOON) is None
    rejection = place.take(10, NOON)
    assert rejection
    assert (rejection.status, rejection.headers) == (status, headers)


def test_a_limit_of_another_model_does_not_count() -> None:
    of_other = provider("a", 1, limit(1, model="opus"), models=(MODEL, "opus"))
    places = build(Policy(providers=(of_other,)), {})
    assert [places["a", MODEL].take(1, NOON) for _ in range(3)] == [None] * 3
    assert places["a", "opus"].take(1, NOON) is None
    assert places["a", "opus"].take(1, NOON) is not None


def test_a_model_that_is_not_in_the_policy_is_a_bug_of_the_caller() -> None:
    with pytest.raises(TypeError, match="a/gpt is not in the policy"):
        run(model="gpt")
