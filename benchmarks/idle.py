"""What the daemon costs while nothing happens: wake-ups a minute, and memory, after it has been used.

    python benchmarks/idle.py [--seconds 60]

An agent stays connected, one report has been made, and nothing is pending but the end of an hour's window.
The exit code is 1 beyond the limits: 2 wake-ups a minute, 38 MiB resident.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rlmctl.client import Client, DaemonUnreachableError

MOST_WAKEUPS = 2.0
MOST_MIB = 38.0
CONFIG = """\
[[provider]]
id = "anthropic"
priority = 1
models = ["sonnet"]
[[provider]]
id = "openrouter"
priority = 2
models = ["sonnet"]
hourly_limit = 100
"""


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to look (default: 60)")
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory(prefix="rlmd-") as home:
        root = Path(home)
        (root / "config.toml").write_text(CONFIG)
        environ = {"HOME": home, "PATH": os.defpath, "RLMD_CONFIG": f"{home}/config.toml", "RLMD_STATE_DIR": home}
        daemon = subprocess.Popen([sys.executable, "-m", "rlmd"], env=environ, stderr=subprocess.DEVNULL)
        try:
            with _connected(root / "rlmd.sock") as agent:
                agent.request("hello", client="benchmark", version="1", pid=os.getpid())
                agent.request("report", provider="anthropic", model="sonnet", outcome="ok")
                agent.request("status")
                time.sleep(2)  # what the first minute does only once
                before = _wakeups(daemon.pid)
                time.sleep(seconds)
                woken = _wakeups(daemon.pid) - before
                mib = _resident(daemon.pid)
        finally:
            daemon.terminate()
            daemon.wait()
    # One wake-up in a short look says nothing of a minute.
    a_minute = woken * 60 / seconds if woken > 1 else float(woken)
    print(f"wake-ups a minute: {a_minute:.1f} (at most {MOST_WAKEUPS:g}; {woken} in {seconds:g} s)")
    print(f"resident: {mib:.1f} MiB (at most {MOST_MIB:g})")
    return 0 if a_minute <= MOST_WAKEUPS and mib <= MOST_MIB else 1


def _connected(socket: Path) -> Client:
    until = time.monotonic() + 20
    while True:
        try:
            return Client(socket)
        except DaemonUnreachableError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


def _wakeups(pid: int) -> int:
    """Count how often any thread of a process has gone to sleep of its own accord."""
    words = [
        line.split()
        for task in Path(f"/proc/{pid}/task").iterdir()
        for line in (task / "status").read_text().splitlines()
    ]
    return sum(int(line[1]) for line in words if line and line[0] == "voluntary_ctxt_switches:")


def _resident(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS:")) / 1024


if __name__ == "__main__":
    sys.exit(main())
