"""Draws the pictures of these pages anew: `python docs/pictures.py [NAME…]`.

    demo      what `rlmctl demo` tells; it really happens
    status    the table of a day on which a limit is used up, from the real core on a clock that stands still
    notice    a switch on OpenCode's screen: the real OpenCode in tmux, on providers of the loopback interface
    report    the page of `rlmctl history --html`, in light and in dark, in Chromium

`notice` needs tmux and OpenCode (`npm install --prefix tests/shim --ignore-scripts`), `report` needs Chromium.
"""

# ruff: noqa: INP001, S311, S603, T201  (a script of its own: no secrets, and what it starts is ours)

from __future__ import annotations

import io
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.terminal_theme import SVG_EXPORT_THEME, TerminalTheme
from rich.text import Text

from rlmctl.demo import story
from rlmctl.demo.opencode_home import find_opencode
from rlmctl.demo.providers import Providers
from rlmctl.demo.stage import Stage
from rlmctl.show.html import page
from rlmctl.show.status_table import picture
from rlmd import __version__
from rlmd.config.policy import load
from rlmd.core.ledger import Ledger
from rlmd.core.model import Usage, Use
from rlmd.core.requests import Acquire, Report
from rlmd.server import status
from rlmd.wire import messages
from rlmd.wire.messages import rfc3339

if TYPE_CHECKING:
    from collections.abc import Callable

DOCS = Path(__file__).parent
MODEL = "claude-sonnet-4-5"
NOON = datetime(2026, 1, 12, 12, tzinfo=UTC)
HOUR = 3600
CONFIG = f"""\
time_zone = "UTC"
[[provider]]
id = "anthropic"
priority = 1
models = ["{MODEL}"]
hourly_limit = 50
daily_limit = 1000
[[provider]]
id = "openrouter"
priority = 2
models = {{ "{MODEL}" = "anthropic/claude-sonnet-4.5" }}
hourly_limit = 100
limit = [{{ of = "cost", max = 20, per = "1d" }}]
[[provider]]
id = "bedrock"
priority = 3
models = ["{MODEL}"]
"""
# Letters that the reader's system has: nothing is fetched for a picture.
SVG = re.sub(r"@font-face \{\{.*?\n    \}\}\n", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL).replace(
    "Fira Code, monospace", 'ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace'
)


def terminal(width: int) -> Console:
    """Return a terminal that remembers what is printed on it."""
    return Console(
        file=io.StringIO(), record=True, width=width, force_terminal=True, color_system="truecolor", highlight=False
    )


def keep(screen: Console, name: str, title: str, theme: TerminalTheme = SVG_EXPORT_THEME) -> None:
    """Write what was printed as a picture."""
    svg = screen.export_svg(title=title, code_format=SVG, unique_id=name, theme=theme)
    (DOCS / f"{name}.svg").write_text("".join(f"{line.rstrip()}\n" for line in svg.splitlines()), "utf-8")


def demo() -> None:
    """Tell the story of the demo."""
    screen = terminal(84)
    if not story.tell(None, screen):
        raise SystemExit("the demo is not true")
    keep(screen, "demo", "rlmctl demo")


def at_noon() -> dict[str, Any]:
    """Return the status at noon, after what the real core was asked and told in the morning."""
    with tempfile.TemporaryDirectory() as directory:
        (file := Path(directory, "config.toml")).write_text(CONFIG)
        policy = load(file).policy
    ledger = Ledger("picture")
    noon = NOON.timestamp()
    ledger.configure(policy, noon)

    def turn(at: float) -> None:
        use = ledger.acquire(Acquire("anthropic", MODEL, "s"), at).reply
        if not isinstance(use, Use):
            raise TypeError(use)
        usage = Usage(input=12_000, output=900, cost=0.061)
        ledger.report(Report(use.provider, use.model, "ok", use.lease, "s", usage=usage), at + 5, rand=0.0)

    for n in range(140):
        turn(noon - 4 * HOUR + n * 100)
    for n in range(115):
        turn(noon + n * 17)
    now = noon + 115 * 17 + 20
    ledger.acquire(Acquire("anthropic", MODEL, "t"), now)
    infos = status.providers(ledger, now)
    agent = messages.Agent(
        client="opencode",
        version="1.18.33",
        pid=4242,
        name="opencode",
        directory="~/src/website",
        since=rfc3339(noon - 4 * HOUR),
    )
    info = messages.DaemonInfo(
        pid=1,
        version=__version__,
        started_at=rfc3339(noon - 77 * HOUR),
        socket="",
        durable=True,
        agents=1,
        config="",
        config_error=None,
        clients=[agent],
        notify=[],
    )
    reply = messages.Status(
        daemon=info,
        providers=infos,
        current_provider="openrouter",
        model_mapping=status.model_mapping(ledger),
        pins={},
        text="",
    )
    return {"now": now, **msgspec.to_builtins(reply)}


def show_status() -> None:
    """Draw the table."""
    screen = terminal(84)
    reply = at_noon()
    told = ["Kept going 14 times in the last 7 days; 3 h 20 min not waited."]
    screen.print(Text("$ rlmctl status", "bold"))
    screen.print(picture(reply, told, datetime.fromtimestamp(reply["now"], UTC), screen))
    keep(screen, "status", "rlmctl status")


