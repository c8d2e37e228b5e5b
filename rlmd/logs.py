"""The log: lines with time and level on stderr; in systemd's journal entries with a level and fields.

Only what this program says itself is written. What libraries say may hold an address or more: see `targets`.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rlmd.wire.messages import Event

LINE = "%(asctime)s %(levelname)s %(message)s"
LEVELS = ("debug", "info", "warning", "error")
STDERR = 2
JOURNAL = "/run/systemd/journal/socket"
PRIORITIES = {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6, logging.DEBUG: 7}
"""What the journal calls the levels."""
FACTS = ("event", "provider", "model", "to", "session", "reason", "until")
"""What the journal keeps, beside its message, of a record with an `event`: `journalctl RLMD_EVENT=switched`."""


def set_up(level: str, environ: Mapping[str, str] = os.environ) -> None:
    """Have everything from this level on written, to where stderr leads."""
    handler: logging.Handler
    if is_journal(STDERR, environ):
        handler = Journal()
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter(LINE))
    ours = logging.getLogger("rlmd")
    ours.addHandler(handler)
    ours.setLevel(level.upper())
    logging.getLogger().addHandler(logging.NullHandler())  # without one, what libraries warn of goes to stderr
    logging.captureWarnings(True)  # for the same reason


def is_journal(descriptor: int, environ: Mapping[str, str]) -> bool:
    """Tell whether systemd connected this very stream to the journal: a child's own file is none."""
    try:
        stat = os.fstat(descriptor)
    except OSError:
        return False
    return environ.get("JOURNAL_STREAM") == f"{stat.st_dev}:{stat.st_ino}"


class Journal(logging.Handler):
    """Writes to the journal in its own protocol, and to stderr, which leads there too, where that cannot be."""

    def __init__(self, address: str = JOURNAL) -> None:
        super().__init__()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        with suppress(OSError):
            self._socket.connect(address)

    def emit(self, record: logging.LogRecord) -> None:  # type: ignore[explicit-override]  # typing.override is 3.12's
        """Write a record, which may have more than one line."""
        priority = PRIORITIES.get(record.levelno, 6)
        message = self.format(record)
        fields = {"MESSAGE": message, "PRIORITY": str(priority), "SYSLOG_IDENTIFIER": "rlmd", "LOGGER": record.name}
        event: Event | None = getattr(record, "event", None)
        if event is not None:
            facts = ((name, getattr(event, name)) for name in FACTS)
            fields |= {f"RLMD_{name.upper()}": fact for name, fact in facts if fact is not None}
        try:
            self._socket.send(b"".join(_field(name, text) for name, text in fields.items()), socket.MSG_DONTWAIT)
        except OSError:
            # The level of a line there is the number in front of it.
            lines = "".join(f"<{priority}>{line}\n" for line in message.split("\n"))
            with suppress(OSError):
                os.write(STDERR, lines.encode(errors="replace"))

    def close(self) -> None:  # type: ignore[explicit-override]  # typing.override is 3.12's
        """Let go of the journal."""
        self._socket.close()
        super().close()


def _field(name: str, text: str) -> bytes:
    """Write a field with its length, so that its text may hold anything."""
    data = text.encode(errors="replace")
    return b"%s\n%s%s\n" % (name.encode(), len(data).to_bytes(8, "little"), data)
