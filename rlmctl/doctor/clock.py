"""Whether this machine's clock and time zone can be: windows and cooldowns are absolute times."""

from __future__ import annotations

import os
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rlmctl.doctor import Check

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rlmd.paths import Paths

DAY = 86_400.0
SLACK = 60.0
"""Seconds that a clock may be set back without anybody being the worse for it."""
SET = "timedatectl set-ntp true, or set the clock by hand"


def clock(paths: Paths) -> Iterator[Check]:
    """Check the clock against what cannot be later than now: this program, and what the daemon has written."""
    import rlmd

    now = time.time()
    installed = Path(rlmd.__file__).stat().st_mtime
    written = max((_written(file) for file in (paths.database, *_beside(paths.database))), default=0.0)
    if now < installed - DAY:
        meaning = f"it says {_told(now)}, and this program was installed on {_told(installed)}"
        yield Check("clock", "wrong", meaning, SET)
    elif now < written - SLACK:
        meaning = f"it says {_told(now)}, and the state was written at {_told(written)}: what it held may end too late"
        yield Check("clock", "wrong", meaning, f"{SET}; if it is right now: rlmctl reset")
    else:
        yield Check("clock", "ok", f"{_told(now)}")


def zone() -> Iterator[Check]:
    """Check that the time zone is one."""
    from rlmd.config import zones

    name = "time zone"
    written = os.environ.get("TZ", "").removeprefix(":")
    try:
        if written:
            zones.named(written)
    except ValueError as error:
        yield Check(name, "wrong", f"TZ: {error}", "export TZ=Europe/Berlin, or unset TZ")
        return
    yield Check(name, "ok", f"{zones.local(os.environ)}, unless the configuration names another one")


def _beside(database: Path) -> Iterator[Path]:
    yield database.with_name(f"{database.name}-wal")


def _written(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0


def _told(at: float) -> str:
    moment = datetime.fromtimestamp(at).astimezone()
    return f"{moment:%Y-%m-%d %H:%M}"
