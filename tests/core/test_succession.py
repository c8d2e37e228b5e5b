"""Who may serve a model by the configuration alone, and whether anybody could stand in."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from story import MODEL, provider

from rlmd.core.model import Policy, Provider, ProviderModel
from rlmd.core.succession import Succession, successions


def only(policy: Policy) -> Succession:
    (found,) = successions(policy)
    return found


def order(found: Succession) -> list[tuple[str, str]]:
    return [(place.provider, place.model) for place in found.places]


def serving(one: Provider, *models: str) -> Provider:
    return replace(one, models={model: ProviderModel(model) for model in models})


A, B = provider("a", 1), provider("b", 2)


def test_providers_are_asked_by_priority() -> None:
    found = only(Policy((B, A)))
    assert (found.model, order(found)) == (MODEL, [("a", MODEL), ("b", MODEL)])
    assert found.has_stand_in


def test_one_provider_has_no_stand_in() -> None:
    assert not only(Policy((A,))).has_stand_in


def test_a_provider_that_is_not_enabled_stands_in_for_nobody() -> None:
    found = only(Policy((A, replace(B, enabled=False))))
    assert (order(found), found.disabled, found.has_stand_in) == ([("a", MODEL)], ("b",), False)


def test_a_provider_of_the_same_account_stands_in_for_nobody() -> None:
    found = only(Policy((A, replace(B, account="a"))))
    assert (len(found.places), found.has_stand_in) == (2, False)


def test_fallbacks_and_their_fallbacks_come_after_the_model_itself() -> None:
    policy = Policy((serving(A, "opus", "haiku"), serving(B, "sonnet")), {"opus": ("sonnet",), "sonnet": ("haiku",)})
    found = {one.model: one for one in successions(policy)}
    assert order(found["opus"]) == [("a", "opus"), ("b", "sonnet"), ("a", "haiku")]
    assert {model: one.has_stand_in for model, one in found.items()} == {"opus": True, "haiku": False, "sonnet": True}


@pytest.mark.parametrize("policy", [Policy((A, B), strategy="headroom"), Policy((A, B), prefer="agent")])
def test_where_another_thing_than_priority_decides_all_have_one_rank(policy: Policy) -> None:
    assert [place.rank for place in only(policy).places] == [(0, 0), (0, 0)]
