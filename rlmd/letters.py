"""What waits to be told to a notification target, as the state keeps it."""

from __future__ import annotations

from msgspec import Struct


class Letter(Struct):
    """One message to one target, which is named by a digest of its address."""

    target: str
    at: float
    event: str
    message: str
    until: float | None = None
    held: bool = False
    """It came in quiet hours: when they end, it is told if it still holds."""
    tries: int = 0
    due: float = 0.0
