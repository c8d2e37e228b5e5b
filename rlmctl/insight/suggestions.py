"""Limits that nobody wrote down, read off the refusals that the daemon has seen and off what providers state.

Pure: takes the daemon's replies to `log`, `status` and `history`, and says of each proposal what it rests on.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from rlmctl.daemon.connection import connect

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

AGREE = 1.25
"""Counts that differ by more than this factor are no sign of one limit on requests."""
SPANS = {"1m": 60, "1h": 3600, "5h": 18_000, "1d": 86_400, "1w": 604_800, "month": 31 * 86_400}
"""Seconds of the windows that refusals speak of."""
_IN_WORDS = {"1m": "minute", "1h": "hour", "5h": "5 hours", "1d": "day", "1w": "week", "month": "month"}
_HOUR = timedelta(hours=1)
_JITTER = 40
"""Seconds that a rest may go beyond the window's end: the daemon spreads returns over up to 30."""

Key = tuple[str, str | None, str, str | None]
"""Provider, model (None: all), quantity, window (None where nobody said)."""

EVENTS_READ = 10_000
"""Events to look through: as many as the daemon gives."""


class Suggestion(NamedTuple):
    """One limit that is probably there, or why none can be named: `max` is None then."""

    provider: str
    model: str | None
    of: str
    per: str | None
    window: str | None
    max: float | None
    configured: float | None
    """What the configuration has in this place."""
    basis: str
    """`stated` by the provider, or `counted` up to its refusals."""
    refusals: int
    counted: list[int]
    last_at: str | None
    why: str

    @property
    def holds(self) -> bool:
        """Whether the configuration says it already, or less."""
        return self.max is not None and self.configured is not None and self.configured <= self.max

    @property
    def too_high(self) -> bool:
        """Whether the configuration says more than the provider allows."""
        return self.max is not None and self.configured is not None and self.configured > self.max

    @property
    def sure(self) -> bool:
        """Whether it is more than a guess."""
        return self.basis == "stated" or self.refusals > 1


def suggest(
    events: Iterable[dict[str, Any]], status: dict[str, Any], rows: Iterable[dict[str, Any]]
) -> list[Suggestion]:
    """Return what the refusals in `events` and the limits stated in `status` show, `rows` being usage by the hour."""
    served = {provider["id"]: provider["models"] for provider in status["providers"]}
    configured = _limits(status, "config")
    stated = {key: most for key, most in _limits(status, "provider").items() if key[3] is not None}
    hours = list(rows)
    seen: dict[Key, list[dict[str, Any]]] = {}
    for event in events:
        told = event.get("allowance")
        if told is not None and event["provider"] in served:
            model = told.get("model") if len(served[event["provider"]]) > 1 else None
            key = (event["provider"], model, told["of"], told.get("per"))
            seen.setdefault(key, []).append(event)
    found = [_from_refusals(key, of_key, hours, _configured(configured, key)) for key, of_key in seen.items()]
    named = {suggestion[:4] for suggestion in found if suggestion.max is not None}
    for key, most in stated.items():
        provider, model, of, per = key
        # Anthropic and others state one window with every model: what one refusal has shown for all is the same.
        if key not in named and (provider, None, of, per) not in named:
            why = f"{provider} states it in the headers of its answers"
            holds = _configured(configured, key)
            found.append(Suggestion(*key, _window(per), most, holds, "stated", 0, [], None, why))
    return sorted(found, key=lambda s: (s.provider, s.model or "", s.of, SPANS.get(s.per or "", 0)))


def as_toml(suggestions: Iterable[Suggestion]) -> str:
    """Return the tables to paste below each provider."""
    text = ""
    for suggestion in suggestions:
        if suggestion.max is not None:
            text += f"# belongs to the [[provider]] whose id is {suggestion.provider!r}: {suggestion.why}\n"
            text += f'[[provider.limit]]\nof = "{suggestion.of}"\nmax = {_plain(suggestion.max)}\n'
            text += f'per = "{suggestion.per}"\n'
            text += f'window = "{suggestion.window}"\n' if suggestion.window else ""
            text += f'model = "{suggestion.model}"\n' if suggestion.model else ""
            text += "\n"
    return text


def stated(suggestion: Suggestion) -> str:
    """Write what is suggested in a few words: `anthropic: 50 requests per hour`."""
    place = suggestion.provider if suggestion.model is None else f"{suggestion.provider}/{suggestion.model}"
    if suggestion.max is None:
        return f"{place}: a limit that cannot be named"
    return (
        f"{place}: {_amount(suggestion.max, suggestion.of)} per {_IN_WORDS.get(suggestion.per or '', suggestion.per)}"
    )


