"""What a daemon costs that has nothing to do: memory, and how often it wakes up."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

IDLE = Path(__file__).parents[2] / "benchmarks" / "idle.py"


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_a_daemon_that_has_nothing_to_do_sleeps_and_is_small() -> None:
    run = subprocess.run(
        [sys.executable, IDLE, "--seconds", "15"], capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
