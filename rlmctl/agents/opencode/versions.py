"""Which form of the shim a version of OpenCode loads, and what was tried: one table.

`install`, `setup`, `doctor` and docs/opencode.md have what they say of versions from here. Starts no program.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection

Form = Literal["object", "function"]
"""Forms of the entry: it exports `{ id, server, setup }`, or a function that has `id` and `server` on it."""
UPGRADE = "opencode upgrade"


class Version(NamedTuple):
    """A version of OpenCode, in the order of their release."""

    major: int
    minor: int
    patch: int
    released: bool = True
    """False for what comes before a release, such as `2.0.0-beta.1`."""

    @property
    def name(self) -> str:
        """The program's name, as a person calls it."""
        return f"{self.major}.{self.minor}.{self.patch}{'' if self.released else ' (before its release)'}"


class Way(NamedTuple):
    """How the shim gets into the versions from one on, up to the next row of the table."""

    since: Version
    forms: tuple[Form, ...]
    """The forms that these versions load; the first is the one to write."""
    tried: tuple[str, ...]
    """The versions with which this was tried: OpenCode starts, loads the shim, and a turn that meets a limit goes on
    with the next provider."""


WAYS = (
    Way(Version(1, 1, 53), ("function",), ("1.1.53", "1.1.65", "1.2.6", "1.2.11", "1.2.27", "1.3.2")),
    Way(Version(1, 14, 34), ("object", "function"), ("1.14.34", "1.15.13", "1.17.0", "1.17.9", "1.18.33", "1.18.34")),
    Way(Version(2, 0, 0), ("object",), ("2.0.15",)),
)
"""Oldest first. A border is the first version that was tried. 1.1.27 has no hook `chat.headers`, so the shim would
see no request. 1.3.2 loads functions alone, and 1.1.65 does not start with anything else. 2.0.15 loads no function."""
UNKNOWN = Version(1, 14, 34)
"""The version that an unknown one is taken for. From this version on 1.x and 2.x load one form."""

_VERSION = re.compile(r"(?<![\d.])v?(\d+)\.(\d+)\.(\d+)(-[0-9A-Za-z.-]+)?")


class NotServedError(Exception):
    """No form of the shim serves the OpenCode that is here. `mend` is what the person can do."""

    def __init__(self, message: str, mend: str) -> None:
        super().__init__(message)
        self.mend = mend


def parse(text: str) -> Version | None:
    """Read what `opencode --version` prints. None where it names no release: `local`, or a snapshot `0.0.0-…`."""
    match = _VERSION.search(text)
    if match is None:
        return None
    version = Version(int(match[1]), int(match[2]), int(match[3]), match[4] is None)
    return None if version[:3] == (0, 0, 0) else version


def way(version: Version) -> Way | None:
    """Return how the shim gets into this version; None for one that is older than anything that was tried."""
    return next((row for row in reversed(WAYS) if row.since <= version), None)


def choose(versions: Collection[Version]) -> Form:
    """Return the form that all these versions load. Raises `NotServedError` where there is none."""
    rows: dict[Version, Way] = {}
    for version in sorted(versions, reverse=True) or [UNKNOWN]:
        row = way(version)
        if row is None:
            raise NotServedError(f"{too_old(version)}. Nothing was written.", UPGRADE)
        rows[version] = row
    for form in next(iter(rows.values())).forms:
        if all(form in row.forms for row in rows.values()):
            return form
    names = " and ".join(version.name for version in rows)
    message = f"OpenCode {names} are both here, read one folder, and load no form of the shim in common."
    raise NotServedError(f"{message} Nothing was written.", f"{UPGRADE}  (to {UNKNOWN.name} or later)")


def tried(version: Version) -> str:
    """Say with which versions the shim was tried, for a person who has this one."""
    row = way(version) or WAYS[0]
    if version.released and version.name in row.tried:
        return f"{version.name}, which the shim was tried with"
    return f"{version.name}; the shim was tried with {', '.join(row.tried)}"


def too_old(version: Version) -> str:
    """Say that there is no way into this version."""
    return f"OpenCode {version.name} is too old: the shim was tried with {WAYS[0].since.name} and later"