def _from_refusals(
    key: Key, events: list[dict[str, Any]], hours: list[dict[str, Any]], configured: float | None
) -> Suggestion:
    provider, _, of, per = key
    told = [event["allowance"] for event in events]
    at = events[-1]["at"]
    named = [one["max"] for one in told if "max" in one]
    times = f"{len(events)} refusal{'s' * (len(events) != 1)}, the last on {_day(at)}"
    window = _window(per, events)
    if named:
        why = f"{provider} named it in {times}"
        return Suggestion(*key, window, named[-1], configured, "stated", len(events), [], at, why)
    counts = [(event["at"], used) for event in events if (used := _counted(event, hours)) is not None]
    counted = [used for _, used in counts]
    before = f"in the {_IN_WORDS.get(per or '', '')} before"
    fresh = _since_the_one_before(counts, SPANS.get(per or "", 0))
    if all(counted) and not _agree(counted) and _agree(fresh):
        # More than was refused once has been served since: the window had begun anew in between.
        counted, before = fresh, "since the refusal before"
    most: float | None = None
    if per is None:
        why = f"{times}: {provider} did not say of which span, nor how long to wait"
    elif of != "requests":
        why = f"{times}: it is one on {of.replace('_', ' ')}, and {provider} does not say how many"
    elif not counted or not all(counted):
        why = f"{times}: nothing had been counted here {before}, so others use that key too"
    elif not _agree(counted):
        low, high = min(counted), max(counted)
        why = f"{times}, after {low} to {high} requests {before}: that is no limit on requests"
    else:
        most = min(counted)
        alone = "; one refusal is a guess" if len(events) == 1 else ""
        why = f"{times}: {_listed(counted)} had been counted {before}{alone}"
    return Suggestion(*key, window, most, configured, "counted", len(events), counted, at, why)


def _agree(counts: list[int]) -> bool:
    """Whether counts may be those of one limit."""
    return bool(counts) and max(counts) <= AGREE * min(counts) + 1


def _since_the_one_before(counts: list[tuple[str, int]], length: int) -> list[int]:
    """Take off each count what an earlier refusal in the same window had counted already."""
    fresh = []
    for place, (at, count) in enumerate(counts):
        last_at, last = counts[place - 1] if place else (at, 0)
        apart = (datetime.fromisoformat(at) - datetime.fromisoformat(last_at)).total_seconds()
        fresh.append(count - last if apart < length and last < count else count)
    return fresh


def _counted(event: dict[str, Any], hours: list[dict[str, Any]]) -> int | None:
    """Return what was used of the window; of a long one that was not watched whole, by the hours of the history."""
    told = event["allowance"]
    if "used" in told:
        used: int = told["used"]
        return used
    length = SPANS.get(told.get("per", ""), 0)
    if told["of"] != "requests" or length < SPANS["1h"]:
        return None
    at = datetime.fromisoformat(event["at"])
    ends = datetime.fromisoformat(event["until"]) if told["basis"] == "wait" else at
    begins = min(ends, at + timedelta(seconds=length)) - timedelta(seconds=length)
    counted = [
        int(row["requests"])
        for row in hours
        if row["provider"] == event["provider"]
        if told.get("model") in {None, row["model"]}
        if begins - _HOUR < datetime.fromisoformat(row["at"]) <= at
    ]
    return sum(counted)


def _limits(status: dict[str, Any], source: str) -> dict[Key, float]:
    return {
        (provider["id"], limit.get("model"), limit["of"], limit["per"]): limit["max"]
        for provider in status["providers"]
        for limit in provider["limits"]
        if limit["source"] == source
    }


def _configured(limits: dict[Key, float], key: Key) -> float | None:
    """Return the configured limit of this kind that a request to this model meets."""
    provider, _, of, per = key
    met = [limits[one] for one in (key, (provider, None, of, per)) if one in limits]
    return min(met, default=None)


def _window(per: str | None, events: Iterable[dict[str, Any]] = ()) -> str | None:
    """Return the kind of window to write, or None where the default for its length is the likely one."""
    if per == "5h":
        return "first_use"
    ends = [event["until"] for event in events if event["allowance"]["basis"] == "wait"]
    if per in {"1h", "1d"} and ends and not any(map(_on_the_hour, ends)):
        return "rolling"
    return None


def _on_the_hour(at: str) -> bool:
    moment = datetime.fromisoformat(at)
    past = moment.minute * 60 + moment.second
    return past <= _JITTER or past >= 3600 - _JITTER


def _listed(counts: list[int]) -> str:
    low, high = min(counts), max(counts)
    return _amount(low, "requests") if low == high else f"{low} to {high} requests"


def _amount(amount: float, of: str) -> str:
    words = of.replace("_", " ")
    return f"{amount:,.0f} {words.removesuffix('s') if amount == 1 else words}"


def _day(at: str) -> str:
    moment = datetime.fromisoformat(at).astimezone()
    return f"{moment.day} {moment:%b %H:%M}"


def _plain(number: float) -> str:
    return f"{number:g}" if number != int(number) else f"{int(number):_}"


def shown(suggestion: Suggestion) -> Iterator[str]:
    """Yield the lines in which a person reads one suggestion."""
    yield stated(suggestion)
    yield f"    {suggestion.why}"
    if suggestion.too_high:
        yield f"    the configuration says {suggestion.configured:,.0f}, which is never reached"
    elif suggestion.holds:
        yield f"    the configuration says {suggestion.configured:,.0f} already"


def look(since: datetime) -> list[Suggestion]:
    """Return what the daemon's memory since a time suggests."""
    with connect() as daemon:
        status: dict[str, Any] = daemon.request("status")
        events = daemon.request("log", since=since.isoformat(), limit=EVENTS_READ)["events"]
        rows = daemon.request("history", since=since.isoformat(), bucket="hour")["rows"]
    return suggest(events, status, rows)
