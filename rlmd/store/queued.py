"""Messages that wait to be sent to a notification target, as the state keeps them."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from rlmd.core.model import Moment


class QueuedMessage(Struct):
    """One message to one target, which is named by a digest of its address."""

    target: str
    at: Moment
    event: str
    message: str
    until: Moment | None = None
    held: bool = False
    """The message came in quiet hours. When they end, it is sent if it still holds."""
    tries: Annotated[int, Meta(ge=0, le=10**9)] = 0
    due: Moment = 0.0
