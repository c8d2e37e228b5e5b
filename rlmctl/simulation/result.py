"""What came of a simulation, in numbers: by hour and provider, by limit that was hit, by wait."""

from __future__ import annotations

from math import ceil
from typing import Literal, Self

from msgspec import Struct

from rlmd.core.model import HOUR


class Row(Struct):
    """What came of the requests that were sent to one provider in one hour."""

    served: int = 0
    refused: int = 0
    """By a limit of which nobody could know that it was used up."""
    refused_probe: int = 0
    """Sent to try whether a rest may end."""
    refused_in_flight: int = 0
    """Under way already when the refusal of another one became known."""
    failed: int = 0
    """Nobody was there."""
    switched_away: int = 0
    """Conversations that left the provider for another one."""


class Hour(Struct):
    """One hour of the simulation."""

    at: float
    providers: dict[str, Row] = {}
    waited: int = 0
    """Of the requests that came up in this hour: had to wait, and were served in the end."""
    given_up: int = 0
    """Would have had to wait for longer than the agents do."""


class Hit(Struct):
    """A limit was reached: one of the configuration, foreseen, or one of the provider's, by a refusal."""

    at: float
    provider: str
    limit: str
    until: float | None
    """End of the window, or of the rest that the refusal led to."""
    by: Literal["configuration", "refusal", "probe"]
    in_flight: int = 0
    """Requests that were under way already and were refused, too."""


class Result(Struct):
    """All of it. Each request is served, given up, failed or unfinished."""

    hours: list[Hour]
    hits: list[Hit] = []
    requests: int = 0
    failed: int = 0
    """Ended with a provider's error, after several tries."""
    waited_seconds: float = 0.0
    """Together, by those that were served after a wait."""
    waited_longest: float = 0.0
    """Seconds, by one of them."""

    @classmethod
    def over(cls, start: float, span: float) -> Self:
        """Return the result of a simulation that has not begun; epoch seconds and seconds."""
        return cls([Hour(start + n * HOUR) for n in range(ceil(span / HOUR))])

    def hour(self, at: float) -> Hour:
        """Return the hour that holds a time."""
        return self.hours[int((at - self.hours[0].at) // HOUR)]

    def row(self, provider: str, at: float) -> Row:
        """Return what came of the requests sent to a provider in the hour that holds a time."""
        rows = self.hour(at).providers
        row = rows.get(provider)
        if row is None:
            row = rows[provider] = Row()
        return row

    def note_wait(self, came: float, sent: float) -> None:
        """Take note that a request was served that had to wait."""
        self.hour(came).waited += 1
        self.waited_seconds += sent - came
        self.waited_longest = max(self.waited_longest, sent - came)

    def totals(self) -> dict[str, Row]:
        """Return what came of all requests that were sent to each provider that had any."""
        totals: dict[str, Row] = {}
        for hour in self.hours:
            for provider, row in hour.providers.items():
                total = totals.setdefault(provider, Row())
                for count in Row.__struct_fields__:
                    setattr(total, count, getattr(total, count) + getattr(row, count))
        return totals

    @property
    def served(self) -> int:
        """Requests that a provider answered."""
        return sum(row.served for hour in self.hours for row in hour.providers.values())

    @property
    def waited(self) -> int:
        """Those of them that had to wait."""
        return sum(hour.waited for hour in self.hours)

    @property
    def given_up(self) -> int:
        """Requests that would have had to wait for too long."""
        return sum(hour.given_up for hour in self.hours)

    @property
    def unfinished(self) -> int:
        """Requests under way or waiting at the end."""
        return self.requests - self.served - self.given_up - self.failed
