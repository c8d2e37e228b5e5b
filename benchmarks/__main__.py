"""Measures what rlmd costs, beside what a user would have without it, and writes a table.

    python -m benchmarks [PART ...] [--short] [--json FILE] [--write]

Without a PART all of them run, which takes about ten minutes on a quiet machine.
"""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from benchmarks.load import LoadError
from benchmarks.table import Row, UnavailableError, markdown, report

if TYPE_CHECKING:
    from collections.abc import Iterator

PARTS = ("latency", "growth", "start", "startup", "idle", "shim", "peers")
"""Modules beside this one, in the order in which they run; each has `measure`, and its first line is its heading."""
PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
BEGIN, END = "<!-- python -m benchmarks --write -->", "<!-- end -->"


def main() -> int:
    """Run what is asked for. The exit code is 1 where a figure is not what it should be, but for the short form."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"one of: {', '.join(PARTS)} (default: all)")
    parser.add_argument("--short", action="store_true", help="few rounds, nothing is installed, no figure is judged")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there, too")
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.parent.name}/{PAGE.name}")
    options = parser.parse_args()
    if unknown := [part for part in options.parts if part not in PARTS]:
        parser.error(f"there is no part {unknown[0]}; the parts are {', '.join(PARTS)}")
    load = os.getloadavg()[0]
    rows = []
    for part in options.parts or PARTS:
        for row in _measured(part, short=options.short):
            rows.append(row)
            _tell(row)
    found = report(rows, load, short=options.short)
    text = markdown(found, {part: _heading(part) for part in PARTS})
    print(f"\n{text}")
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(found)) + b"\n")
    if options.write:
        _write(text)
    return 0 if options.short or all(row.met is not False for row in rows) else 1


def _measured(part: str, *, short: bool) -> Iterator[Row]:
    try:
        yield from import_module(f"benchmarks.{part}").measure(short=short)
    except UnavailableError as error:
        yield Row(part=part, what=_heading(part), note=str(error))
    except LoadError as error:  # the other parts may tell more
        yield Row(part=part, what=_heading(part), note=str(error), failed=True)


def _heading(part: str) -> str:
    return (import_module(f"benchmarks.{part}").__doc__ or part).partition("\n")[0].rstrip(".")


def _tell(row: Row) -> None:
    found = row.note if row.ours is None else f"{row.ours:,.2f} {row.unit}"
    beside = "" if row.ratio is None else f", {row.ratio:.3f} x {row.beside} ({row.theirs:,.2f})"
    print(f"{row.part}: {row.what}: {found}{beside}", file=sys.stderr)


def _write(text: str) -> None:
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
