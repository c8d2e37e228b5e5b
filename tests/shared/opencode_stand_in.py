"""A stand-in for OpenCode that can do one thing: say its version. What a version loads is tried with the real ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def opencode_that_says(folder: Path, prints: str, *, name: str = "opencode", code: int = 0) -> Path:
    """Place a program in a folder of the PATH."""
    folder.mkdir(exist_ok=True)
    file = folder / name
    file.write_text(f"#!/bin/sh\necho '{prints}'\nexit {code}\n")
    file.chmod(0o755)
    return file
