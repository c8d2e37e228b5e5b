"""The nouns of the core, as plain values. No behaviour lives here beyond naming and looking up.

Times are epoch seconds, spans are seconds, money is US dollars; a model is named by its canonical name
unless a field says that it is the agent's own.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Annotated, Literal, NamedTuple

from msgspec import DecodeError, Meta, Struct, field

from rlmd.core.expression import Expression

HOUR = 3600.0
DAY = 86400.0

LATEST = 221_845_392_000
Moment = Annotated[float, Meta(ge=0, le=LATEST)]
"""A time up to the year 9000: the end of any window that began then is one that a calendar has. Nothing else is read
from the state."""
YEAR = 366 * 86_400
"""Seconds: no wait, no window and no cooldown is longer. Who writes of more has made a mistake."""
MOST = 10**12
"""Requests, tokens or dollars that a provider may speak of. More is a mistake."""
Sum = Annotated[float, Meta(ge=-(10**18), le=10**18)]
"""What many amounts may add up to. Nothing else is read from the state."""

Count = Annotated[int, Meta(ge=-(10**15), le=10**15)]
"""How often something happened. A state of rlmd 0.1.0 may hold a count below nothing."""

Kind = Literal[
    "ok",
    "throttle",
    "quota",
    "credits",
    "overloaded",
    "transient",
    "unreachable",
    "auth",
    "model_missing",
    "context",
    "client",
    "cancelled",
]
"""What an outcome means: see docs/decisions.md, "What a failure means"."""

Scope = Literal["account", "model", "server", "none"]
Quantity = Literal["requests", "tokens", "input_tokens", "output_tokens", "cost"]
WindowKind = Literal["calendar", "rolling", "first_use"]
Purpose = Literal["turn", "step", "aux"]
Outcome = Literal["accepted", "ok", "error", "cancelled", "unsent"]
Availability = Literal["closed", "open", "half_open", "exhausted", "disabled"]
Reason = Literal[
    "probe",
    "fallback_model",
    "pinned",
    "cooldown",
    "limit",
    "disabled",
    "sticky",
    "preferred",
]


SENSELESS = (DecodeError, UnicodeDecodeError, RecursionError)
"""What reading a row of the state raises where that row makes no sense."""


class Senseless(NamedTuple):
    """A row of the state that makes no sense, by its table and key."""

    table: str
    key: tuple[object, ...]
    row: bytes
    error: Exception


def _has_whole_hours(zone: tzinfo) -> bool:
    """Tell whether the hours of a zone begin when those of UTC do, in summer and in winter."""
    offsets = (datetime(2026, month, 1, tzinfo=zone).utcoffset() for month in (1, 7))
    return all(offset is not None and offset % timedelta(hours=1) == timedelta(0) for offset in offsets)


class Limit(Struct, frozen=True):
    """A maximum of one quantity in one kind of window, as the person configured it."""

    of: Quantity
    max: float
    per: str
    """Normalised span: a whole number and one of s, m, h, d, w (`"1h"`, `"90s"`), or `"month"`."""
    window: WindowKind
    zone: tzinfo
    model: str | None = None
    """Only this canonical model; None counts all models of the provider."""
    warn_at: tuple[float, ...] = (0.8, 0.95)

    @property
    def key(self) -> str:
        """Identity of the counter behind the limit: a changed `max` or `warn_at` keeps what was counted."""
        zone = UTC if self.per == "1h" and self.window == "calendar" and _has_whole_hours(self.zone) else self.zone
        return self._key(zone)

    @property
    def former_key(self) -> str:
        """Identity of the counter as rlmd 0.1.0 wrote it: with the zone also where the zone changes nothing."""
        return self._key(self.zone)

    def _key(self, zone: tzinfo) -> str:
        return f"{self.of}/{self.per}/{self.window}/{self.model or '*'}/{zone}"


class ProviderModel(Struct, frozen=True):
    """How one provider offers a canonical model."""

    name: str
    """The agent's own name of the model at this provider."""
    context: int | None = None
    """The largest request in tokens that it takes; None is unknown."""


class Provider(Struct, frozen=True):
    """One entry of the agent's provider list that the person put under our care."""

    id: str
    priority: int
    models: dict[str, ProviderModel]
    account: str
    """Providers of one account share its breaker and its limits; the id where the person says nothing."""
    enabled: bool = True
    limits: tuple[Limit, ...] = ()


class Pattern(Struct, frozen=True):
    """A person's own reading of an error, tried before the built-in rules."""

    match: Expression
    """Searched in the error's message and body."""
    kind: Literal["throttle", "quota", "credits", "overloaded", "auth", "ignore"]
    provider: str | None = None
    lasts: float | None = None
    """Seconds, where the error itself does not say."""


class Cooldown(Struct, frozen=True):
    """How long to rest where the provider does not say, in seconds. Defaults: the contract's."""

    default: float = HOUR
    throttle: float = 30.0
    throttle_max: float = 1800.0
    overloaded: float = 10.0
    longest: float = 8 * DAY
    patterns: tuple[Pattern, ...] = ()


