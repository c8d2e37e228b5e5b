"""The whole state as JSON and back: exactly, whatever is in it; and what is no such document is refused whole."""

from __future__ import annotations

import json
import sqlite3
import stat
import tempfile
from contextlib import closing
from copy import copy
from datetime import UTC
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import msgspec
import pytest
from house import MODEL, NOON, House, Peer
from hypothesis import given, settings
from hypothesis import strategies as st
from test_schemas import RELEASED

from rlmd.config.policy import Notify
from rlmd.core.model import Receipt, Spent, Verdict
from rlmd.core.snapshot import Snapshot
from rlmd.core.state import BreakerRow
from rlmd.core.target import CounterRow, TotalsRow
from rlmd.core.window import WindowRow
from rlmd.notify.notifier import Notifier
from rlmd.store import recovery
from rlmd.store.database import Store
from rlmd.store.migrations import MIGRATIONS
from rlmd.store.queued import QueuedMessage
from rlmd.store.transfer import DocumentError, build, export
from rlmd.wire.messages import Event

if TYPE_CHECKING:
    from collections.abc import Callable

    from rlmd.core.model import FactKind
    from rlmd.store.journal import Used

names = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=12)
moments = st.floats(0, 4e9)
amounts = st.floats(0, 1e15)
FACTS: dict[FactKind, st.SearchStrategy[object]] = {
    "window": st.builds(
        CounterRow,
        st.builds(WindowRow, moments, st.lists(st.tuples(moments, amounts), max_size=3)),
        st.tuples(amounts, amounts),
    ),
    "breaker": st.builds(BreakerRow, st.booleans(), moments, st.integers(0, 9), moments, names, st.none() | moments),
    "tally": st.builds(TotalsRow, st.integers(0, 2**60), st.integers(0, 9), st.none() | st.booleans()),
    "snapshot": st.dictionaries(
        names, st.builds(Snapshot, st.just("tokens"), amounts, amounts, moments, moments, amounts), max_size=2
    ),
    "setting": st.none() | names,
}
receipts = st.builds(
    Receipt,
    st.sampled_from(["accepted", "lapsed", "final"]),
    moments,
    st.none() | st.builds(Verdict, st.just("throttle"), st.just("model"), st.none() | amounts, st.none() | moments),
    st.none() | st.tuples(names, names),
    st.booleans(),
    st.lists(st.tuples(names, moments), max_size=2),
)
events = st.tuples(
    moments, st.builds(Event, event=st.just("state"), at=names, message=names, provider=st.none() | names)
)
used = st.dictionaries(
    st.tuples(st.integers(0, 2**40), names, names, st.sampled_from(get_args(Spent))), st.integers(1, 2**50), max_size=4
)
facts = st.one_of(
    *(st.tuples(st.tuples(st.just(kind), names.filter(bool)), row) for kind, row in FACTS.items() if kind != "setting"),
    st.tuples(st.tuples(st.just("setting"), st.just("current")), FACTS["setting"]),
)
commits = st.lists(
    st.tuples(
        st.lists(facts, max_size=4), st.dictionaries(names, receipts, max_size=3), st.lists(events, max_size=3), used
    ),
    max_size=4,
)
letters = st.lists(st.builds(QueuedMessage, names, moments, names, names, st.none() | moments), max_size=3)


def exported(path: Path) -> str:
    return "".join(export(path))


def imported(text: str, path: Path) -> None:
    """Put an export in the place of what is there."""
    build(msgspec.json.decode(text), recovery.import_path(path))
    store = Store(path)
    store.replace()
    store.close()


def fill(path: Path, made: list[Any], waiting: list[QueuedMessage], folded: Callable[[], bool]) -> None:
    store = Store(path)
    for given_facts, given_receipts, given_events, given_usage in made:
        read: dict[tuple[FactKind, str], Callable[[], object]] = {name: partial(copy, row) for name, row in given_facts}
        usage: dict[Used, float] = given_usage
        store.commit(read, given_receipts, given_events, usage)
        if folded():
            store.fold()
    rows = {number: msgspec.json.encode(letter) for number, letter in enumerate(waiting)}
    store.keep_queued(rows, (), {letter.message: letter.at + 1 for letter in waiting}, 0.0)
    if made and folded():
        store._db.close()  # as a kill leaves it
    else:
        store.close()


