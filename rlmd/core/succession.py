"""Providers that may serve a model, by the configuration alone: their order, and whether anybody could stand in."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from rlmd.core.model import Policy


class Place(NamedTuple):
    """A provider that may serve a model, or one of the fallbacks of that model."""

    provider: str
    model: str
    """Canonical: the model itself, or a fallback."""
    account: str
    rank: tuple[int, int]
    """Lower is asked first. Places of one rank share the load."""


class Succession(NamedTuple):
    """Providers of one model."""

    model: str
    """Canonical."""
    places: tuple[Place, ...]
    """In the order in which they are asked; a provider that is not enabled has none."""
    disabled: tuple[str, ...]
    """The providers that would serve it if they were enabled."""

    @property
    def has_stand_in(self) -> bool:
        """Whether the turn goes on where one account is used up: what another place of that account has is gone too."""
        return len({place.account for place in self.places}) > 1


def models_in_line(model: str, fallback: dict[str, tuple[str, ...]]) -> list[str]:
    """List a model and what may stand in for it, best first, each once."""
    found: list[str] = []
    queue = [model]
    while queue:
        candidate = queue.pop(0)
        if candidate not in found:
            found.append(candidate)
            queue = [*fallback.get(candidate, ()), *queue]
    return found


def successions(policy: Policy) -> list[Succession]:
    """Return who serves each model that a provider has, in the order of the configuration."""
    by_priority = policy.strategy == "priority" and policy.prefer == "priority"
    found = []
    for model in dict.fromkeys(name for provider in policy.providers for name in provider.models):
        places, disabled = [], []
        for depth, candidate in enumerate(models_in_line(model, policy.fallback)):
            for provider in (provider for provider in policy.providers if candidate in provider.models):
                if provider.enabled:
                    rank = depth, provider.priority if by_priority else 0
                    places.append(Place(provider.id, candidate, provider.account, rank))
                else:
                    disabled.append(provider.id)
        places.sort(key=lambda place: (place.rank, place.provider))
        found.append(Succession(model, tuple(places), tuple(dict.fromkeys(disabled))))
    return found
