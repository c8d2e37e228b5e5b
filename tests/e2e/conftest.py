"""Fixtures of the tests that run the real OpenCode and the real daemon."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import opencode2_home
import opencode_home
import pytest
import versions
from opencode_home import Daemon, OpenCode, configuration

from rlmctl.demo.providers import Providers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--opencode", action="append", metavar="VERSION", help="try these versions of OpenCode only")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Try each OpenCode that is here, where a test has a `version`, and each generation that a test is marked with."""
    if "version" in metafunc.fixturenames:
        missing = pytest.param("none", marks=pytest.mark.skip(reason=f"no OpenCode in {versions.FOLDER}"))
        chosen = metafunc.config.getoption("--opencode", default=None) or versions.here() or [missing]
        metafunc.parametrize("version", chosen, scope="module")
    mark = metafunc.definition.get_closest_marker("generations")
    if mark and "generation" in metafunc.fixturenames:
        metafunc.parametrize("generation", mark.args, ids=lambda number: f"{number}.x")


@pytest.fixture
def providers() -> Iterator[Providers]:
    with Providers() as running:
        yield running


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory whose name leaves room for a socket's."""
    path = Path(tempfile.mkdtemp(prefix="rlmd-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def daemon_with(directory: Path) -> Iterator[Callable[[str], Daemon]]:
    """A daemon with a configuration of the test's own."""
    started: list[Daemon] = []

    def start(config: str) -> Daemon:
        daemon = Daemon(directory, config)
        started.append(daemon)
        daemon.start()
        return daemon

    yield start
    for daemon in started:
        daemon.kill()


@pytest.fixture
def daemon(daemon_with: Callable[[str], Daemon]) -> Daemon:
    """A daemon that prefers A to B to C."""
    return daemon_with(configuration("A", "B", "C"))


@pytest.fixture
def generation() -> int:
    """The major version of OpenCode, where a test does not say which."""
    return 1


@pytest.fixture
def bare_opencode(generation: int, directory: Path, providers: Providers) -> OpenCode:
    """An OpenCode without the shim."""
    program = (opencode2_home if generation == 2 else opencode_home).opencode_program()
    if program is None:
        pytest.skip(opencode2_home.MISSING if generation == 2 else opencode_home.MISSING)
    kind = opencode2_home.OpenCode if generation == 2 else OpenCode
    return kind(program, directory / "opencode", providers)


@pytest.fixture
def opencode(bare_opencode: OpenCode, daemon: Daemon) -> OpenCode:
    """An OpenCode with the shim, beside a daemon that prefers A to B to C."""
    bare_opencode.install_shim(daemon)
    return bare_opencode
