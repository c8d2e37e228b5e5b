"""Every message on the socket, once. `rlmd.wire.codec` makes lines of messages.

A request names its `op` and an `id` of the client's choice. The reply carries a `type` and the same `id`. A pushed
event has no `id`. Times are RFC 3339 in UTC, spans are whole milliseconds in fields called `..._ms`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal, get_args

import msgspec
from msgspec import UNSET, Struct, UnsetType

from rlmd.core import requests
from rlmd.core.model import (
    LATEST,
    Allowance,
    Availability,
    EventKind,
    Kind,
    Quantity,
    Reason,
    Scope,
    Whole,
    WindowKind,
)
from rlmd.core.requests import Name, Time

VERSION = 1

Text = Annotated[str, msgspec.Meta(max_length=4096)]
Number = int | float
"""A whole number is written without a point."""
YEAR_MS = 366 * 86_400_000

Id = Annotated[int, msgspec.Meta(ge=-(2**53), le=2**53)] | Name | None
"""An integer that every JSON reader keeps exactly, or a string."""

ErrorCode = Literal[
    "bad_request",
    "unknown_op",
    "too_large",
    "unauthorized",
    "not_found",
    "conflict",
    "not_durable",
    "unavailable",
    "internal",
]

EVENTS: tuple[str, ...] = get_args(EventKind)
Change = Literal["changed"]
"""An event that tells a live view to fetch `status` again. The event is never logged, and has to be named in
`subscribe`."""


def seconds(time: datetime) -> float:
    """Return a time in epoch seconds; before 1970 or after the year 9000, the nearest time that every zone has."""
    return min(max(0.0, time.timestamp()), LATEST)


def rfc3339(at: float) -> str:
    """Epoch seconds as RFC 3339 in UTC with milliseconds, never earlier than `at` by rounding."""
    ms = -int(-at * 1000 // 1)
    stamp = datetime.fromtimestamp(ms // 1000, UTC)
    return f"{stamp:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}Z"


class Durable:
    """A request whose reply promises that what has changed is known for ever: the reply waits for the disk."""

    __slots__ = ()


class Request(Struct, tag_field="op", kw_only=True):
    """What every request carries."""

    id: Id = None


class Hello(Request, tag="hello"):
    """A client introduces itself; `status` lists it while its connection lives."""

    client: Name = ""
    version: Name = ""
    protocol: Annotated[int, msgspec.Meta(ge=1, le=10**6)] = VERSION
    pid: Annotated[int, msgspec.Meta(ge=0, le=2**31)] | None = None
    directory: Text | None = None


class Acquire(requests.Acquire, tag_field="op", tag="acquire", kw_only=True):
    """Ask where a request should go. `provider` and `model` are those that the agent would use."""

    id: Id = None


class Report(requests.Report, Durable, tag_field="op", tag="report", kw_only=True):
    """Tell how a request went. A report says everything again, so that a lease lost with a daemon costs nothing."""

    id: Id = None


class UsageReport(requests.UsageReport, Durable, tag_field="op", tag="usage", kw_only=True):
    """Tell tokens and cost that became known after the final report."""

    id: Id = None


class StatusQuery(Request, tag="status"):
    """Ask for the whole status."""


class Explain(Request, tag="explain"):
    """Ask why the requests for a model go where they go."""

    model: Name
    session: Name | None = None


class HistoryQuery(Request, tag="history"):
    """Ask for usage over time."""

    since: Time | None = None
    until: Time | None = None
    bucket: Literal["hour", "day"] = "hour"
    provider: Name | None = None


class LogQuery(Request, tag="log"):
    """Ask for past events."""

    since: Time | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1000


class Reset(Request, Durable, tag="reset"):
    """Forget counts, cooldowns or both, of one provider or of all."""

    what: Literal["counters", "cooldowns", "all"] = "all"
    provider: Name | None = None


class CooldownOrder(Request, Durable, tag="cooldown"):
    """Begin a cooldown of a provider, or of one model of it, by hand."""

    provider: Name
    model: Name | None = None
    for_ms: Annotated[int, msgspec.Meta(ge=0, le=YEAR_MS)] | None = None
    until: Time | None = None
    reason: Name | None = None


class Enable(Request, Durable, tag="enable"):
    """Let a provider serve again."""

    provider: Name


class Disable(Request, Durable, tag="disable"):
    """Keep a provider out until it is enabled."""

    provider: Name


class Pin(Request, Durable, tag="pin"):
    """Put a provider before all others, for one model or for all; null returns to automatic."""

    provider: Name | None = None
    model: Name | None = None


class Subscribe(Request, tag="subscribe"):
    """Have events of these kinds, or of all, pushed on this connection. It replaces the subscription before."""

    events: list[EventKind | Change] | None = None


class Reload(Request, tag="reload"):
    """Read the configuration again."""


class Shutdown(Request, tag="shutdown"):
    """Drain and exit."""


class NotifyTest(Request, tag="notify_test"):
    """Send a test message to every notification target; `status` shows how that went."""


class Adopted(Struct):
    """The counts and the cooldown of one provider in another program."""

    provider: Name
    requests: Whole = 0
    errors: Whole = 0
    until: Time | None = None


class Adopt(Request, Durable, tag="adopt"):
    """Import another program's counts of the current hour and its cooldowns. Importing twice changes nothing."""

    providers: Annotated[list[Adopted], msgspec.Meta(max_length=1000)]
    current: Name | None = None


