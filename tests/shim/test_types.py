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
OF_1X = [SOURCE, *(FOLDER / name for name in ("daemon.ts", "response.ts", "start.ts", "v1.ts"))]
"""All that OpenCode 1.x runs of it."""
FOR_1X, WITH_SHARED_PARTS = 350, 526
"""Lines, as the formatter leaves them: of what is for 1.x alone, and with the parts that 2.x uses too."""
ALL = [SOURCE, *sorted(FOLDER.glob("*.ts"))]
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

    assert {name for name in needed if not name.startswith(("node:", "./"))} == set()


@needs_npm
@pytest.mark.parametrize("file", ALL, ids=lambda file: str(file.name))
def test_it_is_as_the_formatter_leaves_it(file: Path) -> None:
    assert run(PROGRAMS / "prettier", "--config", HERE / ".prettierrc.json", file) == file.read_text()


def test_what_opencode_1x_runs_stays_small() -> None:
    lines = {file.name: len(file.read_text().splitlines()) for file in OF_1X}

    assert lines["v1.ts"] <= FOR_1X, lines
    assert sum(lines.values()) <= WITH_SHARED_PARTS, lines
