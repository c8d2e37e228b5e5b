"""Fixtures of the tests that run the real OpenCode and the real daemon."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import versions
from opencode_home import MISSING, Daemon, OpenCode, configuration, opencode_program

from rlmctl.demo.providers import Providers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--opencode", action="append", metavar="VERSION", help="try these versions of OpenCode only")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Try each OpenCode that is here, where a test has a `version`."""
    if "version" in metafunc.fixturenames:
        missing = pytest.param("none", marks=pytest.mark.skip(reason=f"no OpenCode in {versions.FOLDER}"))
        chosen = metafunc.config.getoption("--opencode", default=None) or versions.here() or [missing]
        metafunc.parametrize("version", chosen, scope="module")


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
def bare_opencode(directory: Path, providers: Providers) -> OpenCode:
    """An OpenCode without the shim."""
    program = opencode_program()
    if program is None:
        pytest.skip(MISSING)
    return OpenCode(program, directory / "opencode", providers)


@pytest.fixture
def opencode(bare_opencode: OpenCode, daemon: Daemon) -> OpenCode:
    """An OpenCode with the shim, beside a daemon that prefers A to B to C."""
    bare_opencode.install_shim(daemon)
    return bare_opencode