@settings(deadline=None, max_examples=60)  # a disk has no deadline
@given(commits, letters, st.data())
def test_there_and_back_is_exact(made: list[Any], waiting: list[QueuedMessage], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as place:
        path, other = Path(place, "state.db"), Path(place, "other.db")
        fill(path, made, waiting, lambda: data.draw(st.booleans()))
        before = exported(path)
        assert exported(path) == before, "an export changes nothing"
        imported(before, other)
        assert exported(other) == before
        imported(before, other)
        assert exported(other) == before


@pytest.mark.parametrize("file", RELEASED, ids=lambda file: file.stem)
def test_an_export_of_an_older_schema_is_brought_up_to_date(tmp_path: Path, file: Path) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(file.read_bytes())
    document = json.loads(exported(path))
    assert path.read_bytes() == file.read_bytes(), "and the file stays what it is"
    kept = {name: document["tables"][name] for name in ("fact", "receipt", "event")}
    imported(json.dumps({"schema": 1, "tables": kept}), tmp_path / "new.db")
    again = json.loads(exported(tmp_path / "new.db"))
    assert again["schema"] == len(MIGRATIONS)
    assert {name: again["tables"][name] for name in kept} == kept


def test_what_is_this_machines_own_stays(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    store = Store(path)
    store.commit({("setting", "config"): lambda: "slack://secret", ("setting", "pins"): dict}, {}, (), {})
    store.close()
    text = exported(path)
    assert "secret" not in text
    assert "written_by" not in text
    imported(text, path)
    store = Store(path)
    assert store.fact("setting", "config") == b'"slack://secret"'
    store.close()


def test_what_was_before_is_kept_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    fill(path, [([(("tally", "a"), TotalsRow(5))], {}, [], {})], [], lambda: False)
    before = exported(path)
    fill(tmp_path / "other.db", [], [], lambda: False)
    imported(exported(tmp_path / "other.db"), path)
    (kept,) = tmp_path.glob("state.db.replaced-*")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert exported(kept) == before
    assert not recovery.import_path(path).exists()


DOCUMENT = {"rlmd": "0.1.0", "schema": 3, "tables": {}}


NONE = 'it is no export: that has a "schema" and "tables"'
NO_COUNT = {"kind": "tally", "key": "a", "row": {"requests": "many"}}
NO_STAGE = {"lease": "a", "at": 1, "row": {"stage": "lost", "at": 1}}
SOUND = {"stage": "final", "at": 1}


def tables(**rows: Any) -> dict[str, Any]:
    return {**DOCUMENT, "tables": rows}


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ([], NONE),
        ({"tables": {}}, NONE),
        ({**DOCUMENT, "schema": 0}, NONE),
        ({**DOCUMENT, "schema": 99}, f"it was exported by rlmd 0.1.0 (schema 99, this one knows {len(MIGRATIONS)})"),
        (tables(journal=[]), "its schema has no table 'journal'"),
        (tables(**{"fact; DROP TABLE fact": []}), "its schema has no table 'fact; DROP TABLE fact'"),
        (tables(told=[{"fact": "x", "1": 2}]), "told[0] has not the columns fact, until"),
        (tables(told=[{"fact": "x", "until": "soon"}]), "told[0].until is 'soon', and that is no real"),
        (tables(told=[{"fact": "x"}]), "told[0] does not fit: NOT NULL constraint failed: told.until"),
    ],
)
def test_what_is_no_export_is_refused(tmp_path: Path, document: object, why: str) -> None:
    with pytest.raises(DocumentError) as caught:
        build(document, tmp_path / "new.db")
    assert str(caught.value) == why


