"""A byte of the database that is not what was written, wherever it is: the daemon starts, and counts."""

from __future__ import annotations

import itertools
import random
import sqlite3
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from house import MODEL, NOON, Place

from rlmd.core.requests import Report
from rlmd.daemon import Daemon
from rlmd.store.migrations import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

HEAD = 100
VERSION = range(60, 64)
"""A schema's number that is damaged is that of a newer schema for all we know."""
rand = random.Random(4)


class Running:
    """A daemon without its loop: what it is told is settled at once."""

    def __init__(self, place: Place) -> None:
        self.now = NOON
        self._leases = itertools.count()
        self.daemon = Daemon(place.paths, place.environ, lambda: self.now)

    @property
    def counted(self) -> int:
        return self.daemon.ledger.state.totals["anthropic"].requests

    def report(self, times: int) -> None:
        outbox = self.daemon.outbox
        for n in range(times):
            self.now += 0.01
            lease = f"{id(self)}-{next(self._leases)}"
            report = Report("anthropic", MODEL, "ok" if n % 3 else "error", lease)
            outbox.add(self.daemon.ledger.report(report, self.now, rand=0.0, receipt=outbox.receipt(lease)))
            outbox.settle()
            outbox.tidy()

    def look(self) -> None:
        """Read what only a person who asks has read."""
        with suppress(sqlite3.Error):
            self.daemon.outbox.events(0.0, 1000)
        self.daemon.outbox.receipt("of-a-former-daemon")
        self.daemon.outbox.prune(self.now)

    def end(self) -> None:
        self.daemon._store.close()


@pytest.fixture(scope="module")
def image() -> Iterator[bytes]:
    """What a database holds after a few hundred requests."""
    import shutil
    import tempfile
    from pathlib import Path

    place = Place(Path(tempfile.mkdtemp(prefix="rlmd-")))
    place.paths.state_dir.mkdir()
    running = Running(place)
    running.report(300)
    running.end()
    yield place.paths.database.read_bytes()
    shutil.rmtree(place.root)


def damage(place: Place, image: bytes, at: int) -> bytes:
    damaged = bytearray(image)
    damaged[at] ^= rand.choice([0xFF, 0x80, 0x01])
    place.paths.state_dir.mkdir()
    place.paths.database.write_bytes(damaged)
    return bytes(damaged)


@pytest.mark.parametrize("at", [at for at in range(HEAD) if at not in VERSION])
def test_of_the_head(place: Place, image: bytes, at: int) -> None:
    goes_on(place, damage(place, image, at))


@pytest.mark.parametrize("number", range(150))
def test_anywhere(place: Place, image: bytes, number: int) -> None:
    del number
    goes_on(place, damage(place, image, rand.randrange(HEAD, len(image))))


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.1, 0.5, 0.9, 0.999])
def test_an_end_that_is_missing(place: Place, image: bytes, share: float) -> None:
    place.paths.state_dir.mkdir()
    place.paths.database.write_bytes(image[: int(len(image) * share)])
    goes_on(place, place.paths.database.read_bytes())


def goes_on(place: Place, damaged: bytes) -> None:
    running = Running(place)
    before = running.counted
    running.report(60)
    running.look()
    running.now += 2
    running.report(1)
    assert running.daemon.outbox.durable
    assert running.counted == before + 40
    asides = list(place.paths.state_dir.glob("*.damaged-*"))
    assert len(asides) <= 1
    if asides and before == 0:  # found before anything was written to it
        assert asides[0].read_bytes() == damaged
    running.end()
    again = Running(place)
    assert again.counted == before + 40, "what was acknowledged is there"
    again.end()


@pytest.mark.parametrize("at", VERSION)
def test_a_damaged_version_is_not_touched_or_set_aside(place: Place, image: bytes, at: int) -> None:
    damaged = bytearray(image)
    damaged[at] ^= 0x7F
    place.paths.state_dir.mkdir()
    place.paths.database.write_bytes(damaged)
    try:
        Running(place).end()
    except StoreError as error:
        assert "Nothing was changed" in str(error)  # noqa: PT017  (both ends are fine)
        assert place.paths.database.read_bytes() == damaged
    else:
        (aside,) = place.paths.state_dir.glob("*.damaged-*")
        assert aside.read_bytes() == damaged
