"""The database of every released schema, as a kill left it, is loaded with all that was in it.

How they were made: tests/data/state/make.py.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from rlmd.core.requests import Report
from rlmd.daemon import Daemon
from rlmd.server import status
from rlmd.store.migrations import MIGRATIONS

if TYPE_CHECKING:
    from house import Place

RELEASED = sorted((Path(__file__).parents[1] / "data" / "state").glob("state-*.db"))
CONFIG = (RELEASED[0].parent / "make.py").read_text().split('"""')[3]


def load(place: Place, file: Path) -> tuple[Daemon, dict[str, Any]]:
    said: dict[str, Any] = json.loads(file.with_suffix(".json").read_text())
    place.configure(CONFIG)
    place.paths.state_dir.mkdir(mode=0o700)
    shutil.copyfile(file, place.paths.database)
    place.paths.config.chmod(0o600)
    return Daemon(place.paths, place.environ, lambda: said["at"]), said


def test_every_schema_is_there() -> None:
    assert [file.name for file in RELEASED] == [f"state-{n}.db" for n in range(1, len(MIGRATIONS) + 1)]
    for number, file in enumerate(RELEASED, 1):
        with closing(sqlite3.connect(f"{file.as_uri()}?immutable=1", uri=True)) as db:
            assert db.execute("PRAGMA user_version").fetchone() == (number,)
            tables = [name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
            assert all(db.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in tables)


@pytest.mark.parametrize("file", RELEASED, ids=lambda file: file.stem)
def test_it_says_what_the_daemon_said_that_wrote_it(place: Place, file: Path) -> None:
    daemon, said = load(place, file)
    now = said["at"]
    found = msgspec.to_builtins(status.providers(daemon.ledger, now))
    for before, after in zip(said["providers"], found, strict=True):
        for was, limit in zip(before.pop("limits"), after.pop("limits"), strict=True):
            if was["source"] == "provider":
                del was["used"]  # what was used here since the provider spoke is known until a restart only
            assert limit | was == limit
        assert after | before == after
    assert (daemon.ledger.state.current, daemon.ledger.state.pins) == (said["current_provider"], said["pins"])
    told = msgspec.to_builtins(daemon.outbox.events(0.0, 10_000))
    assert told == said["events"]
    for lease in said["leases"]:
        again = daemon.ledger.report(
            Report(lease["provider"], lease["model"], "ok", lease["lease"]),
            now,
            rand=0.0,
            receipt=daemon.outbox.receipt(lease["lease"]),
        )
        assert msgspec.to_builtins(again.reply)["duplicate"]
    daemon._store.close()
    with closing(sqlite3.connect(place.paths.database)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.parametrize("file", RELEASED[1:], ids=lambda file: file.stem)
def test_letters_wait_on(place: Place, file: Path) -> None:
    daemon, _ = load(place, file)
    (info,) = daemon.notifier.infos()
    assert info.waiting == 6
    assert len(daemon._store.told()) == 6
    daemon._store.close()


def test_the_history_of_what_was_in_the_journal_is_kept(place: Place) -> None:
    daemon, said = load(place, RELEASED[2])
    daemon._store.close()
    with closing(sqlite3.connect(place.paths.database)) as db:
        used = db.execute("SELECT sum(requests), sum(tokens), round(sum(cost), 4) FROM usage").fetchone()
    counted = sum(provider["request_count"] for provider in said["providers"])
    assert used == (counted, 220 * 150 + 7 * 10, 220 * 0.0125 + 7 * 0.25)