def test_a_row_that_makes_no_sense_is_left_out_alone(tmp_path: Path) -> None:
    path, other = tmp_path / "state.db", tmp_path / "other.db"
    count, stage = {"kind": "tally", "key": "b", "row": {"requests": 5}}, {**NO_STAGE, "lease": "b", "row": SOUND}
    left_out = build(
        tables(fact=[NO_COUNT, count], receipt=[NO_STAGE, stage], event=[{"id": 7, "at": 1, "row": 8}]), path
    )
    assert left_out == [
        "fact tally a: Expected `int`, got `str` - at `$.requests`",
        "receipt a: Invalid enum value 'lost' - at `$.stage`",
        "event 7: Expected `object`, got `int`",
    ]
    kept = json.loads(exported(path))["tables"]
    assert (kept["fact"], kept["receipt"], kept["event"]) == ([count], [stage], [])
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE fact SET row = CAST('{' AS BLOB) WHERE key = 'b'")
    odd: list[str] = []
    imported("".join(export(path, odd)), other)
    assert odd == ["fact tally b: Input data was truncated"]
    assert json.loads(exported(other))["tables"]["receipt"] == [stage]


# With a daemon that runs


async def test_a_running_daemon_takes_over_all_of_it(house: House, peer: Peer) -> None:
    path = house.place.paths.database
    lost = await peer.use()
    for _ in range(3):
        await peer.report(await peer.use())
    used = await peer.use()
    await peer.refuse(used, 3600)
    await peer.ask("pin", provider="openrouter", model=MODEL)
    before = await peer.ask("status")
    text = exported(path)
    await peer.ask("reset")
    await peer.ask("pin")
    await peer.ask("disable", provider="openrouter")
    build(msgspec.json.decode(text), recovery.import_path(path))
    assert (await peer.ask("import"))["message"].startswith(f"the state is replaced; the one before is kept in {path}.")
    assert exported(path) == text
    after = await peer.ask("status")
    for part in ("current_provider", "pins"):
        assert after[part] == before[part]
    told = [(p["state"], p["request_count"], p["error_count"], p["in_flight"]) for p in after["providers"]]
    assert told == [("open", 3, 1, 0), ("closed", 0, 0, 0)]
    assert (await peer.ask("report", outcome="error", status=429, **used_by(used)))["duplicate"]
    assert "duplicate" not in await peer.report(lost), "one of before the import counts, once"
    assert (await peer.report(lost))["duplicate"]
    await house.restart()
    assert (await (await house.peer()).provider())["request_count"] == 4


def used_by(use: dict[str, Any]) -> dict[str, Any]:
    return {name: use[name] for name in ("provider", "model", "lease")}


def test_messages_that_waited_wait_again(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    store = Store(path)
    told = Notifier(store, lambda: NOON)
    told.configure(Notify(targets=("json://localhost/hook",), events=("state",), quiet_hours=None), UTC)
    told.take(Event(event="state", at="", message="something happened"))
    build(msgspec.json.decode(exported(path)), recovery.import_path(path))
    store.keep_queued({}, [1], {}, NOON * 2)
    store.replace()
    told.take_up()
    (target,) = told._targets.values()
    assert [letter.message for letter in target.letters.values()] == ["something happened"]
    told.take(Event(event="state", at="", message="something happened"))
    assert len(target.letters) == 1, "it was told already"
    told.take(Event(event="state", at="", message="x", reason="y"))
    assert [*target.letters] == [1, 2]
    store.close()


async def test_without_anything_beside_it_nothing_changes(house: House, peer: Peer) -> None:
    await peer.report(await peer.use())
    text = exported(house.place.paths.database)
    refused = await peer.ask("import")
    assert (refused["type"], refused["code"]) == ("error", "unavailable")
    assert refused["message"].startswith("Nothing was imported: ")
    assert exported(house.place.paths.database) == text
    assert (await peer.used()) == (1, 0)


async def test_while_somebody_else_writes_nothing_changes(house: House, peer: Peer) -> None:
    path = house.place.paths.database
    await peer.report(await peer.use())
    text = exported(path)
    build(msgspec.json.decode(text), recovery.import_path(path))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert (await peer.ask("import"))["code"] == "unavailable"
    assert (await peer.used()) == (1, 0)
    house.stepped += 2
    assert (await peer.ask("import"))["type"] == "done"
