"""Small files that a person's service manager reads: whole or not at all, and gone without a trace."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path


def present(path: Path) -> str | None:
    """Return the text of a file, or None where there is none.

    One that cannot be read here is none: the service manager, which is the same person, cannot read it either.
    """
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def change(path: Path, text: str) -> None:
    """Give a file this text; whoever reads it meets the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        Path(beside).chmod(0o644)
        Path(beside).rename(path)
    except BaseException:
        with suppress(OSError):
            Path(beside).unlink()
        raise


def remove_empty(directory: Path, until: Path) -> None:
    """Remove a directory, and those above it below `until`, while they are empty."""
    while directory != until and directory.is_relative_to(until):
        try:
            directory.rmdir()
        except FileNotFoundError:
            pass
        except OSError:
            return
        directory = directory.parent
