"""What a benchmark finds, one row a figure, and how it is written down: Markdown for people, JSON for programs."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from msgspec import Struct


class UnavailableError(Exception):
    """Something cannot be measured on this machine; the message says why."""


class Row(Struct, kw_only=True):
    """One figure of ours, and of something else measured in the same run where there is such a thing."""

    part: str
    what: str
    ours: float | None = None
    unit: str = "µs"
    beside: str = ""
    """What it is measured beside."""
    theirs: float | None = None
    ratio: float | None = None
    """Ours by theirs: the median over rounds in which both took turns."""
    most: float | None = None
    """What the ratio may be at most; without a ratio, the figure itself."""
    least: float | None = None
    note: str = ""
    failed: bool = False
    """It could not be measured because something broke."""

    @property
    def met(self) -> bool | None:
        """Whether it is what it should be; None where nothing is asked of it, or it could not be measured."""
        if self.failed:
            return False
        judged = self.ours if self.theirs is None else self.ratio
        if judged is None or (self.most is None and self.least is None):
            return None
        return (self.most is None or judged <= self.most) and (self.least is None or judged >= self.least)


class Report(Struct):
    """All rows of a run, and what it ran on."""

    machine: str
    python: str
    load: float
    """Processes that wanted a core when it began: well above 0 means that times are too long, and ratios rougher."""
    short: bool
    rows: list[Row]


def report(rows: list[Row], load: float, *, short: bool) -> Report:
    """Put rows together with what this machine is."""
    cores = f"{os.cpu_count()} cores"
    machine = f"{_processor()}, {cores}, {platform.system()} {platform.release().split('-')[0]}"
    return Report(machine, platform.python_version(), round(load, 1), short, rows)


def markdown(found: Report, headings: dict[str, str]) -> str:
    """Write the report as Markdown: a table a part, under its heading and the command that measures it again."""
    lines = [f"{found.machine}, Python {found.python}; load {found.load:g} at the start."]
    if found.short:
        lines.append("The short form: few rounds, for a look only.")
    for part in dict.fromkeys(row.part for row in found.rows):
        lines += ["", f"### {headings[part]}", "", f"`python -m benchmarks {part}`", ""]
        lines += ["| what | rlmd | beside | theirs | ratio | wanted | |", "|---|---|---|---|---|---|---|"]
        lines += [_line(row) for row in found.rows if row.part == part]
        notes = dict.fromkeys(row.note for row in found.rows if row.part == part and row.note and row.ours is not None)
        lines += ["", *notes] if notes else []
    return "\n".join(lines) + "\n"


def _line(row: Row) -> str:
    met = {True: "yes", False: "**no**", None: ""}[row.met]
    if row.ours is None:
        return f"| {row.what} | not measured: {row.note} | {row.beside} | | | {_wanted(row)} | {met} |"
    theirs = "" if row.theirs is None else _amount(row.theirs, row.unit)
    ratio = "" if row.ratio is None else f"{row.ratio:.3g}"
    cells = (row.what, _amount(row.ours, row.unit), row.beside, theirs, ratio, _wanted(row), met)
    return f"| {' | '.join(cells)} |"


def _wanted(row: Row) -> str:
    asked = [f"≤ {row.most:g}" if row.most is not None else "", f"≥ {row.least:g}" if row.least is not None else ""]
    return " ".join(filter(None, asked))


def _amount(value: float, unit: str) -> str:
    digits = 0 if value >= 1000 else 1 if value >= 10 else 2  # noqa: PLR2004  (three figures are what is known)
    return f"{value:,.{digits}f} {unit}".rstrip()


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()
