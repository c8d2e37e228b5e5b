"""No daemon runs, and a person wants one: the first OpenCode has it started, and is not kept waiting for it."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from opencode_home import Daemon, configuration, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from opencode_home import OpenCode

    from rlmctl.demo.providers import Providers

pytestmark = pytest.mark.opencode


@pytest.fixture
def wanted(directory: Path, bare_opencode: OpenCode) -> Iterator[Daemon]:
    """A daemon that nobody has started yet, and an OpenCode that lives with the same variables."""
    daemon = Daemon(directory, configuration("A", "B", "C", top="autostart = true"))
    bare_opencode.environ |= daemon.environ
    bare_opencode.install_shim(daemon)
    yield daemon
    ctl(daemon, "stop")


def ctl(daemon: Daemon, *words: str) -> int:
    command = [sys.executable, "-m", "rlmctl", *words]
    return subprocess.run(command, env={"PATH": "", **daemon.environ}, capture_output=True, check=False).returncode


def test_the_first_opencode_has_the_daemon_started_and_then_uses_it(
    wanted: Daemon, bare_opencode: OpenCode, providers: Providers
) -> None:
    with bare_opencode.serve() as server:
        session = server.session()
        assert server.say(session, "first").startswith("Hello from A")
        until(lambda: wanted.answers() and wanted.ask("status")["daemon"]["agents"] == 1)
        providers.behave("A", ["429:60"])
        assert server.say(session, "second").startswith("Hello from B")


def test_what_a_person_has_stopped_stays_so(wanted: Daemon, bare_opencode: OpenCode) -> None:
    assert ctl(wanted, "start") == 0
    assert ctl(wanted, "stop") == 0
    run = bare_opencode.run()
    assert (run.code, run.out) == (0, "Hello from A, model m1, after 0 results")
    assert ctl(wanted, "status") == 3
