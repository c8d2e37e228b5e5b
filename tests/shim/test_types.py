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


def test_it_imports_nothing_but_node_and_types() -> None:
    imports = re.findall(r"^import (.*?) from \"(.*?)\"$", SOURCE.read_text(), re.MULTILINE)

    assert [name for what, name in imports if not what.startswith("type ")] == ["node:net"]


def test_its_lines_fit_a_screen() -> None:
    assert [line for line in SOURCE.read_text().splitlines() if len(line) > 100] == []
