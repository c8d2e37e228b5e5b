"""The log on stderr: lines with time and level, or with the level as systemd's journal takes it.

Only messages of this program are written. A message of a library may hold an address or more: see `targets`.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

LINE = "%(asctime)s %(levelname)s %(message)s"
LEVELS = ("debug", "info", "warning", "error")
STDERR = 2
PRIORITIES = {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6, logging.DEBUG: 7}
"""What the journal calls the levels."""


def set_up(level: str, environ: Mapping[str, str] = os.environ) -> None:
    """Write messages of this level and above to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JournalLines() if is_journal(STDERR, environ) else logging.Formatter(LINE))
    ours = logging.getLogger("rlmd")
    ours.addHandler(handler)
    ours.setLevel(level.upper())
    logging.getLogger().addHandler(logging.NullHandler())  # else the warnings of libraries go to stderr
    logging.captureWarnings(True)  # else Python's own warnings go to stderr


def is_journal(descriptor: int, environ: Mapping[str, str]) -> bool:
    """Tell whether systemd connected this stream to the journal. The variable alone is also inherited by children."""
    try:
        stat = os.fstat(descriptor)
    except OSError:
        return False
    return environ.get("JOURNAL_STREAM") == f"{stat.st_dev}:{stat.st_ino}"


class JournalLines(logging.Formatter):
    """Writes the level in front of each line of a record, as the number from which the journal takes the level."""

    def format(self, record: logging.LogRecord) -> str:  # type: ignore[explicit-override]  # typing.override is 3.12's
        """Return the lines of a record."""
        level = PRIORITIES.get(record.levelno, 6)
        return "\n".join(f"<{level}>{line}" for line in super().format(record).split("\n"))
