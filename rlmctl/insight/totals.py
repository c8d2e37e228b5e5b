"""Totals of the rows of a history."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class Sums(NamedTuple):
    """Totals of some rows of a history."""

    requests: int
    errors: dict[str, int]
    tokens: int
    cost: float
    switches: int


def add_up(rows: Sequence[dict[str, Any]]) -> Sums:
    """Add rows up."""
    errors: dict[str, int] = {}
    for row in rows:
        for kind, count in row["errors"].items():
            errors[kind] = errors.get(kind, 0) + count
    requests, tokens, switches = (sum(row[name] for row in rows) for name in ("requests", "tokens", "switches"))
    return Sums(requests, errors, tokens, sum(row["cost"] for row in rows), switches)
