"""The shim without OpenCode: its tests in Node, against a stand-in of each generation of OpenCode."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from rlmd.protocol import decode, decode_reply

HERE = Path(__file__).parent
COMPILER = HERE / "node_modules" / ".bin" / "tsc"
NODE = shutil.which("node")
TESTS = sorted(HERE.glob("node/*.test.mjs"))


def node_is_here() -> bool:
    """Return whether there is a Node.js that has all that OpenCode's own runtime has."""
    if NODE is None:
        return False
    said = subprocess.run([NODE, "--version"], capture_output=True, text=True, check=True).stdout
    return int(said.removeprefix("v").split(".")[0]) >= 20


pytestmark = pytest.mark.skipif(
    not node_is_here() or not COMPILER.exists(),
    reason=f"Node.js 20 or TypeScript is not here. To get the latter: npm install --ignore-scripts in {HERE}",
)


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the shim as Node runs it: without its types."""
    folder = tmp_path_factory.mktemp("shim")
    words = [str(COMPILER), "--project", str(HERE / "tsconfig.build.json"), "--outDir", str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    (folder / "package.json").write_text('{"type": "module"}')
    return folder


@pytest.mark.parametrize("file", TESTS, ids=lambda file: str(file.name))
def test_it_holds_in_node(file: Path, shim: Path, tmp_path: Path) -> None:
    assert NODE is not None
    lines = tmp_path / "lines.json"
    environ = {"PATH": os.environ["PATH"], "SHIM": (shim / "rlmd.js").as_uri(), "LINES": str(lines)}
    done = subprocess.run([NODE, str(file)], env=environ, capture_output=True, text=True, timeout=120, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    passed = json.loads(lines.read_text())
    for line in passed["asked"]:  # what the stand-in for the daemon took, the real one takes too,
        decode(line.encode())
    for line in passed["said"]:  # and it says nothing that the real one could not say
        decode_reply(line.encode())
