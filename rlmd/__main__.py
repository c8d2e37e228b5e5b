"""The command `rlmd`: the daemon, in the foreground."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from typing import TYPE_CHECKING

from rlmd import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

LINE = "%(asctime)s %(levelname)s %(message)s"
PRIORITIES = {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6, logging.DEBUG: 7}
"""What the journal calls the levels."""
LEVELS = ("debug", "info", "warning", "error")


class JournalFormatter(logging.Formatter):
    """Writes lines for the journal: it has the time already, and takes the level from `<N>` in front of each."""

    def format(self, record: logging.LogRecord) -> str:  # type: ignore[explicit-override]  # typing.override is 3.12's
        """Write a record, which may have more than one line."""
        mark = f"<{PRIORITIES.get(record.levelno, 6)}>"
        return "\n".join(mark + line for line in super().format(record).split("\n"))


def is_journal(descriptor: int, environ: Mapping[str, str]) -> bool:
    """Tell whether systemd connected this very stream to the journal: a child's own file is none."""
    try:
        stat = os.fstat(descriptor)
    except OSError:
        return False
    return environ.get("JOURNAL_STREAM") == f"{stat.st_dev}:{stat.st_ino}"


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and serve. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="rlmd",
        description="Owns what is known about every provider's rate limits and tells coding agents which one to use. "
        "Runs in the foreground; `rlmctl start` runs it in the background.",
        epilog="RLMD_CONFIG, RLMD_STATE_DIR and RLMD_SOCKET move its files; `rlmctl paths` shows where they are.",
    )
    parser.add_argument("--log-level", choices=LEVELS, default="info", help="what goes to stderr (default: info)")
    parser.add_argument("--version", action="version", version=f"rlmd {__version__}")
    options = parser.parse_args(arguments)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JournalFormatter() if is_journal(sys.stderr.fileno(), os.environ) else logging.Formatter(LINE))
    logging.basicConfig(handlers=[handler], level=options.log_level.upper())
    if sys.platform == "win32":
        logging.getLogger(__name__).error("rlmd needs Linux or macOS. On Windows run it inside WSL, beside the agent.")
        return 2
    from rlmd.daemon import run  # noqa: PLC0415  (trio and the rest are not needed to say --version)
    from rlmd.paths import resolve  # noqa: PLC0415

    return run(resolve())


if __name__ == "__main__":
    sys.exit(main())
