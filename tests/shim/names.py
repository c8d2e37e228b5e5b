"""Writes the shim's lists of names from what the classifier reads: `python tests/shim/names.py`.

The shim passes on these headers of an answer and these members of an error, and no others.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from rlmd.core.errors import failure, header_names
from rlmd.core.errors import headers as hints

if TYPE_CHECKING:
    from collections.abc import Iterable

ANSWERS = Path(__file__).parents[2] / "rlmctl/agents/opencode/rlmd/answers"
WIDTH = 100
HEAD = "// Generated from what rlmd/core reads, by tests/shim/names.py: an edit is lost.\n"


def _list(name: str, values: Iterable[str]) -> str:
    """Write a list as the formatter would."""
    items = [json.dumps(value) for value in values]
    line = f"export const {name} = [{', '.join(items)}]\n"
    return (
        line if len(line) <= WIDTH else f"export const {name} = [\n" + "".join(f"  {item},\n" for item in items) + "]\n"
    )


def texts() -> dict[Path, str]:
    """Return what is to be in each generated file."""
    headers = _list("HEADERS", header_names.HEADERS) + _list("PATTERNS", header_names.PATTERNS)
    codes = dict.fromkeys([*failure.CODES, *hints.RESETS, "model"])
    fields = (
        _list("CODES", codes)
        + _list("SENTENCES", dict.fromkeys(failure.SENTENCES))
        + _list("NOT_SAID", failure.NOT_SAID)
    )
    return {ANSWERS / "headers.ts": HEAD + headers, ANSWERS / "fields.ts": HEAD + fields}


if __name__ == "__main__":
    for path, text in texts().items():
        path.write_text(text, encoding="utf-8")
