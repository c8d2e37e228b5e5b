"""What survives: a kill at any moment, a disk that fails, a file of another version."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
from typing import TYPE_CHECKING

import pytest
import trio
from house import MODEL, NOON, SETTINGS, House, Peer, Process

from rlmd.core.model import Effects, Receipt, Verdict
from rlmd.daemon import PRUNE_EVERY, PRUNE_FIRST
from rlmd.server.outbox import RETRY, Outbox
from rlmd.store.database import KEPT, PRUNE_STEP, RECEIPTS_KEPT, Store
from rlmd.store.migrations import MIGRATIONS, StoreError
from rlmd.wire.messages import Event, rfc3339

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from rlmd.core.model import FactKind

LASTING = """\
time_zone = "UTC"
patience = "0s"
[[provider]]
id = "anthropic"
models = ["sonnet"]
[[provider.limit]]
of = "requests"
max = 50
per = "1h"
window = "rolling"
[[provider]]
id = "openrouter"
priority = 2
models = ["sonnet"]
[[provider]]
id = "groq"
priority = 3
models = ["sonnet", "llama"]
"""
"""Limits that no hour of the real clock resets."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "state.db")
    yield store
    store.close()


def receipt(at: float = 0.0) -> Receipt:
    return Receipt("final", at, Verdict("ok"))


def event(at: float) -> tuple[float, Event]:
    return at, Event(event="state", at=rfc3339(at), message="it happened")


# The file


