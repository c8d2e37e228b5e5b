"""A laptop without a network for a while: as soon as it is back everything works, as it does without the shim."""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from opencode_home import Daemon, OpenCode, configuration

from rlmctl.demo.providers import Providers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from opencode_home import Server

pytestmark = pytest.mark.opencode

OFFLINE = float(os.environ.get("RLMD_TEST_OFFLINE", "45"))
"""Seconds without a network. Real programs have no clock but the real one: the short time is enough for each provider
to fail five times, and once more when it is tried again; the variable is for a long one, such as 180."""
BACK_FOR = min(20.0, OFFLINE / 10)
"""Seconds from the network's return until the person begins a turn."""
WITHIN = 15.0
"""Seconds from then until the answer."""
SESSIONS = 3
NAME_NOT_FOUND = "http://nobody.invalid/v1"


def with_a_name_that_is_not_found(opencode: OpenCode) -> OpenCode:
    """Let provider B have an address that never leads anywhere, as every name does without a network."""
    file = opencode.config / "opencode.json"
    settings = json.loads(file.read_text())
    settings["provider"]["B"]["options"]["baseURL"] = NAME_NOT_FOUND
    file.write_text(json.dumps(settings))
    return opencode


def go_on_trying(server: Server, session: str, until: float) -> None:
    """Say it again whenever a turn has failed, as a person does who does not know that the network is away."""
    while time.monotonic() < until:
        with suppress(OSError):  # a turn that outlasts the test
            server.say(session, "hello?")
        time.sleep(1)


def a_new_turn(server: Server) -> tuple[str, float]:
    """Return an answer, and how many seconds it took."""
    began = time.monotonic()
    return server.say(server.session(), "after"), time.monotonic() - began


def test_a_turn_that_begins_after_an_outage_is_answered_as_fast_as_without_the_shim(
    bare_opencode: OpenCode, directory: Path, daemon_with: Callable[[str], Daemon], providers: Providers
) -> None:
    without = OpenCode(bare_opencode.program, directory / "without", providers)
    bare_opencode.install_shim(daemon_with(configuration("A", "B")))
    homes = [with_a_name_that_is_not_found(home) for home in (without, bare_opencode)]
    with homes[0].serve() as alone, homes[1].serve() as shimmed, ThreadPoolExecutor() as pool:
        servers = (alone, shimmed)
        assert [a_new_turn(server)[0][:12] for server in servers] == ["Hello from A"] * 2
        sessions = [(server, server.session()) for server in servers for _ in range(SESSIONS)]

        providers.__exit__()
        back = time.monotonic() + OFFLINE
        for server, session in sessions:
            pool.submit(go_on_trying, server, session, back)
        time.sleep(back - time.monotonic())
        with Providers(providers.port):
            time.sleep(BACK_FOR)
            (_, free), (answer, took) = pool.map(a_new_turn, servers)
            for server, session in sessions:
                server.abort(session)

    assert free < WITHIN
    assert took < WITHIN, answer
    assert answer.startswith("Hello from A")
