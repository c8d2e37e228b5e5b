"""What a configuration may say: every key with its type and default, as msgspec structs.

Owns the tables and the sentence where a value of one of its own types is wrong. Reading a text into them is
document.py's subject, what the tables mean together config.py's.
"""

from __future__ import annotations

from datetime import time
from typing import Annotated, Any, ClassVar, Literal, Self
from zoneinfo import ZoneInfo

from msgspec import Meta, Struct, field

from rlmd.config import durations
from rlmd.core.model import EventKind, Quantity, WindowKind

Name = Annotated[str, Meta(min_length=1)]
Count = Annotated[int, Meta(ge=1, le=2**53 - 1)]
Amount = Annotated[float, Meta(gt=0, le=2**53 - 1)]
Share = Annotated[float, Meta(gt=0, le=1)]


class Duration(float):
    """Seconds, written as a string with units.

    Of this type and the others here, `read` raises ValueError with what follows the key in a sentence.
    """

    least: ClassVar[float] = 0
    most: ClassVar[float] = durations.LONGEST

    @classmethod
    def read(cls, written: object) -> Self:
        """Return the seconds of `written`, within the bounds of this kind of duration."""
        if not isinstance(written, str):
            raise ValueError('must be a duration in quotes with its unit, such as "90s" or "1h30m".')  # noqa: TRY004
        try:
            seconds = durations.parse(written)
        except ValueError as error:
            raise ValueError(f'must be a duration: "{written}" {error}.') from None
        if seconds < cls.least:
            raise ValueError(f'must be at least "{durations.show(cls.least)}".')
        if seconds > cls.most:
            raise ValueError(f'must be at most "{durations.show(cls.most)}".')
        return cls(seconds)


class Span(Duration):
    """A duration of more than nothing."""

    least = 0.001


class Timer(Duration):
    """What the agent waits for: its timers overflow at 24.8 days, and would then fire at once."""

    most = 24 * 86_400.0


class Deadline(Timer):
    """A timer that would mean "never ask" at zero."""

    least = 0.001


class Per(str):
    """The length of a limit's window, by one name for one length."""

    __slots__ = ()

    @classmethod
    def read(cls, written: object) -> Self:
        """Return the normalised span, or "month"."""
        if written == "month":
            return cls("month")
        try:
            return cls(durations.span(Duration.read(written)))
        except ValueError:
            meant = durations.nearest(written) if isinstance(written, str) else None
            hint = f' Did you mean "{meant}"?' if meant and durations.parse(meant) % 1 == 0 else ""
            raise ValueError(f'must be a whole number of seconds or more, such as "5h", or "month".{hint}') from None


class QuietHours(tuple[time, time]):
    """The local times between which nobody is notified; they may span midnight."""

    __slots__ = ()

    @classmethod
    def read(cls, written: object) -> Self:
        """Return start and end."""
        try:
            start, end = (time.fromisoformat(part.strip()) for part in str(written).split("-"))
        except ValueError:
            raise ValueError('must be two times, such as "22:00-07:00".') from None
        if start == end or start.tzinfo or end.tzinfo:
            raise ValueError('must be two different local times, such as "22:00-07:00".')
        return cls((start, end))


class Table(Struct, forbid_unknown_fields=True, kw_only=True):
    """One table of the file: its keys are the fields."""


class ModelTable(Table):
    """`"canonical" = { name = …, context = … }` in [provider.models]."""

    name: Name
    context: Count | None = None


class LimitTable(Table):
    """[[provider.limit]]."""

    of: Quantity
    max: Amount
    per: Per
    window: WindowKind | None = None
    model: Name | None = None
    warn_at: list[Share] = field(default_factory=lambda: [0.8, 0.95])
    time_zone: ZoneInfo | None = None


class BareProviderTable(Table):
    """What RLMD_PROVIDERS may say of a provider."""

    id: Name
    models: list[Name] | dict[str, Any]
    priority: Count = 1
    hourly_limit: Count | None = None
    daily_limit: Count | None = None


class ProviderTable(BareProviderTable):
    """[[provider]]."""

    enabled: bool = True
    account: Name | None = None
    time_zone: ZoneInfo | None = None
    limit: list[LimitTable] = []


class FallbackTable(Table):
    """[[fallback]]."""

    model: Name
    to: Annotated[list[Name], Meta(min_length=1)]


class PatternTable(Table):
    """[[cooldown.pattern]]."""

    match: Name
    kind: Literal["throttle", "quota", "credits", "overloaded", "auth", "ignore"]
    provider: Name | None = None
    for_: Span | None = field(default=None, name="for")


class CooldownTable(Table):
    """[cooldown]."""

    default: Span = Span.read("1h")
    throttle: Span = Span.read("30s")
    throttle_max: Span = Span.read("30m")
    overloaded: Span = Span.read("10s")
    longest: Span = Span.read("8d")
    pattern: list[PatternTable] = []


class AgentTable(Table):
    """[agent]."""

    daemon_timeout: Deadline = Deadline.read("150ms")
    first_byte: Timer = Timer.read("180s")
    wait: Timer = Timer.read("2m")
    stderr: bool = True


class NotifyTable(Table):
    """[notify]."""

    targets: list[Name] = []
    events: list[EventKind] = field(
        default_factory=lambda: ["switched", "exhausted", "recovered", "warning", "all_limited", "auth"]
    )
    quiet_hours: QuietHours | None = None


class HistoryTable(Table):
    """[history]."""

    keep: Span = Span.read("90d")


class File(Table):
    """The whole file; what is no table stands at its top."""

    prefer: Literal["priority", "agent"] = "priority"
    strategy: Literal["priority", "headroom"] = "priority"
    failback: Literal["turn", "idle", "session"] = "turn"
    patience: Duration = Duration.read("3s")
    time_zone: ZoneInfo | None = None
    autostart: bool = True
    provider: list[ProviderTable] = []
    fallback: list[FallbackTable] = []
    cooldown: CooldownTable = field(default_factory=CooldownTable)
    agent: AgentTable = field(default_factory=AgentTable)
    notify: NotifyTable = field(default_factory=NotifyTable)
    history: HistoryTable = field(default_factory=HistoryTable)


TABLES: dict[tuple[str, ...], type[Table]] = {
    (): File,
    ("provider",): ProviderTable,
    ("provider", "limit"): LimitTable,
    ("provider", "models", "*"): ModelTable,
    ("fallback",): FallbackTable,
    ("cooldown",): CooldownTable,
    ("cooldown", "pattern"): PatternTable,
    ("agent",): AgentTable,
    ("notify",): NotifyTable,
    ("history",): HistoryTable,
}
"""Every table by the names on the way to it."""
