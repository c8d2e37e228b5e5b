"""One row of the state that makes no sense is set aside alone: the daemon starts, and all else is as it was."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from house import MODEL, NOON, TWO, Place

from rlmd.core import commands
from rlmd.core.requests import Report
from rlmd.daemon import Daemon
from rlmd.store import history, history_reader
from rlmd.store.database import KEYS
from rlmd.store.queued import QueuedMessage
from rlmd.wire.messages import HistoryQuery, HistoryRow

if TYPE_CHECKING:
    from rlmd.core.model import Receipt

ADDRESS = "json://localhost/hook"
HEADERS = {
    "x-ratelimit-limit-requests": "100",
    "x-ratelimit-remaining-requests": "9",
    "x-ratelimit-reset-requests": "60",
}
LATER = NOON + 5
WHERE = {
    "window": "fact WHERE kind = 'window' AND key LIKE 'anthropic|requests/1h/%'",
    "breaker": "fact WHERE kind = 'breaker' AND key = 'server:openrouter'",
    "tally": "fact WHERE kind = 'tally' AND key = 'anthropic'",
    "snapshot": f"fact WHERE kind = 'snapshot' AND key = 'anthropic/{MODEL}'",
    "current": "fact WHERE kind = 'setting' AND key = 'current'",
    "pins": "fact WHERE kind = 'setting' AND key = 'pins'",
    "receipt": "receipt WHERE lease = 'one'",
    "event": "event WHERE id = (SELECT min(id) FROM event)",
    "letter": "letter WHERE id = 1",
    "journal": "journal WHERE id = (SELECT max(id) FROM journal)",
}
NO_JSON = [b"", b"{", b"\xff\xfe", b'"\xff"', b"{}}", b"[" * 10_000]
WRONG = [b'"five"', b"[1,2]", b"5", b'{"at":"noon"}']


def window(start: Any, used: Any) -> bytes:
    return json.dumps({"window": {"start": start, "used": used}}).encode()


def snapshot(**fields: Any) -> bytes:
    sound = {"of": "requests", "limit": 100, "remaining": 0, "resets_at": NOON + 60, "started": NOON}
    return json.dumps({"x-ratelimit-requests": {**sound, **fields}}).encode()


def commit(**fields: Any) -> bytes:
    sound: dict[str, Any] = {"facts": [], "receipts": {}, "events": [], "usage": []}
    return json.dumps([*{**sound, **fields}.values()]).encode()


ABSURD: dict[str, list[bytes]] = {
    "window": [window(1e306, []), window(-5, []), window(0, [[0, 1e306]]), window(0, [[0, -1]]), window(10**400, [])],
    "breaker": [
        json.dumps({"opened": True, "until": NOON + 60, "level": 1, "changed": NOON, "reason": "x", **odd}).encode()
        for odd in ({"until": 1e306}, {"until": NOON + 367 * 86_400}, {"level": 10**30}, {"level": -1}, {"changed": -1})
    ],
    "tally": [b'{"requests":1e306}', b'{"requests":%d}' % 10**30, b'{"errors":null}'],
    "snapshot": [
        # What rlmd 0.1.0 wrote down of odd headers.
        snapshot(resets_at=1.7960832e15),
        snapshot(resets_at=253_402_300_799),
        snapshot(resets_at=NOON + 86_400_000),
        snapshot(span=-60),
        snapshot(span=1e306),
        snapshot(limit=1e306),
        snapshot(limit=None),
    ],
    "current": [],
    "pins": [],
    "receipt": [
        b'{"stage":"final","at":1e306}',
        b'{"stage":"final","at":1,"verdict":{"kind":"quota","until":1e306}}',
        b'{"stage":"lapsed","at":1,"estimated":[["x",1,1e306]]}',
    ],
    "event": [b'{"type":"event","event":"state","at":5,"message":"x"}'],
    "letter": [
        msgspec.json.encode(QueuedMessage("t", NOON, "state", "x", **odd))
        for odd in ({"until": 1e306}, {"due": 1e306}, {"tries": -1})
    ],
    "journal": [
        commit(usage=[[5, "anthropic", MODEL, "tokens", 1e306]]),
        commit(usage=[[10**30, "anthropic", MODEL, "tokens", 1]]),
        commit(receipts={"one": {"stage": "final", "at": 1e306}}),
        commit(events=[[1e306, {}]]),
    ],
}
SENSIBLE = {("current", WRONG[0]), ("tally", WRONG[3]), ("pins", WRONG[3])}
"""Fields that nobody knows are passed over."""
ROWS = [(what, row) for what in WHERE for row in (*NO_JSON, *WRONG, *ABSURD[what]) if (what, row) not in SENSIBLE]


class Known:
    """Everything that a daemon knows when it has started."""

    def __init__(self, daemon: Daemon) -> None:
        store = daemon._store
        read = daemon.ledger.state.keep_everything().facts
        self.facts = {name: msgspec.json.encode(fact()) for name, fact in read.items()}
        self.events = daemon.outbox.events(0.0, 1000)
        self.receipts: dict[str, Receipt | None] = {lease: store.receipt(lease) for lease in ("one", "two", "three")}
        self.letters = store.queued()
        self.told = daemon.notifier._told
        store._db.close()


@pytest.fixture
def kept(place: Place) -> Place:
    """A state with a row of every kind, as a kill has left it."""
    place.configure(f'{TWO}[notify]\ntargets = ["{ADDRESS}"]\nevents = ["state"]\n')
    place.paths.state_dir.mkdir()
    daemon = begun(place)
    outbox, ledger = daemon.outbox, daemon.ledger
    for lease in ("one", "two"):
        report = Report("anthropic", MODEL, "ok", lease, status=200, headers=HEADERS)
        outbox.add(ledger.report(report, NOON, rand=0.0))
        outbox.settle()
    outbox.add(commands.rest(ledger.state, "openrouter", None, NOON + 60, "lunch", NOON))
    outbox.add(commands.pin(ledger.state, "anthropic", MODEL, NOON))
    outbox.settle()
    outbox.fold()
    outbox.add(ledger.report(Report("openrouter", "anthropic/sonnet", "cancelled", "three"), NOON, rand=0.0))
    outbox.settle()
    outbox.add(commands.enable(ledger.state, "openrouter", NOON, enabled=False))
    outbox.settle()
    assert daemon.notifier._last > 1
    daemon._store._db.close()
    return place


def begun(place: Place) -> Daemon:
    return Daemon(place.paths, place.environ, lambda: LATER)


@pytest.mark.parametrize(("what", "row"), ROWS, ids=[f"{what}-{row[:60]!r}" for what, row in ROWS])
def test_a_row_that_makes_no_sense(kept: Place, caplog: pytest.LogCaptureFixture, what: str, row: bytes) -> None:
    before, table = copy_of(kept), WHERE[what].split()[0]
    with closing(sqlite3.connect(kept.paths.database)) as db, db:
        (key,) = db.execute(f"SELECT {', '.join(KEYS[table])} FROM {WHERE[what]}")
        changed = db.execute(f"UPDATE {WHERE[what].replace(' WHERE', ' SET row = ? WHERE', 1)}", (row,)).rowcount
        assert changed == 1
    after = Known(begun(kept))
    assert not list(kept.paths.state_dir.glob("*damaged*"))
    (line,) = (kept.paths.state_dir / "state.db.set-aside").read_bytes().splitlines()
    aside = json.loads(line)
    assert (aside["table"], tuple(aside["key"])) == (table, key)
    assert aside["row"] == row.decode(errors="replace")
    assert f"the state of {' '.join(map(str, key))} in the table {table} makes no sense (" in caplog.text
    if table == "fact":
        assert {n: v for n, v in before.facts.items() if n != key and v != after.facts.get(n)} == {}
    elif what != "journal":
        assert after.facts == before.facts
    assert len(after.events) == len(before.events) - (what in {"event", "journal"})
    assert sum(r is not None for r in after.receipts.values()) == 3 - (what == "receipt")
    assert len(after.letters) == len(before.letters) - (what == "letter")
    assert after.told == before.told
    caplog.clear()
    again = Known(begun(kept))
    assert (again.facts, again.events, again.letters) == (after.facts, after.events, after.letters)
    assert "makes no sense" not in caplog.text, "that is told once"


def copy_of(place: Place) -> Known:
    """What a daemon knows that starts with the state as it is; the state stays that."""
    aside = place.root / "aside"
    shutil.copytree(place.paths.state_dir, aside)
    known = Known(begun(place))
    shutil.rmtree(place.paths.state_dir)
    aside.rename(place.paths.state_dir)
    return known


def test_what_was_told_for_ever_may_be_told_again(kept: Place) -> None:
    with closing(sqlite3.connect(kept.paths.database)) as db, db:
        db.execute("INSERT INTO told VALUES ('state/a', 1e306), ('state/b', ?)", (NOON + 60,))
    assert "state/b" in Known(begun(kept)).told
    assert "state/a" not in Known(begun(kept)).told


@pytest.mark.parametrize("row", [*NO_JSON, b"5"])
def test_a_kept_configuration_that_makes_no_sense_manages_nobody(
    kept: Place, caplog: pytest.LogCaptureFixture, row: bytes
) -> None:
    kept.configure("oops = [")
    with closing(sqlite3.connect(kept.paths.database)) as db, db:
        db.execute("UPDATE fact SET row = ? WHERE kind = 'setting' AND key = 'config'", (row,))
    daemon = begun(kept)
    assert daemon.ledger.state.policy.providers == ()
    assert "the state of setting config in the table fact makes no sense (" in caplog.text
    kept.configure(TWO)
    daemon.reload()
    assert daemon.ledger.state.totals["anthropic"].requests == 2
    daemon._store.close()


def test_a_name_with_a_wrong_letter_hides_no_other(kept: Place) -> None:
    before = copy_of(kept)
    with closing(sqlite3.connect(kept.paths.database)) as db, db:
        db.execute("UPDATE fact SET key = CAST(X'61ff62' AS TEXT) WHERE kind = 'tally' AND key = 'openrouter'")
    after = Known(begun(kept))
    assert {name for name, row in before.facts.items() if after.facts.get(name) != row} <= {("tally", "openrouter")}
    assert not list(kept.paths.state_dir.glob("*damaged*"))


@pytest.mark.parametrize("bucket", ["hour", "day"])
@pytest.mark.parametrize("amount", [b"many", "many", 1e306, -1e306, 5.5, float("inf")])
@pytest.mark.parametrize("column", ["requests", "tokens", "cost", "throttle"])
def test_usage_that_makes_no_sense_is_told_as_none(kept: Place, bucket: Any, amount: Any, column: str) -> None:
    def told() -> Any:
        asked = history._asked(kept.paths.database, HistoryQuery(bucket=bucket), UTC, int(NOON), LATER)
        rows, _ = history_reader.read(json.loads(msgspec.json.encode(asked)))
        return {row.provider: row for row in msgspec.json.decode(rows, type=list[HistoryRow])}

    begun(kept)._store.close()
    before = told()
    with closing(sqlite3.connect(kept.paths.database)) as db, db:
        db.execute(f"UPDATE usage SET {column} = ? WHERE provider = 'anthropic'", (amount,))
    daemon = begun(kept)
    daemon.outbox.add(daemon.ledger.report(Report("openrouter", "anthropic/sonnet", "ok"), LATER, rand=0.0))
    daemon.outbox.settle()
    daemon._store.close()
    after = told()
    assert after["openrouter"].requests == before["openrouter"].requests + 1
    if column == "requests":
        assert after["anthropic"].requests == (5 if amount == 5.5 else 0)
    else:
        assert after["anthropic"].requests == 2