def test_the_file_is_its_owners_only_whatever_the_mask(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        store = Store(tmp_path / "state.db")
        store.commit({}, {"lease": receipt()}, (), {})
        for path in tmp_path.iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
        store.close()
    finally:
        os.umask(mask)


def test_a_file_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.touch(0o644)
    Store(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_was_committed_is_there_when_it_is_opened_again(tmp_path: Path) -> None:
    store = Store(tmp_path / "state.db")
    facts: dict[tuple[FactKind, str], Callable[[], object]]
    facts = {("tally", "a"): lambda: {"requests": 1}, ("setting", "x"): lambda: "y"}
    store.commit(facts, {"l": receipt()}, [event(1)], {})
    store.commit({("tally", "a"): lambda: {"requests": 2}, ("setting", "x"): lambda: None}, {}, [event(2)], {})
    store.close()
    store = Store(tmp_path / "state.db")
    assert [*store.facts()] == [("tally", "a", b'{"requests":2}')]
    assert (store.fact("tally", "a"), store.fact("setting", "x")) == (b'{"requests":2}', None)
    assert (store.receipt("l"), store.receipt("m")) == (receipt(), None)
    assert store.events(0.0, 10) == [event(1)[1], event(2)[1]]
    assert store.events(1.5, 10) == store.events(0.0, 1) == [event(2)[1]]
    store.close()


def test_a_commit_is_whole_or_nothing(store: Store) -> None:
    def broken() -> object:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.commit({("tally", "a"): lambda: 1, ("tally", "b"): broken}, {"l": receipt()}, (), {})
    assert [*store.facts()] == []
    store.commit({("tally", "a"): lambda: 1}, {}, (), {})
    store.fold()
    assert [*store.facts()] == [("tally", "a", b"1")]


def test_old_rows_go_a_few_at_a_time(store: Store) -> None:
    many = PRUNE_STEP + 1
    store.commit({}, {str(n): receipt(0.0) for n in range(many)}, [event(0)], {})
    store.commit({}, {"young": receipt(100.0)}, [event(100)], {})
    store.fold()
    assert not store.prune(RECEIPTS_KEPT)
    assert store.receipt("0"), "48 hours are not over"
    assert store.prune(RECEIPTS_KEPT + 100), "there are more"
    assert not store.prune(RECEIPTS_KEPT + 100)
    assert [store.receipt(name) for name in ("0", str(many - 1))] == [None, None]
    assert store.receipt("young")
    assert len(store.events(0.0, 10)) == 2
    store.prune(KEPT + 100)
    assert store.events(0.0, 10) == [event(100)[1]]


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.mark.parametrize("killed", [True, False], ids=["as a kill leaves it", "at rest"])
def test_a_file_of_a_newer_version_is_refused_and_not_touched(tmp_path: Path, *, killed: bool) -> None:
    lived, left = tmp_path / "lived", tmp_path / "left"
    lived.mkdir()
    store = Store(lived / "state.db")
    store.commit({("tally", "a"): lambda: 1}, {}, (), {})
    newer = sqlite3.connect(lived / "state.db", isolation_level=None)
    newer.execute("PRAGMA wal_autocheckpoint=0")
    newer.execute("UPDATE fact SET row = ? WHERE key = 'written_by'", (b'"9.1.0"',))
    newer.execute(f"PRAGMA user_version={len(MIGRATIONS) + 1}")
    if killed:  # the new version stands in the log beside the file only
        shutil.copytree(lived, left)
    newer.close()
    store.close()
    if not killed:
        shutil.copytree(lived, left)
    before = contents(left)
    assert before.keys() == ({"state.db", "state.db-wal", "state.db-shm"} if killed else {"state.db"})
    with pytest.raises(StoreError) as caught:
        Store(left / "state.db")
    assert str(caught.value) == (
        f"{left}/state.db was written by a newer rlmd "
        f"(schema {len(MIGRATIONS) + 1}, this one knows {len(MIGRATIONS)}). "
        "Nothing was changed. Install rlmd 9.1.0 or newer again, or move the file away to start afresh."
    )
    assert contents(left) == before


def test_a_newer_version_that_was_never_committed_is_none(tmp_path: Path) -> None:
    store = Store(tmp_path / "state.db")
    newer = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
    newer.execute("PRAGMA wal_autocheckpoint=0")
    newer.execute(f"PRAGMA user_version={len(MIGRATIONS) + 1}")
    shutil.copytree(tmp_path, tmp_path / "killed")
    wal = tmp_path / "killed" / "state.db-wal"
    log = bytearray(wal.read_bytes())
    log[-4097] ^= 1  # in the checksum of the last page: what was written before it came never was
    wal.write_bytes(log)
    Store(tmp_path / "killed" / "state.db").close()
    newer.close()
    store.close()


def spoil_with_directory(path: Path) -> None:
    path.mkdir()


def spoil_with_link(path: Path) -> None:
    path.symlink_to("elsewhere.db")


@pytest.mark.parametrize("spoil", [spoil_with_directory, spoil_with_link])
def test_a_file_that_cannot_be_used_is_named_with_the_mend(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    path = tmp_path / "state.db"
    spoil(path)
    with pytest.raises(StoreError) as caught:
        Store(path)
    assert str(caught.value).startswith(f"The state in {path} cannot be used: ")
    assert str(caught.value).endswith(
        "Free or repair the disk; or move the file away (rlmd then starts with an empty one)."
    )
    assert not (tmp_path / "elsewhere.db").exists()


# What asks nothing of the disk


async def test_an_acquire_and_a_status_ask_nothing_of_the_database(house: House, peer: Peer) -> None:
    await peer.report(await peer.use())
    asked: list[str] = []
    house.daemon._store._db.set_trace_callback(asked.append)
    for purpose in ("turn", "step", "step", "aux"):
        await peer.use(session="a", purpose=purpose)
    await peer.ask("explain", model=MODEL)
    await peer.ask("status")
    assert asked == []


async def test_no_report_reads_what_has_been(house: House, peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlmd.store.database.FOLD_AT", 5)
    asked: list[str] = []
    house.daemon._store._db.set_trace_callback(asked.append)
    for _ in range(6):
        await peer.report(await peer.use())
    assert [statement for statement in asked if "usage" in statement], "it is written"
    assert not [statement for statement in asked if statement.startswith("SELECT") and "usage" in statement]


# A disk that fails


class Disk:
    """The database's disk, which can be full, or locked by somebody else."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._other: sqlite3.Connection | None = None

    @property
    def _db(self) -> sqlite3.Connection:
        return self._house.daemon._store._db

    def fill(self) -> None:
        pages = self._db.execute("PRAGMA page_count").fetchone()[0]
        self._db.execute(f"PRAGMA max_page_count={pages}")

    def lock(self) -> None:
        self._other = sqlite3.connect(self._house.place.paths.database, isolation_level=None)
        self._other.execute("BEGIN IMMEDIATE")

    def mend(self) -> None:
        self._db.execute("PRAGMA max_page_count=1000000")
        if self._other:
            self._other.close()


@pytest.fixture
def disk(house: House) -> Iterator[Disk]:
    disk = Disk(house)
    yield disk
    disk.mend()


async def until_refused(peer: Peer) -> str:
    """Report until the disk takes no more; return the lease that was not taken."""
    for _ in range(200):
        use = await peer.use()
        given = {name: use[name] for name in ("provider", "model", "lease")}
        reply = await peer.ask("report", outcome="ok", message="x", **given)
        if reply["type"] == "error":
            assert reply == {
                "type": "error",
                "code": "not_durable",
                "message": "The report is counted in memory and the disk does not take it: send it again with the "
                "same lease later. See `rlmctl doctor`.",
            }
            return str(use["lease"])
    raise AssertionError("the disk takes everything")


@pytest.mark.parametrize("fault", [Disk.fill, Disk.lock])
async def test_while_the_disk_fails_decisions_go_on_and_nothing_is_lost(
    house: House, peer: Peer, disk: Disk, fault: Callable[[Disk], None]
) -> None:
    house.place.configure(f'{SETTINGS}[[provider]]\nid = "anthropic"\nmodels = ["{MODEL}"]\n')
    await peer.ask("reload")
    listener = await house.peer()
    await listener.ask("subscribe", events=["state"])
    await peer.report(await peer.use())
    fault(disk)
    lease = await until_refused(peer)
    assert (await listener.hear())["message"].startswith("the state cannot be written (")
    status = await peer.ask("status")
    assert not status["daemon"]["durable"]
    counted = status["providers"][0]["request_count"]
    assert (await peer.use(dry_run=True))["provider"] == "anthropic"
    assert await peer.ask("pin", provider="anthropic") == {
        "type": "error",
        "code": "not_durable",
        "message": "anthropic is used first until you say otherwise, but only until rlmd ends: the disk does not take "
        "it. See `rlmctl doctor`.",
    }
    assert (await peer.ask("log"))["events"][-1]["message"].startswith("anthropic is used first")
    disk.mend()
    told = [(await listener.hear())["message"] for _ in range(2)]
    assert house.now() <= NOON + RETRY
    assert told[1] == "the state is written again, nothing that was kept in memory is lost"
    assert (await peer.ask("status"))["daemon"]["durable"]
    again = await peer.report({"provider": "anthropic", "model": MODEL, "lease": lease})
    assert again["duplicate"], "what was counted in memory counts once"
    await house.restart()
    peer = await house.peer()
    assert (await peer.provider())["request_count"] == counted
    assert (await peer.ask("status"))["pins"] == {"*": "anthropic"}
    again = await peer.report({"provider": "anthropic", "model": MODEL, "lease": lease})
    assert again["duplicate"]


async def test_it_heals_although_nobody_asks_for_anything(house: House, peer: Peer, disk: Disk) -> None:
    disk.lock()
    await until_refused(peer)
    disk.mend()
    await trio.sleep(RETRY)
    await house.settled()
    assert house.daemon.outbox.durable


async def test_a_disk_that_hangs_is_not_asked_with_every_report(
    house: House, peer: Peer, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk.lock()
    await until_refused(peer)
    attempts = []
    monkeypatch.setattr(Store, "commit", lambda *_: attempts.append(house.now()))
    for _ in range(20):
        await peer.ask("report", provider="anthropic", model=MODEL, outcome="ok")
    assert attempts == []
    await trio.sleep(RETRY)
    await house.settled()
    assert set(attempts) == {NOON + RETRY}


async def test_a_clock_that_steps_back_does_not_put_healing_off(house: House, peer: Peer, disk: Disk) -> None:
    disk.lock()
    await until_refused(peer)
    disk.mend()
    house.stepped -= 3600
    await peer.report(await peer.use())
    assert (await peer.ask("status"))["daemon"]["durable"]


async def test_a_disk_that_is_mended_when_the_daemon_ends_gets_everything(house: House, peer: Peer, disk: Disk) -> None:
    disk.lock()
    await until_refused(peer)
    disk.mend()
    await house.restart()
    assert await (await house.peer()).used() == (1, 0)


async def test_a_daemon_starts_on_a_disk_that_takes_nothing(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    await house.end()

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "commit", full)
        house.begin()
        peer = await house.peer()
        assert (await peer.use())["provider"] == "anthropic"
        assert not (await peer.ask("status"))["daemon"]["durable"]
        assert (await peer.ask("reload"))["type"] == "done"


async def test_a_bug_in_what_is_to_be_written_stops_no_decision(
    house: House, peer: Peer, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> object:
        raise ZeroDivisionError("there it is")

    house.daemon.outbox.add(Effects(facts={("setting", "broken"): broken}))
    reply = await peer.ask("report", provider="anthropic", model=MODEL, outcome="ok")
    assert reply["code"] == "not_durable"
    assert (await peer.use())["provider"] == "anthropic"
    assert "there it is" in caplog.text
    await trio.sleep(RETRY)
    await peer.report(await peer.use())
    await house.kill()
    assert (await (await house.peer()).provider())["request_count"] == 2, "the others go to the disk without that fact"


async def test_a_database_that_cannot_be_read_stops_no_decision(
    peer: Peer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unreadable(*_: object) -> None:
        raise sqlite3.DatabaseError("database disk image is malformed")

    for reading in ("events", "receipt", "prune"):
        monkeypatch.setattr(Store, reading, unreadable)
    assert await peer.ask("log") == {
        "type": "error",
        "code": "unavailable",
        "message": "The state cannot be read now: database disk image is malformed.",
    }
    recorded = await peer.report({"provider": "anthropic", "model": MODEL, "lease": "of-a-former-daemon"})
    assert "duplicate" not in recorded
    await trio.sleep(PRUNE_FIRST + 1)
    assert "cannot look up a lease: database disk image is malformed" in caplog.text
    assert "old rows cannot be removed now: database disk image is malformed" in caplog.text
    assert (await peer.use())["provider"] == "anthropic"


async def test_old_rows_go_a_few_every_second_once_an_hour(house: House) -> None:
    store = house.daemon._store
    store.commit({}, {str(n): receipt(NOON - RECEIPTS_KEPT) for n in range(2 * PRUNE_STEP)}, (), {})
    store.fold()
    left = []
    for seconds in (PRUNE_FIRST - 0.5, 1, 1):
        await trio.sleep(seconds)
        left.append(store._db.execute("SELECT count(*) FROM receipt").fetchone()[0])
    assert left == [2 * PRUNE_STEP, PRUNE_STEP, 0]


async def test_by_a_clock_that_has_just_stepped_nothing_is_old(house: House) -> None:
    store = house.daemon._store
    store.commit({}, {}, [event(NOON)], {})
    store.fold()
    await trio.sleep(PRUNE_FIRST - 1)
    house.stepped += 400 * 86400
    await trio.sleep(2)
    house.stepped -= 400 * 86400
    assert store.events(NOON, 10)
    await trio.sleep(PRUNE_EVERY + 1)
    assert store.events(NOON, 10), "nor when it steps back"
    house.stepped += 400 * 86400
    await trio.sleep(2 * PRUNE_EVERY)
    assert not store.events(NOON - 1, 10)[:-1], "a clock that stays is believed"


def test_of_the_events_that_wait_the_oldest_are_dropped(tmp_path: Path) -> None:
    from rlmd.core.model import Notice
    from rlmd.server import outbox

    store = Store(tmp_path / "state.db")
    waiting = Outbox(store, lambda: 0.0, Effects, lambda _: None)
    store.close()
    for n in range(outbox.EVENTS_WAITING + 5):
        waiting.add(Effects(notices=[Notice("state", 0.0, str(n))]))
    assert not waiting.settle()
    assert len(waiting._events) == outbox.EVENTS_WAITING


# kill -9


def test_everything_that_was_acknowledged_is_there_after_a_kill(process: Process) -> None:
    process.place.configure(LASTING)
    process.begin()
    anthropic = {"provider": "anthropic", "model": MODEL}
    with process.client() as client:
        for _ in range(3):
            client.request("report", **anthropic, outcome="ok", lease=client.request("acquire", **anthropic)["lease"])
        use = client.request("acquire", **anthropic)
        refused = client.request(
            "report", **anthropic, outcome="error", status=429, headers={"retry-after": "3600"}, lease=use["lease"]
        )
        client.request("report", provider="openrouter", model=MODEL, outcome="ok")
        client.request("disable", provider="groq")
        client.request("pin", provider="groq", model="llama")
        before = client.request("status")
        under_way = client.request("acquire", **anthropic)
        assert under_way["provider"] == "openrouter"
        process.kill()
    process.begin()
    after = process.ask("status")
    for part in ("providers", "current_provider", "model_mapping", "pins", "text"):
        assert after[part] == before[part], part
    first = after["providers"][0]
    assert (first["state"], first["request_count"], first["error_count"]) == ("open", 3, 1)
    assert (after["current_provider"], after["pins"]) == ("groq", {"llama": "groq"})
    again = process.ask("report", **anthropic, outcome="error", status=429, lease=use["lease"])
    assert (again["duplicate"], again["verdict"]) == (True, refused["verdict"])
    late = {"provider": "openrouter", "model": MODEL, "outcome": "ok", "lease": under_way["lease"]}
    assert "duplicate" not in process.ask("report", **late)
    assert process.ask("report", **late)["duplicate"]
    assert process.ask("status")["providers"][1]["request_count"] == 2