class Policy(Struct, frozen=True):
    """Everything a decision depends on that a person wrote down."""

    providers: tuple[Provider, ...] = ()
    fallback: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Canonical model to the models that may stand in for it, best first."""
    prefer: Literal["priority", "agent"] = "priority"
    strategy: Literal["priority", "headroom"] = "priority"
    failback: Literal["turn", "idle", "session"] = "turn"
    patience: float = 3.0
    cooldown: Cooldown = Cooldown()
    zone: tzinfo | None = None
    """The zone in which times are told to the person; None is UTC."""


class Verdict(Struct, frozen=True):
    """What one outcome meant, for whom, and what the provider said about the wait."""

    kind: Kind
    scope: Scope = "none"
    hint: Annotated[float, Meta(ge=0, le=10**10)] | None = None
    """Seconds from the report that the provider asked for; None where it did not say."""
    until: Moment | None = None
    """Epoch seconds until which the ledger blocks the scope because of this; None where it does not."""


Whole = Annotated[int, Meta(ge=0, le=10**12)]
"""A count of tokens that somebody may have; what is beyond is a mistake."""


class Usage(Struct, frozen=True, omit_defaults=True):
    """Tokens and US dollars that one request took."""

    input: Whole = 0
    output: Whole = 0
    reasoning: Whole = 0
    cache_read: Whole = 0
    cache_write: Whole = 0
    cost: Annotated[float, Meta(ge=0, le=10**9)] = 0.0

    def amount(self, of: Quantity) -> float:
        """How much of a limited quantity this is. Cached input counts as input: providers meter it too."""
        match of:
            case "input_tokens":
                return self.input + self.cache_read + self.cache_write
            case "output_tokens":
                return self.output + self.reasoning
            case "tokens":
                return self.amount("input_tokens") + self.amount("output_tokens")
            case "cost":
                return self.cost
            case "requests":
                return 0


class Use(Struct, frozen=True):
    """Send the request here."""

    provider: str
    model: str
    """The agent's own name of the model at that provider."""
    switched: bool
    """Not what the agent asked for."""
    reason: Reason
    message: str
    lease: str | None = None


class Refusal(Struct, frozen=True):
    """Why one place was passed over, and from when it may serve."""

    provider: str
    model: str
    state: Availability
    until: float | None
    """None where time cannot help, or where it could serve and another one came first."""
    cause: Literal["cooldown", "limit", "disabled", "context", "failed"]
    reason: str
    """One word: what it rests for (a kind of verdict, or what a person gave), or the cause."""
    why: str
    """A sentence for a person."""


class Wait(Struct, frozen=True):
    """Nobody can serve the request now."""

    retry_at: float | None
    """None where time cannot help."""
    message: str
    refusals: tuple[Refusal, ...]
    brief: str
    """Each of them with its time, and no other number."""
    patient: bool = False
    """Somebody else could serve, and the session's own provider is back in a moment."""


class Pass(Struct, frozen=True):
    """The provider and model are not ours to manage."""

    message: str


Decision = Use | Wait | Pass


class Receipt(Struct, omit_defaults=True):
    """What is to be remembered of a lease, so that whatever is said of it counts once."""

    stage: Literal["reserved", "accepted", "lapsed", "final"]
    at: Moment
    verdict: Verdict | None = None
    place: tuple[str, str] | None = None
    """Provider and canonical model that the lease is for."""
    metered: bool = False
    """Its tokens and cost have been counted."""
    counted: list[tuple[str, Moment]] = []
    """Counter and slot in which the request was counted: what a late refusal gives back."""
    estimated: list[tuple[str, Moment, Sum]] = []
    """Counter, slot and amount where an estimate stands for tokens: what late figures replace."""


Spent = Literal["requests", "tokens", "cost", "switches"]
"""What the usage history adds up beside errors by kind."""


class Used(NamedTuple):
    """What is to be added to the usage history."""

    at: float
    provider: str
    model: str
    """Canonical."""
    what: Spent | Kind
    amount: float


FactKind = Literal["window", "breaker", "tally", "snapshot", "setting"]

EventKind = Literal["switched", "exhausted", "recovered", "warning", "all_limited", "reset", "auth", "config", "state"]


Span = Literal["1m", "1h", "5h", "1d", "1w", "month"]
"""The windows that providers have."""

Basis = Literal["header", "text", "wait", "kind"]
"""Who said of which window a refusal was: a header, the error's sentence, the wait it named, or only its kind."""


class Allowance(Struct, frozen=True, omit_defaults=True):
    """One limit as a refusal shows it."""

    of: Quantity
    basis: Basis
    per: Span | None = None
    max: float | None = None
    """The limit itself, where the provider stated it."""
    used: int | None = None
    """Requests counted here in that window before the refusal; None where not all of it was watched."""
    model: str | None = None
    """The canonical model, where it is a limit of this one only."""


class Notice(Struct, frozen=True):
    """Something worth telling a person or an agent."""

    event: EventKind
    at: float
    message: str
    provider: str | None = None
    model: str | None = None
    session: str | None = None
    to: str | None = None
    reason: str | None = None
    until: float | None = None
    allowance: Allowance | None = None
    """Of a refusal: the limit behind it."""


class Recorded(Struct, frozen=True):
    """A report was taken."""

    verdict: Verdict
    next: Use | Wait | None = None
    duplicate: bool = False


class Effects(Struct):
    """What one call of the ledger leads to: an answer, facts to keep, things to tell, in this order."""

    reply: Decision | Recorded | None = None
    facts: dict[tuple[FactKind, str], Callable[[], object]] = {}
    """What is new, by kind and key, and how to read it as JSON's own types; None where a fact is gone."""
    receipts: dict[str, Receipt] = {}
    """What is to be remembered of leases."""
    notices: list[Notice] = []
    usage: list[Used] = []
    """For the history."""
