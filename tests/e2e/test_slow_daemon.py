"""A daemon that takes its time, as on a machine under load: a request is held once, and not for long."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from statistics import quantiles
from typing import TYPE_CHECKING

import pytest
from between import between
from opencode_home import Daemon, OpenCode, configuration

from rlmctl.demo.providers import Providers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.opencode

CLOCK = """
import { appendFileSync } from "node:fs"
export const Clock = async () => ({
  "chat.params": async () => appendFileSync(process.env.CLOCK, `${Date.now()}\\n`),
})
"""
"""A plugin that writes down when OpenCode begins with a request, in ms."""
TURNS = 9
DELAY = 0.1
AT_MOST = 0.15
"""Seconds that a request may be held, whatever the daemon does: `agent.daemon_timeout` as it is by default."""


def holds(opencode: OpenCode, providers: Providers) -> list[float]:
    """Return how long each request of some turns took from OpenCode's first hook to its provider, in seconds."""
    clock = opencode.directory / "clock"
    opencode.environ["CLOCK"] = str(clock)
    (opencode.config / "plugins").mkdir(exist_ok=True)
    (opencode.config / "plugins" / "a-clock.ts").write_text(CLOCK)
    with opencode.serve() as server:
        session = server.session()
        for _ in range(TURNS):
            assert server.say(session, "hello").startswith("Hello from A")
    begun = [int(line) / 1000 for line in clock.read_text().split()]
    return [request.at - at for request, at in zip(providers.requests, begun, strict=True)]


def test_a_daemon_that_takes_100_ms_holds_a_request_150_ms_at_most(
    bare_opencode: OpenCode, directory: Path, daemon_with: Callable[[str], Daemon], providers: Providers
) -> None:
    daemon = daemon_with(configuration("A", "B").replace('"5s"', '"150ms"'))
    slow = daemon.paths.socket.with_name("slow.sock")
    bare_opencode.install_shim(daemon)
    bare_opencode.environ["RLMD_SOCKET"] = str(slow)
    with Providers() as others, between(slow, daemon.paths.socket, DELAY) as said, ThreadPoolExecutor() as pool:
        beside = pool.submit(holds, OpenCode(bare_opencode.program, directory / "without", others), others)
        held, free = holds(bare_opencode, providers), beside.result()

    quicker, quicker_free = (quantiles(times, n=4)[0] for times in (held, free))  # a busy machine only adds
    assert quicker - quicker_free <= AT_MOST, (held, free)
    asked = [line for line in said if line["op"] == "acquire" and line["purpose"] == "step"]
    assert TURNS <= len(asked) <= 2 * TURNS