def notice() -> None:
    """Have OpenCode meet a limit, and keep its screen."""
    modules = DOCS.parent / "tests" / "shim" / "node_modules"
    program = find_opencode() or next(map(str, modules.glob("opencode-linux-*/bin/opencode")), None)
    if program is None:
        raise SystemExit("OpenCode is not here: npm install --prefix tests/shim --ignore-scripts")
    with Providers() as providers, Stage(story.CONFIG % 100) as stage:
        opencode = story.OpenCode(program, stage, providers)
        providers.behave("anthropic", ["429:900"])
        tmux = ["tmux", "-S", str(stage.directory / "tmux")]
        home = opencode.home
        size = ["-x", "96", "-y", "20", "-c", str(home.project)]
        environ = home.environment | {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
        subprocess.run([*tmux, "-f", "/dev/null", "new-session", "-d", *size, program], env=environ, check=True)
        try:
            await_words(tmux, "Ask anything")
            time.sleep(3)
            subprocess.run([*tmux, "send-keys", "Say hello"], check=True)
            await_words(tmux, "Say hello")
            subprocess.run([*tmux, "send-keys", "Enter"], check=True)
            await_words(tmux, "Hello from openrouter")
            await_words(tmux, "using openrouter")
            time.sleep(0.5)
            captured = subprocess.run(
                [*tmux, "capture-pane", "-p", "-e", "-N"], capture_output=True, text=True, check=True
            )
        finally:
            subprocess.run([*tmux, "kill-server"], check=False)
    screen = terminal(96)
    screen.print(Text.from_ansi(captured.stdout), end="")
    keep(screen, "notice", "opencode", TerminalTheme((10, 10, 10), (238, 238, 238), [(90, 90, 90)] * 8))


def await_words(tmux: list[str], words: str) -> None:
    """Wait until words stand on the screen."""
    for _ in range(600):
        shown = subprocess.run([*tmux, "capture-pane", "-p"], capture_output=True, text=True, check=True).stdout
        if words in shown:
            return
        time.sleep(0.1)
    raise SystemExit(f"{words!r} does not come to stand on the screen:\n{shown}")


def history(now: datetime) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Invent a fortnight of a person who works by day, and the log of it."""
    chance = random.Random(11)
    by_day: dict[tuple[str, str], dict[str, Any]] = {}
    events: list[dict[str, Any]] = []

    def add(at: datetime, provider: str, requests: int, **errors: int) -> None:
        key = f"{at:%Y-%m-%d}T00:00:00.000Z", provider
        none = {"requests": 0, "errors": {}, "tokens": 0, "cost": 0.0, "switches": 0}
        row = by_day.setdefault(key, {"at": key[0], "provider": provider, "model": MODEL} | none | {"errors": {}})
        row["requests"] += requests
        row["tokens"] += requests * chance.randint(9000, 14_000)
        row["cost"] = round(row["cost"] + requests * 0.043, 6)
        for kind, count in errors.items():
            row["errors"][kind] = row["errors"].get(kind, 0) + count
            row["switches"] += 1

    for hours in range(14 * 24, 0, -1):
        at = now - timedelta(hours=hours)
        busy = at.weekday() < 5 and 8 <= at.hour <= 18  # noqa: PLR2004  (a working week)
        wanted = int(chance.triangular(5, 95, 35)) if busy else 0
        if wanted:
            add(at, "anthropic", min(wanted, 50))
        if wanted > 50:  # noqa: PLR2004  (the limit)
            add(at, "openrouter", wanted - 50)
            add(at, "anthropic", 0, quota=1)
            full = at + timedelta(minutes=60 * 50 / wanted)
            until = (at + timedelta(hours=1)).isoformat()
            text = "anthropic has used 50 of 50 requests per 1h"
            events.append(
                {"event": "exhausted", "at": full.isoformat(), "until": until, "provider": "anthropic", "message": text}
            )
        if wanted > 80:  # noqa: PLR2004  (a bad hour)
            add(at, "openrouter", 0, throttle=2)
            add(at, "bedrock", wanted - 80)
            rest = {"at": (at + timedelta(minutes=40)).isoformat(), "until": (at + timedelta(minutes=75)).isoformat()}
            events.append({"event": "state", **rest, "provider": "openrouter", "message": "openrouter is cooling down"})
    rows = [by_day[key] for key in sorted(by_day)]
    switches = sum(row["switches"] for row in rows)
    reply = {"type": "history", "bucket": "day", "rows": rows, "kept_going": switches, "not_waited_ms": 26_400_000}
    return reply, events


def report() -> None:
    """Open the page of an invented fortnight, and keep how it looks."""
    sys.path.insert(0, str(DOCS.parent / "tests" / "shared"))
    from chromium import Chromium, find_chromium  # noqa: PLC0415  (only here)

    program = find_chromium()
    if program is None:
        raise SystemExit("Chromium is not here: apt install chromium")
    reply, events = history(NOON)
    with tempfile.TemporaryDirectory() as directory, Chromium(program) as browser:
        file = Path(directory, "page.html")
        file.write_text(page(reply, events, NOON - timedelta(days=14), NOON), "utf-8")
        for scheme, name in (("light", "report"), ("dark", "report-dark")):
            browser.show(file, 1000, scheme=scheme)
            browser.until(lambda: bool(browser.run("document.querySelectorAll('.bar').length")))
            browser.picture(DOCS / f"{name}.png", 650)


PICTURES: dict[str, Callable[[], None]] = {"demo": demo, "status": show_status, "notice": notice, "report": report}


def main() -> int:
    """Draw those that are named, or all."""
    os.environ["TZ"] = "UTC"
    time.tzset()
    for name in sys.argv[1:] or PICTURES:
        PICTURES[name]()
        print(f"drew {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
