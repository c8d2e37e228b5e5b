"""What is drawn in a terminal, and how: the screen, bars, the checks of doctor.

Rich is imported by what draws and nowhere else, and that only where it is used: the import costs three times a bare
start of Python. A pipe gets no colour and no bars; NO_COLOR switches the colour off.
"""

from __future__ import annotations

import os
import sys
from datetime import datetime
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable

PIPE = 200
"""Columns where there is no terminal: nothing is cut."""
NEARLY = 0.8
"""The share of a limit from which its bar turns yellow: the first warning's, by default."""
MARKS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "wrong": ("✗", "red")}


def console() -> Console:
    """Return the terminal, without colour where none is wanted and wide enough for anything in a pipe."""
    terminal = sys.stdout.isatty()
    return Console(
        color_system="auto" if terminal and not os.environ.get("NO_COLOR") else None,
        width=None if terminal else PIPE,
        highlight=False,
        emoji=False,
        markup=False,
    )


def can_draw(characters: str, screen: Console) -> bool:
    """Whether a screen has these characters."""
    try:
        characters.encode(screen.encoding)
    except (LookupError, UnicodeEncodeError):
        return False
    return True


def bar(share: float | None, width: int, screen: Console) -> Text:
    """Draw a share of a limit, so many cells wide; None is no bar. A share of more than nothing shows."""
    if share is None:
        return Text("")
    colour = "red" if share >= 1 else "yellow" if share >= NEARLY else "green"
    full, empty = ("█", "░") if can_draw("█░", screen) else ("#", "-")
    cells = min(width, max(int(share * width), 1 if share else 0))
    return Text.assemble((full * cells, colour), (empty * (width - cells), "dim"))


def moment(text: str) -> datetime:
    """Read a time of the protocol."""
    return datetime.fromisoformat(text)


def show_checks(checks: Iterable[tuple[str, str, str, str]]) -> None:
    """Print (name, state, meaning, mend) a line; a state is `ok`, `warning` or `wrong`."""
    from rich.table import Table

    screen = console()
    for name, state, meaning, mend in checks:
        mark, colour = MARKS[state]
        if screen.is_terminal:
            row = Table.grid(padding=0)
            row.add_column(width=19)
            row.add_column(overflow="fold")
            row.add_row(Text.assemble((f"{mark} ", colour), name), meaning)
            screen.print(row)
        else:
            screen.print(Text.assemble((f"{mark} ", colour), f"{name:<17}", meaning), soft_wrap=True)
        if mend:  # not broken by us: it is there to be copied
            screen.print(Text.assemble(" " * 19, ("mend: ", "dim"), mend), soft_wrap=True)
