"""Conversations of agents: on which provider each one is, and which providers failed in its present turn."""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal

from msgspec import Struct

TURN_IDLE = 1800.0
"""Seconds without a request after which a turn is over."""
SESSION_IDLE = 300.0
"""Under `failback = "idle"`: seconds of silence after which a session may return to a better provider."""
REMEMBERED = 10_000


class Session(Struct):
    """One conversation. Soft state: a restart forgets it, and the next request starts a turn."""

    provider: str | None = None
    """Where its last request went."""
    last: float = 0.0
    in_turn: bool = False
    leased: bool = False
    """The session has made a request before."""
    failed: frozenset[str] = frozenset()
    """Providers that failed in this turn."""
    waited: frozenset[str] = frozenset()
    """Providers that this turn has waited for once, within patience."""

    def heard(self, now: float, *, new_turn: bool) -> None:
        """Note a request of the session. In a new turn, providers that failed in the turn before may be tried again."""
        self.last = now
        if new_turn:
            self.in_turn = True
            self.failed = self.waited = frozenset()

    def turn_open(self, now: float) -> bool:
        """True if the last turn still runs."""
        return self.in_turn and now - self.last < TURN_IDLE

    def sticky(self, failback: Literal["turn", "idle", "session"], now: float, *, in_turn: bool) -> str | None:
        """Return the provider that the session stays with, or None; `in_turn`: the open turn goes on."""
        match failback:
            case "turn":
                stays = in_turn
            case "idle":
                stays = now - self.last < SESSION_IDLE
            case "session":
                stays = True
        return self.provider if stays else None


class Sessions:
    """The sessions heard of last, at most `REMEMBERED`; the longest silent ones are forgotten first."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Session] = OrderedDict()

    def get(self, name: str | None) -> Session | None:
        """Look a session up without remembering it."""
        return self._known.get(name) if name is not None else None

    def touch(self, name: str) -> Session:
        """Get a session, new if need be, as the one heard of last."""
        session = self._known.get(name)
        if session is None:
            session = self._known[name] = Session()
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(name)
        return session

    def __len__(self) -> int:
        return len(self._known)
