"""The shim's text: the types that OpenCode publishes for its plugins, its imports, its size."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from rlmctl.agents.opencode.places import PARTS, SOURCE

HERE = Path(__file__).parent
PROGRAMS = HERE / "node_modules" / ".bin"
FOLDER = SOURCE.parent / PARTS
LINES = 150
"""What can be read at one sitting: of each part, as the formatter leaves it."""
ALL = [SOURCE, *sorted(FOLDER.rglob("*.ts"))]
IMPORT = re.compile(r"^import (type )?([^\"]*?) from \"(.*?)\"$", re.MULTILINE)

needs_npm = pytest.mark.skipif(
    not PROGRAMS.exists(), reason=f"TypeScript is not here. To get it: npm install --ignore-scripts in {HERE}"
)


def run(*words: object) -> str:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_npm
def test_it_fits_the_published_types() -> None:
    assert run(PROGRAMS / "tsc", "--project", HERE) == ""


@pytest.mark.parametrize("file", ALL, ids=lambda file: str(file.name))
def test_it_runs_without_any_package(file: Path) -> None:
    needed = {name for is_type, _, name in IMPORT.findall(file.read_text()) if not is_type}

    assert {name for name in needed if not name.startswith(("node:", "./", "../"))} == set()


@needs_npm
@pytest.mark.parametrize("file", ALL, ids=lambda file: str(file.name))
def test_it_is_as_the_formatter_leaves_it(file: Path) -> None:
    assert run(PROGRAMS / "prettier", "--config", HERE / ".prettierrc.json", file) == file.read_text()


@pytest.mark.parametrize("file", ALL, ids=lambda file: str(file.name))
def test_no_part_is_longer_than_can_be_read_at_one_sitting(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= LINES
