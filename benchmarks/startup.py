"""What a call of rlmctl costs, as a whole process, beside a bare start of Python.

    python benchmarks/startup.py

A daemon with two providers answers. In every round each command runs once, and `python -c pass` before it; a ratio is
the median over the rounds of one process to the bare one just before. `rlmctl` is called by its console script, with
nothing in the environment but HOME and PATH: as a person or a prompt would. It prints a Markdown table and a line of
JSON, and exits with 1 where a ratio is beyond what is promised.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from rlmctl.client import Client, DaemonUnreachableError

ROUNDS = 41
COMMANDS = {
    "status --plain": (["status", "--plain"], 4.0),
    "status --format": (["status", "--format", "{current} {left}"], 4.0),
    "status": (["status"], 10.0),
}
"""What is measured, by name: the arguments, and the most that its ratio may be."""
CONFIG = """\
[[provider]]
id = "anthropic"
priority = 1
models = ["claude-sonnet-4-5"]
hourly_limit = 50
daily_limit = 1000
[[provider]]
id = "openrouter"
priority = 2
hourly_limit = 100
models = { "claude-sonnet-4-5" = "anthropic/claude-sonnet-4.5" }
"""


def await_daemon(socket: Path) -> None:
    """Wait until it answers, and give it something to show."""
    while True:
        with contextlib.suppress(DaemonUnreachableError), Client(socket) as client:
            for _ in range(20):
                client.request("report", provider="anthropic", model="claude-sonnet-4-5", outcome="ok")
            return
        time.sleep(0.02)


def taken(command: list[str], environ: dict[str, str], screen: int) -> float:
    """Return the seconds from the start of a process to its end."""
    begun = time.perf_counter()
    subprocess.run(command, env=environ, stdin=subprocess.DEVNULL, stdout=screen, check=True)
    return time.perf_counter() - begun


def measure(environ: dict[str, str], screen: int) -> dict[str, list[tuple[float, float]]]:
    """Return for each command the seconds of the bare start and of the command, round by round."""
    script = str(Path(sys.executable).parent / "rlmctl")
    bare = [sys.executable, "-c", "pass"]
    rounds: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    for _ in range(ROUNDS):
        for name, (arguments, _) in COMMANDS.items():
            rounds[name].append((taken(bare, environ, screen), taken([script, *arguments], environ, screen)))
    return rounds


def main() -> int:
    """Print a row for each command and a line of JSON."""
    with tempfile.TemporaryDirectory(prefix="rlmd-") as home, contextlib.ExitStack() as stack:
        environ = {"HOME": home, "PATH": os.defpath, "LANG": "C.UTF-8", "TERM": "xterm-256color"}
        config, state = Path(home, ".config/rlmd"), Path(home, ".local/state/rlmd")
        config.mkdir(parents=True)
        state.mkdir(parents=True, mode=0o700)
        (config / "config.toml").write_text(CONFIG)
        daemon = subprocess.Popen([sys.executable, "-m", "rlmd"], env=environ, stderr=subprocess.DEVNULL)
        stack.callback(daemon.wait)
        stack.callback(daemon.terminate)
        await_daemon(state / "rlmd.sock")
        with Path(os.devnull).open("wb") as nowhere:
            rounds = measure(environ, nowhere.fileno())
    print("| command | `python -c pass` | rlmctl | ratio | at most |")
    print("|---|---|---|---|---|")
    ratios = {}
    for name, (_, most) in COMMANDS.items():
        ratios[name] = median(whole / bare for bare, whole in rounds[name])
        bare, whole = (median(column) * 1000 for column in zip(*rounds[name], strict=True))
        print(f"| `{name}` | {bare:.1f} ms | {whole:.1f} ms | {ratios[name]:.2f} | {most:g} |")
    print(json.dumps({name: round(ratio, 2) for name, ratio in ratios.items()}))
    return 0 if all(ratios[name] <= most for name, (_, most) in COMMANDS.items()) else 1


if __name__ == "__main__":
    sys.exit(main())
