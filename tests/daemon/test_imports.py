"""The core is arithmetic on values: it can reach no clock, file, socket, thread, logger or chance."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE = sorted((ROOT / "rlmd" / "core").rglob("*.py"))
PURE = {
    "__future__",
    "bisect",
    "collections",
    "datetime",
    "difflib",
    "functools",
    "heapq",
    "itertools",
    "json",
    "math",
    "msgspec",
    "operator",
    "re",
    "re2",
    "typing",
    "urllib.parse",
    "zoneinfo",
}
"""What the core may import beside itself. Whoever adds to it: nothing that can tell the time or the state of things."""
NOW = {"now", "utcnow", "today", "time", "monotonic"}
"""How a date could tell the time after all."""


def imports(path: Path) -> set[str]:
    """Name the modules that a file imports, those for the type checker included."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found.add(node.module or "")
    return found


def test_there_is_a_core() -> None:
    assert {path.name for path in CORE} >= {"ledger.py", "route.py", "breaker.py", "window.py", "classify.py"}


@pytest.mark.parametrize("path", CORE, ids=lambda path: str(path.name))
def test_the_core_imports_nothing_but_itself_and_what_is_pure(path: Path) -> None:
    ours = {name for name in imports(path) if name.split(".")[0] in {"rlmd", "rlmctl"}}
    assert [name for name in ours if name != "rlmd.core" and not name.startswith("rlmd.core.")] == []
    assert {name for name in imports(path) - ours if not {name, name.split(".")[0]} & PURE} == set()


@pytest.mark.parametrize("path", CORE, ids=lambda path: str(path.name))
def test_the_core_asks_nobody_for_the_time_or_for_a_file(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    dated = [call for call in calls if isinstance(call, ast.Attribute) and isinstance(call.value, ast.Name)]
    assert [ast.unparse(call) for call in dated if call.value.id in {"datetime", "date"} and call.attr in NOW] == []  # type: ignore[attr-defined]
    assert [call.id for call in calls if isinstance(call, ast.Name) and call.id in {"open", "print", "input"}] == []


def test_deciding_needs_neither_trio_nor_a_database() -> None:
    code = "import sys, rlmd.core.ledger; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not {"trio", "sqlite3", "socket", "logging", "threading", "random", "rlmctl"} & set(run.stdout.split())


def test_the_protocol_does_no_input_or_output() -> None:
    assert imports(ROOT / "rlmd" / "wire" / "messages.py") == {
        "__future__",
        "datetime",
        "typing",
        "msgspec",
        "rlmd.core",
        "rlmd.core.model",
        "rlmd.core.requests",
    }
    assert imports(ROOT / "rlmd" / "wire" / "codec.py") == {"__future__", "typing", "msgspec", "rlmd.wire.messages"}
