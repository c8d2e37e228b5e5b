"""Writes the tables of protocol.md anew from the messages: `python docs/protocol_tables.py`, or `--check` alone.

The page's own are the sentences: of a field that the page knows, the last column stays as it is. A new field gets a row
without a sentence, and one that is gone loses its row.
"""

# ruff: noqa: INP001, T201  (a script of its own, and what it prints is its result)

from __future__ import annotations

import json
import re
import sys
import types
import typing
from pathlib import Path
from typing import Any, Literal

import msgspec

from rlmd.wire import messages

PAGE = Path(__file__).with_name("protocol.md")
CHAPTERS = {"Requests": messages.AnyRequest, "Replies": messages.AnyReply}


def kind_of(annotation: Any) -> str:
    """Say in the page's words what may stand in a field."""
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return kind_of(parts[0])
    if origin in {typing.Union, types.UnionType}:
        kinds = {kind_of(part) for part in parts if part is not msgspec.UnsetType}
        return " or ".join([*sorted(kinds - {"null"}), *sorted(kinds & {"null"})])
    if origin in {Literal, list, dict}:
        return {Literal: "string", list: "list", dict: "object"}[origin]
    names = {str: "string", int: "integer", float: "number", bool: "boolean", types.NoneType: "null"}
    return names.get(annotation, "time" if annotation.__name__ == "datetime" else "object")


def default_of(field: msgspec.structs.FieldInfo) -> str:
    """Say in the page's words what a field that is left out counts as."""
    if field.required:
        return "\N{EN DASH}"
    default = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    return "none" if default in (None, {}, "") else f"`{json.dumps(default)}`"


def table(kind: type[msgspec.Struct], sentences: dict[str, str]) -> str:
    """Return the table of a message's fields; empty where there is none but the id."""
    hints = typing.get_type_hints(kind, include_extras=True)
    asks = kind in typing.get_args(messages.AnyRequest)
    rows = [("field", "type", *(["default"] if asks else []), "meaning")]
    rows.append(("---",) * len(rows[0]))
    for field in msgspec.structs.fields(kind):
        if field.name != "id":
            what = kind_of(hints[field.name])
            if asks or kind is messages.Event:  # whose fields may all be left out
                what = what.removesuffix(" or null")
            name = field.encode_name
            rows.append((f"`{name}`", what, *([default_of(field)] if asks else []), sentences.get(name, "")))
    lines = [f"| {' | '.join(row)} |" if row[0] != "---" else f"|{'|'.join(row)}|" for row in rows]
    return "".join(f"{line}\n" for line in lines) if rows[2:] else ""


def rewritten(page: str) -> str:
    """Return the page with the tables of all messages as they are now."""
    for chapter, union in CHAPTERS.items():
        for kind in typing.get_args(union):
            heading = rf"(^## {chapter}\n.*?^### `{kind.__struct_config__.tag}`\n)(.*?)(?=^##|\Z)"
            found = re.search(heading, page, re.DOTALL | re.MULTILINE)
            if found is None:
                raise SystemExit(f"docs/protocol.md has no section on {kind.__struct_config__.tag} under {chapter}.")
            text = found[2]
            sentences = dict(re.findall(r"^\| `(\w+)` \|.*\| ([^|]*) \|$", text, re.MULTILINE))
            fresh, old = table(kind, sentences), re.search(r"^\| field .*?(?=^[^|]|\Z)", text, re.DOTALL | re.MULTILINE)
            if old is not None:
                text = text.replace(old[0], fresh)
            elif fresh:
                before, fence, after = text.partition("```json")
                text = f"{before}{fresh}\n{fence}{after}"
            page = page[: found.start(2)] + text + page[found.end(2) :]
    return page


def main(arguments: list[str]) -> int:
    """Rewrite the page, or only tell whether it is as the messages are."""
    page = PAGE.read_text(encoding="utf-8")
    fresh = rewritten(page)
    if "--check" in arguments:
        if fresh != page:
            print("docs/protocol.md is not as the messages are: python docs/protocol_tables.py", file=sys.stderr)
        return int(fresh != page)
    PAGE.write_text(fresh, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
