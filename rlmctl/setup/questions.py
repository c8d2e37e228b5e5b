"""What `rlmctl setup` asks a person on a terminal. An end of input is a no; Enter takes what stands in brackets."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rlmctl.errors import did_you_mean
from rlmctl.setup.configure import Choice, served
from rlmctl.setup.published_limits import published

if TYPE_CHECKING:
    from rlmctl.agents.opencode.configuration import Found


def is_possible() -> bool:
    """Return whether there is a person to ask."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def agreed(question: str, *, usual: bool = True) -> bool:
    """Ask for a yes or a no."""
    answer = _answer(f"{question} [{'Y/n' if usual else 'y/N'}] ")
    if answer is None:
        return False
    return usual if not answer else answer.lower() in {"y", "yes"}


def choose(found: Found, proposed: Choice) -> Choice:
    """Go through what is proposed for a first configuration."""
    order = _order(list(proposed.order)) if len(proposed.order) > 1 else list(proposed.order)
    kept: dict[str, str] = {}
    for account in dict.fromkeys(proposed.accounts.values()):
        members = [provider for provider in order if proposed.accounts.get(provider) == account]
        if agreed(f"{' and '.join(members)} use the same key, so they run out together. One account?"):
            kept |= dict.fromkeys(members, account)
    limits = set()
    for provider, names in served(found).items():
        found_limits = published(provider, names)
        said = " and ".join(f"{limit.max:,} requests per {limit.per}" for limit in found_limits)
        if said and agreed(f"{provider} allows {said} ({found_limits[0].plan}). Is that your plan?", usual=False):
            limits.add(provider)
    return Choice(tuple(order), kept, frozenset(limits))


def _order(proposed: list[str]) -> list[str]:
    """Ask who is tried first, until the answer names nobody whom we do not know."""
    while True:
        answer = _answer(f"Tried in this order: {', '.join(proposed)}. Enter, or your own order: ")
        wanted = (answer or "").replace(",", " ").split()
        strange = [name for name in wanted if name not in proposed]
        if not strange:
            return [*dict.fromkeys(wanted), *(name for name in proposed if name not in wanted)]
        sys.stderr.write(f"There is no {strange[0]!r} among them.{did_you_mean(strange[0], proposed)}\n")


def _answer(question: str) -> str | None:
    """Return what was typed, or None at the end of the input."""
    sys.stderr.write(question)
    sys.stderr.flush()
    line = sys.stdin.readline()
    return line.strip() if line else None
