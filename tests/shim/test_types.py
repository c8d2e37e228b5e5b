"""The shim against the types that OpenCode publishes for its plugins."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from rlmctl.agents.opencode.places import SOURCE

HERE = Path(__file__).parent
COMPILER = HERE / "node_modules" / ".bin" / "tsc"


@pytest.mark.skipif(
    not COMPILER.exists(), reason=f"TypeScript is not here. To get it: npm install --ignore-scripts in {HERE}"
)
def test_it_fits_the_published_types() -> None:
    done = subprocess.run([str(COMPILER), "--project", str(HERE)], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (0, "")


SOURCES = sorted([SOURCE, *SOURCE.parent.glob("rlmd/*.ts")])


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_it_imports_nothing_but_node_its_own_parts_and_types(source: Path) -> None:
    imports = re.findall(r"^import (.*?) from \"(.*?)\"$", source.read_text(), re.MULTILINE | re.DOTALL)

    others = [name for what, name in imports if not what.startswith("type ") and not name.startswith("node:")]
    assert [name for name in others if (source.parent / name).resolve() not in SOURCES] == []


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_its_lines_fit_a_screen(source: Path) -> None:
    assert [line for line in source.read_text().splitlines() if len(line) > 100] == []
