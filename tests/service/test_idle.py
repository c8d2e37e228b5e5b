"""What a daemon costs that has nothing to do: memory, and how often it wakes up."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_a_daemon_that_has_nothing_to_do_sleeps_and_is_small(tmp_path: Path) -> None:
    found = tmp_path / "found.json"
    command = [sys.executable, "-m", "benchmarks", "idle", "--short", "--json", str(found)]
    subprocess.run(command, cwd=ROOT, timeout=120, check=True)
    rows = json.loads(found.read_text())["rows"]
    assert [row["what"] for row in rows if row["ours"] > row["most"]] == []
    assert len(rows) == 3