class Import(Request, Durable, tag="import"):
    """Replace the state by the one that `rlmctl import` has laid beside the database."""


class Ping(Request, tag="ping"):
    """Ask whether the daemon answers."""


AnyRequest = (
    Hello
    | Acquire
    | Report
    | UsageReport
    | StatusQuery
    | Explain
    | HistoryQuery
    | LogQuery
    | Reset
    | CooldownOrder
    | Enable
    | Disable
    | Pin
    | Subscribe
    | Reload
    | Shutdown
    | NotifyTest
    | Adopt
    | Import
    | Ping
)
OPS = tuple(sorted(str(kind.__struct_config__.tag) for kind in AnyRequest.__args__))


class Reply(Struct, tag_field="type", kw_only=True):
    """What every reply carries."""

    id: Id = None


class Settings(Struct):
    """The `[agent]` table in milliseconds."""

    daemon_timeout_ms: int
    first_byte_ms: int
    wait_ms: int
    stderr: bool


class Welcome(Reply, tag="welcome"):
    """The answer to `hello`."""

    server: str
    version: str
    protocol: int
    pid: int
    settings: Settings


class Use(Reply, tag="use"):
    """Send the request here. `provider` and `model` are the agent's own ids; `switched`: not those it asked for."""

    provider: str
    model: str
    switched: bool
    reason: Reason
    message: str
    lease: str | UnsetType = UNSET


class Candidate(Struct):
    """Why one model of a provider cannot serve now, and from when it may."""

    provider: str
    model: str
    state: Availability
    until: str | None
    reason: str
    """One word: the cooldown's reason, or `limit`, `disabled`, `context`, `failed`."""
    why: str


class Wait(Reply, tag="wait"):
    """No provider can serve the request now. Both times are null where time cannot help."""

    retry_at: str | None
    retry_after_ms: int | None
    message: str
    candidates: list[Candidate]
    brief: str
    """Every candidate with its time and no other number: an agent may take other numbers for codes of errors."""


class Pass(Reply, tag="pass"):
    """The provider and model are not managed by rlmd: the agent does as it would without rlmd."""

    message: str


class VerdictInfo(Struct):
    """The meaning of an outcome."""

    kind: Kind
    scope: Scope
    until: str | UnsetType = UNSET
    hint_ms: int | UnsetType = UNSET


class Recorded(Reply, tag="recorded"):
    """The report is counted and survives the death of the daemon."""

    verdict: VerdictInfo | UnsetType = UNSET
    next: Use | Wait | UnsetType = UNSET
    duplicate: bool | UnsetType = UNSET


