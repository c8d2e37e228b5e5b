"""Who may import what: the client stays small and fast, and the daemon does not know it."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]


def imported(package: str) -> Iterator[tuple[str, str]]:
    """Yield (file, module) for every import below a package, those for the type checker included."""
    for file in sorted((ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            else:
                continue
            yield from ((str(file.relative_to(ROOT)), name) for name in names)


def test_the_client_never_imports_trio() -> None:
    assert [file for file, module in imported("rlmctl") if module.partition(".")[0] == "trio"] == []


def test_the_daemon_never_imports_the_client() -> None:
    assert [file for file, module in imported("rlmd") if module.partition(".")[0] == "rlmctl"] == []


def test_the_socket_client_needs_the_standard_library_only() -> None:
    modules = {module for file, module in imported("rlmd/client") if file == "rlmd/client/connection.py"}
    assert modules == {"__future__", "collections.abc", "json", "os", "socket", "time", "typing"}


def test_rich_is_imported_where_something_is_drawn() -> None:
    files = {file for file, module in imported("rlmctl") if module.partition(".")[0] == "rich"}
    drawing = {"show/charts", "show/history_chart", "show/terminal", "show/status_table", "show/live", "demo/story"}
    assert files == {f"rlmctl/{name}.py" for name in drawing}


def test_nobody_imports_a_command_but_the_entry_point_and_the_commands() -> None:
    importing = {file for file, module in imported("rlmctl") if module.startswith("rlmctl.commands")}
    assert {file for file in importing if not file.startswith("rlmctl/commands/")} == {"rlmctl/__main__.py"}
