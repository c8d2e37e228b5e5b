"""Node.js, and the shim as it runs there."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
COMPILER = HERE / "node_modules" / ".bin" / "tsc"


@pytest.fixture(scope="session")
def node() -> str:
    """Return a Node.js that has all that OpenCode's own runtime has; where there is none, the test is skipped."""
    program = shutil.which("node")
    if program is not None and COMPILER.exists():
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
        if int(said.removeprefix("v").split(".")[0]) >= 20:
            return program
    pytest.skip(f"Node.js 20 or TypeScript is not here. To get the latter: npm install --ignore-scripts in {HERE}")


@pytest.fixture(scope="session")
def shim(node: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the shim as Node runs it: without its types."""
    assert node
    folder = tmp_path_factory.mktemp("shim")
    words = [str(COMPILER), "--project", str(HERE / "tsconfig.build.json"), "--outDir", str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    (folder / "package.json").write_text('{"type": "module"}')
    return folder
