"""What the daemon's tests are given: a place, a daemon in this process, somebody who talks to it, a process."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.register_assert_rewrite("house")

from house import House, Peer, Place, Process, virtually  # noqa: E402  (its asserts are rewritten like those of a test)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    import trio

HERE = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--histories", type=int, default=2000, help="how many histories the model is told")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run what is asynchronous here on virtual time: nobody waits for real."""
    for item in items:
        if item.path.parent == HERE and item.get_closest_marker("trio"):
            item.add_marker(pytest.mark.trio(run=virtually), append=False)


@pytest.fixture
def place() -> Iterator[Place]:
    # Not tmp_path: with the test's name in it, it may be too long for a socket.
    root = Path(tempfile.mkdtemp(prefix="rlmd-"))
    yield Place(root)
    shutil.rmtree(root)


@pytest.fixture
async def house(place: Place, nursery: trio.Nursery) -> AsyncIterator[House]:
    house = House(place, nursery)
    house.begin()
    yield house
    await house.end()


@pytest.fixture
async def peer(house: House) -> Peer:
    return await house.peer()


@pytest.fixture
def process(place: Place) -> Iterator[Process]:
    process = Process(place)
    yield process
    process.close()
