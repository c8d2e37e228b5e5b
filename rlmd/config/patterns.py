"""A person's own readings of errors, as the configuration has them: compiled once, when it is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlmd.config.document import likely
from rlmd.core.expression import LARGEST, Expression, ExpressionError
from rlmd.core.model import Pattern

if TYPE_CHECKING:
    from rlmd.config.document import Document, KeyPath
    from rlmd.config.tables import PatternTable

MOST = 64
"""Patterns of a person's own: each costs time at every error, and up to `expression.MEMORY`."""


def read(
    document: Document, tables: list[PatternTable], ids: list[str], refused: list[str] | None
) -> tuple[Pattern, ...]:
    """Return a person's patterns. One that is refused is an error, or a sentence in `refused` where that is given."""
    patterns: list[Pattern] = []
    if len(tables) > MOST:
        path: KeyPath = ("cooldown", "pattern", MOST)
        sentence = f'is one too many: there may be {MOST}. Join some of one kind with "|" between them.'
        if refused is None:
            raise document.error(path, sentence)
        refused.append(f"{document.place(path)} {sentence} Until then only those before it are used.")
    for index, table in enumerate(tables[:MOST]):
        path = ("cooldown", "pattern", index)
        if table.provider and table.provider not in ids:
            raise document.error(
                (*path, "provider"),
                f'is "{table.provider}", which is no provider here. {likely(table.provider, ids)}',
            )
        try:
            match = Expression(table.match)
            if sum(pattern.match.size for pattern in patterns) + match.size > LARGEST:
                raise ExpressionError("makes the patterns too large together. Repeat less, or leave one out.")  # noqa: TRY301
        except ExpressionError as error:
            if refused is None:
                raise document.error((*path, "match"), str(error)) from None
            refused.append(f"{document.place((*path, 'match'))} {error} Until then the pattern is left out.")
            continue
        lasts = None if table.for_ is None else float(table.for_)
        patterns.append(Pattern(match, table.kind, table.provider, lasts))
    return tuple(patterns)
