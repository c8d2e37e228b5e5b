"""Whoever is compared takes turns, so that whatever else the machine does slows all of them."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")


class Rounds(Generic[T]):
    """What some contenders did in so many rounds; each of them is first in turn."""

    def __init__(self, contenders: Mapping[str, Callable[[], T]], rounds: int) -> None:
        names = list(contenders)
        self.found: list[dict[str, T]] = []
        for number in range(rounds):
            first = number % len(names)
            self.found.append({name: contenders[name]() for name in names[first:] + names[:first]})

    def median(self, name: str, figure: Callable[[T], float]) -> float:
        """Return the median over the rounds of a figure of one contender."""
        return median(figure(of[name]) for of in self.found)

    def ratio(
        self, ours: str, theirs: str, figure: Callable[[T], float], other: Callable[[T], float] | None = None
    ) -> float:
        """Return the median over the rounds of the ratio of two figures, each pair from one round."""
        return median(figure(of[ours]) / (other or figure)(of[theirs]) for of in self.found)
