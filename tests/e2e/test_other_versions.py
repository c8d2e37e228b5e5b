"""OpenCodes of other versions than the one that everything else is tried with: none is worse off with the shim.

Those that are here are tried: see `versions.py`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
import versions
from opencode_home import Daemon, OpenCode, Server, configuration, until

from rlmctl.demo.providers import Providers

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.opencode

TAKES_IT_FROM = (1, 1, 53)
"""The oldest OpenCode that the shim is installed in."""
SWITCHES_FROM = (1, 14, 34)
"""The oldest OpenCode in which a turn is moved; older ones work as without the shim."""
SWITCHES = "this OpenCode is too old for a switch: it works as without the shim"
FROM_A, FROM_B = "Hello from A, model m1, after 0 results", "Hello from B, model m2, after 0 results"


class Stage(NamedTuple):
    """An OpenCode with the shim, beside a daemon that prefers A to B."""

    opencode: OpenCode
    server: Server
    daemon: Daemon
    providers: Providers

    def asked(self) -> list[tuple[str, str]]:
        return [(request.provider, request.behaviour) for request in self.providers.requests]


def at_home(version: str, directory: Path, providers: Providers) -> OpenCode:
    """Return an OpenCode of this version, without the shim."""
    opencode = OpenCode(str(versions.program(version)), directory, providers, version=version)
    tools = directory / "bin"
    tools.mkdir()
    # The older ones download ripgrep where there is none, and nothing leaves the loopback here.
    (tools / "rg").write_text("#!/bin/sh\n")
    (tools / "rg").chmod(0o755)
    opencode.environ["PATH"] = f"{tools}:{opencode.environ['PATH']}"
    return opencode


def install(version: str, opencode: OpenCode, daemon: Daemon) -> None:
    """Install the shim as a person does, who is told where the OpenCode is too old for it."""
    command = [sys.executable, "-m", "rlmctl", "install", "opencode"]
    environ = {**opencode.environ, **daemon.environ, "OPENCODE_BIN": opencode.program}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    too_old = versions.as_numbers(version) < TAKES_IT_FROM
    assert (done.returncode, "is too old" in done.stderr) == ((1, True) if too_old else (0, False)), done.stderr


@pytest.fixture(scope="module")
def stage(version: str) -> Iterator[Stage]:
    directory = Path(tempfile.mkdtemp(prefix="rlmd-"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        daemon = Daemon(directory, configuration("A", "B", top='patience = "0s"'))
        stack.callback(daemon.kill)
        daemon.start()
        providers = stack.enter_context(Providers())
        opencode = at_home(version, directory / "opencode", providers)
        install(version, opencode, daemon)
        yield Stage(opencode, stack.enter_context(opencode.serve()), daemon, providers)


@pytest.fixture
def switching(version: str, request: pytest.FixtureRequest) -> Stage:
    """A stage as new, of a version in which a turn is moved."""
    if versions.as_numbers(version) < SWITCHES_FROM:
        pytest.skip(SWITCHES)
    stage: Stage = request.getfixturevalue("stage")
    stage.daemon.ask("reset", what="all")
    for name in "AB":
        stage.providers.behave(name, "ok")
    stage.providers.requests.clear()
    return stage


def test_it_starts_and_answers_as_without_the_shim(
    version: str, directory: Path, daemon: Daemon, providers: Providers
) -> None:
    without, shimmed = (at_home(version, directory / name, providers) for name in ("without", "with"))
    install(version, shimmed, daemon)
    with ThreadPoolExecutor() as pool:
        runs = list(pool.map(OpenCode.run, (without, shimmed)))

    assert [(run.code, run.out) for run in runs] == [(0, FROM_A)] * 2
    assert {request.provider for request in providers.requests} == {"A"}


def test_the_first_limit_moves_the_turn_and_the_next_process_knows(switching: Stage) -> None:
    switching.providers.behave("A", ["429:60"])

    assert [switching.opencode.run().out for _ in range(2)] == [FROM_B, FROM_B]
    assert switching.asked() == [("A", "429:60"), ("B", "ok"), ("B", "ok")]


@pytest.mark.parametrize("error", ["first:529", "mid:529"])
def test_an_error_in_the_stream_moves_the_turn(error: str, switching: Stage) -> None:
    server = switching.server
    switching.providers.behave("A", [error])

    assert server.say(server.session(), "hello").endswith(FROM_B)
    assert switching.asked() == [("A", error), ("B", "ok")]


def test_a_limit_in_a_tool_loop_repeats_no_finished_step(switching: Stage) -> None:
    server = switching.server
    switching.providers.behave("A", ["ok", "429:60"])

    assert server.say(server.session(), "USE_TOOL2 please") == "Hello from B, model m2, after 2 results"
    assert switching.asked() == [("A", "ok"), ("A", "429:60"), ("B", "ok"), ("B", "ok")]
    assert (switching.opencode.project / "steps.txt").read_text().split() == ["step1", "step2"]


def test_a_session_returns_to_the_first_provider_as_often_as_that_is_free_again(switching: Stage) -> None:
    server, daemon = switching.server, switching.daemon
    session = server.session()
    said = []
    for _ in range(2):
        switching.providers.behave("A", ["429:1"])
        said.append(server.say(session, "hello"))
        until(lambda: bool(daemon.provider("A")["available"]))
        said += [server.say(session, "hello"), server.say(server.session(), "hello")]
        daemon.ask("reset", what="all")  # what A said of its own window, a minute from its last answer on

    assert said == [FROM_B, FROM_A, FROM_A] * 2
