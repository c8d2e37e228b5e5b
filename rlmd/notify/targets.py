"""Where notifications go: what Apprise knows, or a webhook that takes Slack's form. It sends, and decides nothing.

Addresses are secrets. No message of ours holds one, and what the libraries log is in no log of ours (see logs.py).
Apprise is loaded by the first message that needs it, not by a daemon that has nobody to tell.
"""

from __future__ import annotations

import logging
import re
import threading
from typing import TYPE_CHECKING, Any

import msgspec
import trio

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 10.0
"""Seconds that a webhook may take to answer."""
AT_ONCE = 8
"""Messages under way at the same time."""
SLACK = "https://hooks.slack.com/"
TONES = {"auth": "failure", "recovered": "success", "switched": "info", "reset": "info", "config": "info"}
"""How Apprise is to colour an event; the others are warnings."""

_sending = threading.local()
"""What the libraries say in a thread while it sends."""
_limiter: list[trio.CapacityLimiter] = []


def masked(address: str) -> str:
    """Return as much of an address as may be shown."""
    return f"{address.partition('://')[0]}://…"


async def send(address: str, text: str, event: str) -> str | None:
    """Send one message from a worker thread. Return why it was not delivered, None where it was."""
    if not _limiter:
        _limiter.append(trio.CapacityLimiter(AT_ONCE))
    return await trio.to_thread.run_sync(_send, address, text, event, abandon_on_cancel=True, limiter=_limiter[0])


class Overheard(logging.Handler):
    """Writes nothing. What libraries say in a thread that sends is kept for `_why`."""

    def emit(self, record: logging.LogRecord) -> None:  # type: ignore[explicit-override]  # typing.override is 3.12's
        """Keep what is said while something is sent."""
        said: list[str] | None = getattr(_sending, "said", None)
        if said is not None:
            said.append(record.getMessage())


def overhear() -> None:
    """Listen to the libraries."""
    everybody = logging.getLogger()
    if not any(isinstance(found, Overheard) for found in everybody.handlers):
        everybody.addHandler(Overheard())


def _send(address: str, text: str, event: str) -> str | None:
    said: list[str] = []
    _sending.said = said
    try:
        if address.startswith(SLACK):
            return _post(address, text)
        import apprise  # noqa: PLC0415  (a quarter of a second and 10 MiB, for those who have targets)

        plugin: Any = apprise.Apprise.instantiate(address)
        if plugin is None:
            if address.lower().startswith(("http://", "https://")):
                return _post(address, text)
            return "Apprise cannot read this address: github.com/caronc/apprise/wiki shows how it is written"
        tone = TONES.get(event, "warning")
        return None if plugin.notify(body=text, notify_type=tone) else _why(said)
    except Exception as error:  # noqa: BLE001  (whatever goes wrong in a plugin is that target's trouble)
        return f"it failed ({type(error).__name__})"  # and not its text, which may hold the address
    finally:
        del _sending.said


def _post(address: str, text: str) -> str | None:
    """Send to a webhook in Slack's form, which Mattermost, Rocket.Chat and many others take, too."""
    from ssl import SSLError  # noqa: PLC0415  (see above)
    from urllib.error import HTTPError, URLError  # noqa: PLC0415
    from urllib.request import Request, urlopen  # noqa: PLC0415

    headers = {"Content-Type": "application/json", "User-Agent": "rlmd"}
    request = Request(address, msgspec.json.encode({"text": text}), headers)  # noqa: S310  (the caller has looked)
    try:
        with urlopen(request, timeout=PATIENCE):  # noqa: S310  (see above)
            return None
    except HTTPError as error:
        error.close()
        return f"it answered with status {error.code}"
    except URLError as error:
        if isinstance(error.reason, SSLError):
            return (
                "it cannot be reached (its certificate is not accepted, or it speaks no TLS)"  # its text has the host
            )
        reason = getattr(error.reason, "strerror", None)
        return f"it cannot be reached{f' ({reason})' if reason else ''}"
    except TimeoutError:
        return f"it did not answer within {PATIENCE:g} s"


def _why(said: list[str]) -> str:
    """Tell from what a library logged why it failed, without a word of its own: there may be an address in it."""
    return next(_reasons("\n".join(said)), "it did not take the message")


def _reasons(said: str) -> Iterator[str]:
    if found := re.search(r"error=(\d{3})\b", said):
        yield f"it answered with status {found[1]}"
    if "onnection error" in said:
        yield "it cannot be reached"
