"""Time zones by name, and the machine's own. Reads the system's files; knows nothing of windows."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, available_timezones

from rlmd.core.text import near

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def named(name: str) -> ZoneInfo:
    """Return the zone of an IANA name.

    Raises ValueError, with a sentence whose subject is the key, where there is none.
    """
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        known = {zone.lower(): zone for zone in available_timezones()}
        meant = near(name.lower(), known)
        mend = f'Did you mean "{known[meant]}"?' if meant else 'Write one such as "Europe/Berlin", or "local".'
        raise ValueError(f'is "{name}", which is no time zone. {mend}') from None


def local(environ: Mapping[str, str], etc: Path = Path("/etc")) -> ZoneInfo:
    """Return the machine's zone, by its name where it has one: counters of calendar windows depend on it.

    `TZ` in `environ`, where it names a zone; else where `etc`/localtime points to; else what `etc`/timezone
    says; else the nameless rules in `etc`/localtime, as "local"; else UTC.
    """
    said = environ.get("TZ", "").removeprefix(":")
    file = Path(said) if said.startswith("/") else etc / "localtime"
    for name in (said, *_names_behind(file), _first_line(etc / "timezone")):
        with suppress(KeyError, ValueError, OSError):
            return ZoneInfo(name)
    with suppress(ValueError, OSError), file.open("rb") as rules:
        return ZoneInfo.from_file(rules, key="local")
    return ZoneInfo("UTC")


def _names_behind(file: Path) -> Iterator[str]:
    """Yield what a path into a zone directory names: what was linked to before what that aliases."""
    with suppress(OSError, RuntimeError):
        yield str(file).rpartition("zoneinfo/")[2]
        for target in (file.readlink(), file.resolve()):
            yield str(target).rpartition("zoneinfo/")[2]


def _first_line(file: Path) -> str:
    try:
        return file.read_text().partition("\n")[0].strip()
    except (OSError, ValueError):
        return ""