class LimitInfo(Struct):
    """One window of a provider, configured or reported by the provider."""

    of: Quantity
    per: str | None
    """None where a provider states what is left without the span of the window."""
    window: WindowKind | None
    max: Number
    used: Number
    reserved: Number
    resets_at: str | None
    source: Literal["config", "provider"]
    model: str | UnsetType = UNSET


class Blocked(Struct):
    """A model in cooldown while its provider is not."""

    model: str
    state: Availability
    until: str | None
    reason: str


class ProviderInfo(Struct):
    """One provider in `status`."""

    id: str
    priority: int
    enabled: bool
    available: bool
    state: Availability
    until: str | None
    reason: str | None
    models: list[str]
    request_count: int
    error_count: int
    in_flight: int
    limits: list[LimitInfo]
    account: str
    blocked: list[Blocked]


class Agent(Struct):
    """A client that said hello and is still connected."""

    client: str
    version: str
    pid: int | None
    name: str | None
    """The system's name of the process; None where there is none."""
    directory: str | None
    since: str


class NotifyInfo(Struct):
    """One notification target in `status`."""

    target: str
    """Its address, masked."""
    ok: bool | None
    """Whether the last message was delivered; None where none was sent since the daemon started."""
    error: str | None
    waiting: int


class DaemonInfo(Struct):
    """The daemon in `status`."""

    pid: int
    version: str
    started_at: str
    socket: str
    durable: bool
    agents: int
    config: str
    config_error: str | None
    clients: list[Agent]
    notify: list[NotifyInfo]


class Status(Reply, tag="status"):
    """The whole status."""

    daemon: DaemonInfo
    providers: list[ProviderInfo]
    current_provider: str | None
    model_mapping: dict[str, list[str]]
    pins: dict[str, str]
    text: str


class ExplainedCandidate(Struct):
    """One candidate in the order in which it would be tried."""

    provider: str
    model: str
    state: Availability
    taken: bool
    until: str | None
    why: str
    limits: list[LimitInfo]


class Explained(Reply, tag="explained"):
    """The decision on one model, candidate by candidate."""

    model: str
    decision: Literal["use", "wait"]
    retry_at: str | None
    """When the first candidate may serve; null where one can now, or where time cannot help."""
    message: str
    candidates: list[ExplainedCandidate]


class HistoryRow(Struct):
    """The usage of one provider and model in one hour or day."""

    at: str
    provider: str
    model: str
    requests: int
    errors: dict[str, int]
    tokens: int
    cost: float
    switches: int


class History(Reply, tag="history"):
    """Usage over time, oldest first."""

    bucket: Literal["hour", "day"]
    rows: list[HistoryRow]
    kept_going: int
    """Failovers: how often a session left a provider that could not serve it."""
    not_waited_ms: int
    """The time for which these providers could not serve; see `rlmd.store.history_savings`."""


class Event(Struct, tag_field="type", tag="event", omit_defaults=True):
    """Something worth telling. Pushed, it has no id."""

    event: EventKind | Change
    at: str
    message: str
    provider: str | None = None
    model: str | None = None
    session: str | None = None
    to: str | None = None
    reason: str | None = None
    until: str | None = None
    allowance: Allowance | None = None


class Log(Reply, tag="log"):
    """Events, newest last."""

    events: list[Event]


class Done(Reply, tag="done"):
    """It is done."""

    message: str


class AdoptedReply(Reply, tag="adopted"):
    """A sentence for each import that was applied, and for each that was skipped."""

    taken: list[str]
    left: list[str]


class Subscribed(Reply, tag="subscribed"):
    """Events follow on this connection."""

    events: list[str]


class Pong(Reply, tag="pong"):
    """The daemon answers."""


class Error(Reply, tag="error"):
    """The request had no effect; `message` says what to do about it.

    Two codes are different. A change with `not_durable` holds until the daemon ends. `internal` is a bug with unknown
    effects.
    """

    code: ErrorCode
    message: str


AnyReply = (
    Welcome
    | Use
    | Wait
    | Pass
    | Recorded
    | Status
    | Explained
    | History
    | Log
    | Done
    | AdoptedReply
    | Subscribed
    | Pong
    | Error
    | Event
)
