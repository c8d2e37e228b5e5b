"""Exit codes, and the error of a command that cannot be done. Nothing slow is imported here."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

FINE, FAILED, WRONG, UNREACHABLE = 0, 1, 2, 3
"""Exit codes: fine; an error or a failed check; wrong usage or configuration; no daemon can be reached."""


class CommandError(Exception):
    """The command cannot be done. `mend` is what the person can type to change that."""

    def __init__(self, message: str, mend: str = "", code: int = FAILED) -> None:
        super().__init__(message)
        self.mend = mend
        self.code = code


def did_you_mean(typed: str, known: Collection[str]) -> str:
    """Return the question after the nearest known word, with a space in front; nothing where none is near."""
    from difflib import get_close_matches

    near = get_close_matches(typed, known, 1)
    return f" Did you mean {near[0]!r}?" if near else ""
