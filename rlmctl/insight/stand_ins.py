"""Sentences on who could stand in for whom: `setup`, `config check` and `doctor` say them of each model."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from rlmd.core.succession import successions

if TYPE_CHECKING:
    from rlmd.core.model import Policy
    from rlmd.core.succession import Place, Succession

MEND = "name another provider that has it, or a [[fallback]] (docs/configuration.md), then: rlmctl reload"
SHOWN = 4
"""Models that one line names."""


class Line(NamedTuple):
    """Sentences on all models that the same providers serve."""

    fine: bool
    text: str
    mend: str


def lines(policy: Policy) -> list[Line]:
    """Say who serves each model and who could stand in. Models that are served alike share a line."""
    alike: dict[tuple[bool, str], list[str]] = {}
    for one in successions(policy):
        alike.setdefault((one.has_stand_in, _order(one)), []).append(one.model)
    return [Line(fine, f"{_listed(models)}: {order}", "" if fine else MEND) for (fine, order), models in alike.items()]


def as_json(policy: Policy) -> list[dict[str, Any]]:
    """Return the same for scripts, a model each."""
    return [
        {
            "model": one.model,
            "stand_in": one.has_stand_in,
            "served_by": [
                {"provider": place.provider, "model": place.model, "account": place.account} for place in one.places
            ],
        }
        for one in successions(policy)
    ]


def _order(one: Succession) -> str:
    if not one.places:
        return f"nobody, {' and '.join(one.disabled)} being disabled"
    ranks = groupby(one.places, key=lambda place: place.rank)
    order = ", then ".join(" or ".join(_name(place, one.model) for place in places) for _, places in ranks)
    if len(one.places) == 1:
        return f"only {order}; nobody could stand in"
    if not one.has_stand_in:
        return f"{order}, all on one account; nobody could stand in once it is used up"
    return order


def _name(place: Place, model: str) -> str:
    return place.provider if place.model == model else f"{place.provider} with {place.model}"


def _listed(models: list[str]) -> str:
    shown = models if len(models) <= SHOWN else [*models[: SHOWN - 1], f"{len(models) - SHOWN + 1} more"]
    return ", ".join(shown)
