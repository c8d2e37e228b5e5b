"""Whether whoever needs the daemon may start it, where no service manager keeps one.

Owns a file in the state directory with the last word of the person: `start` or `stop`. What a person stopped stays
so until they start it. What they never started comes by itself only where their file has `autostart = true` in it.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pathlib import Path

    from rlmd.paths import Paths

NAME = "autostart"


def remember(paths: Paths, word: Literal["start", "stop"]) -> None:
    """Keep what the person said. Without a state directory there is nothing to keep it for."""
    with suppress(OSError):
        file = _file(paths)
        file.touch(mode=0o600)
        file.write_text(f"{word}\n", encoding="ascii")


def is_wanted(paths: Paths) -> bool:
    """Tell whether a daemon may be started that nobody has asked for in so many words."""
    from rlmctl.daemon.services import serving
    from rlmd.config.policy import ConfigError, load

    said = _said(paths)
    if said == "stop" or serving(paths) is not None:
        return False
    try:
        wanted = load(paths.config).autostart
    except ConfigError:  # it says nothing either way, and the daemon has the last good one
        wanted = True
    return wanted and (said == "start" or _is_written(paths.config))


def _said(paths: Paths) -> str | None:
    try:
        return _file(paths).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None


def _is_written(config: Path) -> bool:
    import tomllib

    try:
        return "autostart" in tomllib.loads(config.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return False


def _file(paths: Paths) -> Path:
    return paths.state_dir / NAME
