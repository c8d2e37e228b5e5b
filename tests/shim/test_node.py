"""The shim without OpenCode: its tests in Node, against a stand-in of each generation of OpenCode."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import msgspec
import pytest

from rlmd.wire.codec import decode
from rlmd.wire.messages import AnyReply

HERE = Path(__file__).parent
TESTS = sorted(HERE.glob("node/*.test.mjs"))


@pytest.mark.parametrize("file", TESTS, ids=lambda file: str(file.name))
def test_it_holds_in_node(file: Path, node: str, shim: Path, tmp_path: Path) -> None:
    lines = tmp_path / "lines.json"
    environ = {"PATH": os.environ["PATH"], "SHIM": (shim / "rlmd.js").as_uri(), "LINES": str(lines)}
    done = subprocess.run([node, str(file)], env=environ, capture_output=True, text=True, timeout=120, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    passed = json.loads(lines.read_text())
    for line in passed["asked"]:  # what the stand-in for the daemon took, the real one takes too,
        decode(line.encode())
    for line in passed["said"]:  # and it says nothing that the real one could not say
        msgspec.json.decode(line, type=AnyReply)
