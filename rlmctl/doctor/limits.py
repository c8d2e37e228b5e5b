"""Whether the configured limits are those that providers really have, by the refusals of the last month."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from rlmctl.doctor import Check

if TYPE_CHECKING:
    from collections.abc import Iterator

DAYS = 30


def limits() -> Iterator[Check]:
    """Check for limits that are never reached, because the provider refuses before. Needs the daemon."""
    from rlmctl.insight.suggestions import look, stated
    from rlmd.client.connection import DaemonRefusedError

    try:
        found = look(datetime.now(UTC) - timedelta(days=DAYS))
    except DaemonRefusedError:
        return  # the history cannot be read just now: what is wrong with the database is told elsewhere
    for suggestion in found:
        if suggestion.too_high and suggestion.sure:
            meaning = (
                f"{suggestion.provider}'s {suggestion.configured:,.0f} {suggestion.of} per {suggestion.per} "
                f"are never reached: {stated(suggestion)}; {suggestion.why}"
            )
            yield Check("limits", "warning", meaning, "rlmctl limits suggest")
