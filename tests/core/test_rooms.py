"""The rooms of the house: which folder may import which. A newcomer reads `MAY_IMPORT` as the map."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]

LEAVES = {"rlmd", "rlmd.address", "rlmd.paths"}
"""The version and the places of files: modules that import nothing of ours but each other. Anybody may import them."""

MAY_IMPORT = {
    "rlmd.core.errors": {"rlmd.core"},
    "rlmd.core": {"rlmd.core.errors"},
    "rlmd.wire": {"rlmd.core"},
    "rlmd.config": {"rlmd.core"},
    "rlmd.store": {"rlmd.core", "rlmd.wire"},
    "rlmd.notify": {"rlmd.store", "rlmd.wire", "rlmd.config", "rlmd.core"},
    "rlmd.server": {"rlmd.core", "rlmd.wire", "rlmd.store", "rlmd.notify", "rlmd.config"},
    "rlmd.client": {"rlmd.wire"},
    "rlmd (hall)": {"rlmd.core", "rlmd.config", "rlmd.wire", "rlmd.store", "rlmd.notify", "rlmd.server"},
}
"""Room of the daemon → the rooms that its files may import."""


def room_of(module: str) -> str:
    """Name the room that a module of ours is in."""
    if module in LEAVES:
        return module
    parts = module.split(".")
    if module.startswith("rlmd.core.errors"):
        return "rlmd.core.errors"
    return ".".join(parts[:2]) if (ROOT / parts[0] / parts[1]).is_dir() else f"{parts[0]} (hall)"


def modules(package: str) -> dict[str, Path]:
    """Find every module of a package, by its dotted name."""
    found = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path, known: dict[str, Path]) -> Iterator[str]:
    """Yield the modules of ours that a file imports, those for the type checker included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module in known:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in known else str(node.module)


DAEMON = modules("rlmd")


@pytest.mark.parametrize("module", DAEMON)
def test_a_file_of_the_daemon_imports_only_from_the_rooms_that_its_own_room_may(module: str) -> None:
    if module in LEAVES:
        assert set(imports(DAEMON[module], DAEMON)) <= LEAVES
        return
    own = room_of(module)
    allowed = MAY_IMPORT[own] | LEAVES | {own}
    assert {name: room_of(name) for name in imports(DAEMON[module], DAEMON) if room_of(name) not in allowed} == {}


def test_every_room_stands_on_the_map() -> None:
    assert {room_of(module) for module in DAEMON} - LEAVES == set(MAY_IMPORT)


def test_imports_make_no_circle_between_files() -> None:
    arrows = {module: set(imports(path, DAEMON)) - {module} for module, path in DAEMON.items()}
    while leaves := {module for module, used in arrows.items() if not used}:
        arrows = {module: used - leaves for module, used in arrows.items() if module not in leaves}
    assert arrows == {}
