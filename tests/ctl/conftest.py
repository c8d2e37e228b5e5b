"""A place of its own for each test of rlmctl, with or without a daemon."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ctl.person import MODEL, Daemon, Place

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def root() -> Iterator[Path]:
    # Not tmp_path: with the test's name in it, it may be too long for a socket.
    path = Path(tempfile.mkdtemp(prefix="rlmctl-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def place(root: Path) -> Iterator[Place]:
    place = Place(root)
    yield place
    place.ctl("stop")


@pytest.fixture
def daemon(root: Path) -> Iterator[Daemon]:
    daemon = Daemon(root)
    daemon.write_config()
    daemon.begin()
    yield daemon
    daemon.end()


@pytest.fixture
def limited(daemon: Daemon) -> Daemon:
    """One request counted, then a 429 with its wait, one request under way at the next provider."""
    with daemon.connect() as client:
        asked = {"provider": "anthropic", "model": MODEL, "session": "s"}
        first = client.request("acquire", **asked)
        client.request("report", lease=first["lease"], outcome="ok", status=200, **asked)
        second = client.request("acquire", **asked)
        refused = {"outcome": "error", "status": 429, "headers": {"retry-after": "60"}}
        client.request("report", lease=second["lease"], **refused, **asked)
    return daemon
