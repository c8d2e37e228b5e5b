"""What the shim adds to a request, inside one OpenCode that serves many."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.table import Row, UnavailableError
from rlmctl.demo.opencode_home import OpenCodeHome, find_opencode, provider, spare_the_download
from rlmctl.demo.providers import Providers
from rlmctl.demo.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PART = "shim"
REQUESTS, FEW = 200, 20
A_SESSION = 20
"""Turns of one session: a long history makes OpenCode itself slow."""
WARM = 10
"""Requests that come first and are not counted."""
MOST_P50, MOST_P99, MOST_ABSENT = 1.0, 10.0, 0.1
PATIENCE = 60.0
BUNDLED = Path("tests/shim/node_modules")

CONFIG = """
[[provider]]
id = "A"
priority = 1
models = ["m1"]
hourly_limit = 100_000

[[provider]]
id = "B"
priority = 2
models = ["m1"]
"""

BELOW = """
// Named in opencode.json, so loaded before the shim: beneath its fetch, and first of the hooks.
const seen = (globalThis.rlmdBench ??= {})
export const Below = async () => {
  const beneath = globalThis.fetch
  globalThis.fetch = Object.assign(async (input, init) => {
    if (!String(input).includes("/messages")) return beneath(input, init)
    seen.marked = new Headers(init.headers).has("x-amzn-trace-id")
    seen.sent = performance.now()
    const response = await beneath(input, init)
    const whole = await response.arrayBuffer()
    seen.back = performance.now()
    return new Response(whole, response)
  }, beneath)
  return { "chat.headers": async () => void (seen.hook = performance.now()) }
}
"""
ABOVE = """
// The project's, so loaded after the shim: above its fetch, and last of the hooks.
import fs from "node:fs"
const seen = (globalThis.rlmdBench ??= {})
export const Above = async ({ directory }) => {
  const beneath = globalThis.fetch
  globalThis.fetch = Object.assign(async (input, init) => {
    if (!String(input).includes("/messages")) return beneath(input, init)
    const marked = new Headers(init.headers).has("x-amzn-trace-id")
    const begun = performance.now()
    const response = await beneath(input, init)
    const ms = seen.hooks + (seen.sent - begun) + (performance.now() - seen.back)
    fs.appendFileSync(directory + "/spans", JSON.stringify([ms, marked && !seen.marked]) + "\\n")
    return response
  }, beneath)
  return { "chat.headers": async () => void (seen.hooks = performance.now() - seen.hook) }
}
"""


def measure(*, short: bool) -> Iterator[Row]:
    """Time it between a plugin below the shim and one above, with a daemon, without one, and without the shim."""
    program = find_opencode() or _bundled()
    if program is None:
        raise UnavailableError("OpenCode is not here: set OPENCODE_BIN")
    count = FEW if short else REQUESTS
    with Providers() as providers, Stage(CONFIG) as stage:
        home = OpenCodeHome(stage.directory / "opencode", program, stage.variables)
        entries = {name: provider("anthropic", providers.url(name), ["m1"]) for name in ("A", "B")}
        below, above = home.directory / "below.ts", home.project / ".opencode" / "plugins" / "above.ts"
        home.configure(entries, "A/m1", plugin=[below.as_uri()])
        spare_the_download(above.parents[1], home.version)
        above.parent.mkdir()
        below.write_text(BELOW)
        above.write_text(ABOVE)
        with _serving(home) as turn:
            bare = _spans(home, turn, count, shim=False)
        words = [sys.executable, "-m", "rlmctl", "install", "opencode"]
        subprocess.run(words, env=home.environment, check=True, capture_output=True)
        with _serving(home) as turn:
            ours = _spans(home, turn, count, shim=True)
            stage.kill()
            absent = _spans(home, turn, count, shim=True)
    note = (
        f"{count} requests of one `opencode serve` to a provider on loopback: hook, question, report, and a look"
        " at the answer; the median of the same without the shim is taken off."
    )
    nothing = statistics.median(bare)
    figures = (
        ("with a daemon, p50", statistics.median(ours), MOST_P50),
        ("with a daemon, p99", _p99(ours), MOST_P99),
        ("daemon absent, p50", statistics.median(absent), MOST_ABSENT),
        ("daemon absent, p99", _p99(absent), None),
    )
    for what, ms, most in figures:
        yield Row(part=PART, what=what, ours=max(0.0, ms - nothing), unit="ms", most=most, note=note)


def _p99(spans: list[float]) -> float:
    return statistics.quantiles(spans, n=100)[-1]


def _spans(home: OpenCodeHome, turn: Callable[[str], None], count: int, *, shim: bool) -> list[float]:
    """Have so many requests answered, and return how long each was above the provider, in ms."""
    file = home.project / "spans"
    file.unlink(missing_ok=True)
    for number in range(WARM + count):
        turn(str(number))
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    if len(lines) != WARM + count or any(ours is not shim for _, ours in lines):
        raise UnavailableError("the plugins that take the time do not lie around the shim in this OpenCode")
    return [span for span, _ in lines[WARM:]]


@contextmanager
def _serving(home: OpenCodeHome) -> Iterator[Callable[[str], None]]:
    """Run `opencode serve`; what it yields has one prompt answered."""
    with tempfile.TemporaryFile("w+") as log:
        words = [home.program, "serve", "--port", "0"]
        process = subprocess.Popen(words, cwd=home.project, env=home.environment, stdout=log, stderr=log)
        try:
            end = time.monotonic() + PATIENCE
            while "http://" not in (said := _text(log)):
                if process.poll() is not None or time.monotonic() > end:
                    raise UnavailableError("opencode serve did not start")
                time.sleep(0.1)
            url = "http://" + said.split("http://")[1].split()[0]
            sessions: list[str] = []
            turns = 0

            def turn(prompt: str) -> None:
                nonlocal turns
                if turns % A_SESSION == 0:
                    sessions.append(str(_post(f"{url}/session", {"title": "a title"})["id"]))
                turns += 1
                _post(f"{url}/session/{sessions[-1]}/message", {"parts": [{"type": "text", "text": prompt}]})

            yield turn
        finally:
            process.terminate()
            process.wait()


def _text(log: Any) -> str:
    log.seek(0)
    return str(log.read())


def _post(url: str, body: dict[str, Any]) -> dict[str, Any]:
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)  # noqa: S310  (opencode serve's own address)
    with urllib.request.urlopen(request, timeout=PATIENCE) as response:  # noqa: S310  (see above)
        answer: dict[str, Any] = json.load(response)
        return answer


def _bundled() -> str | None:
    """Return the OpenCode that the tests have installed."""
    found = sorted(BUNDLED.glob("opencode-*/bin/opencode"), key=lambda path: len(path.parts[-3]))
    return next((str(path.absolute()) for path in found if os.access(path, os.X_OK)), None)
