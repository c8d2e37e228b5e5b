"""Usage over time: what is counted, what it adds up to, how long it is kept. Other processes: a query is one."""

from __future__ import annotations

import sqlite3
import sys
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from house import MODEL, NOON, House, Peer, Process

from rlmd.client.connection import DaemonRefusedError
from rlmd.core.calendar import bounds
from rlmd.store import history, history_reader
from rlmd.store.database import PRUNE_STEP, Store
from rlmd.wire import messages

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import tzinfo
    from pathlib import Path

    from rlmd.store.journal import Used

HOUR = 3600
BEGIN = int(NOON)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "state.db")
    yield store
    store.close()


def use(store: Store, quarter: int, provider: str, **amounts: float) -> None:
    usage: dict[Used, float] = {(quarter, provider, MODEL, what): amount for what, amount in amounts.items()}
    store.commit({}, {}, (), usage)


def rows(store: Store, zone: tzinfo = UTC, **asked: Any) -> list[dict[str, Any]]:
    store.fold()
    request = messages.HistoryQuery(**asked)
    first = history._first(store.path, request)
    raw, _ = history_reader.read(history._asked(store.path, request, zone, first, NOON + 10 * HOUR))
    decoded: list[dict[str, Any]] = msgspec.json.decode(raw)
    return decoded


def moment(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)


def test_an_hour_adds_up_by_provider_and_model(store: Store) -> None:
    use(store, BEGIN, "anthropic", requests=1, tokens=1200, cost=0.1)
    use(store, BEGIN, "anthropic", requests=2, tokens=300, cost=0.2, switches=1, throttle=1)
    use(store, BEGIN, "openrouter", requests=1)
    first, second = rows(store)
    assert first == {
        "at": "2026-01-12T12:00:00.000Z",
        "provider": "anthropic",
        "model": MODEL,
        "requests": 3,
        "errors": {"throttle": 1},
        "tokens": 1500,
        "cost": 0.3,
        "switches": 1,
    }
    assert (second["provider"], second["requests"], second["errors"]) == ("openrouter", 1, {})


def test_what_is_not_asked_for_is_left_out(store: Store) -> None:
    for hour in range(4):
        for provider in ("anthropic", "openrouter"):
            use(store, BEGIN + hour * HOUR, provider, requests=1)
    found = rows(store, provider="anthropic", since=moment(BEGIN + HOUR), until=moment(BEGIN + 3 * HOUR))
    assert [(row["at"][11:13], row["provider"]) for row in found] == [("13", "anthropic"), ("14", "anthropic")]


@pytest.mark.parametrize(("zone", "days"), [(UTC, ["12", "13"]), (ZoneInfo("America/New_York"), ["12"])])
def test_a_day_is_the_persons(store: Store, zone: tzinfo, days: list[str]) -> None:
    use(store, BEGIN, "anthropic", requests=1)
    use(store, BEGIN + 13 * HOUR, "anthropic", requests=1)
    found = rows(store, zone, bucket="day", until=moment(BEGIN + 20 * HOUR))
    assert [row["at"][8:10] for row in found] == days
    assert sum(row["requests"] for row in found) == 2


KOLKATA, KATHMANDU, LORD_HOWE = map(ZoneInfo, ("Asia/Kolkata", "Asia/Kathmandu", "Australia/Lord_Howe"))


def test_a_day_begins_at_midnight_where_that_is_no_full_hour_elsewhere(store: Store) -> None:
    midnight = datetime(2026, 1, 13, tzinfo=KOLKATA)
    use(store, int(midnight.timestamp()) - 900, "anthropic", requests=1)
    use(store, int(midnight.timestamp()), "anthropic", requests=4)
    asked: dict[str, Any] = {"bucket": "day", "until": midnight + timedelta(days=1)}
    found = [(row["at"], row["requests"]) for row in rows(store, KOLKATA, **asked)]
    assert found == [("2026-01-11T18:30:00.000Z", 1), ("2026-01-12T18:30:00.000Z", 4)]
    assert [row["requests"] for row in rows(store, KOLKATA, **asked, since=midnight)] == [4]


@pytest.mark.parametrize("zone", [UTC, KOLKATA, KATHMANDU, LORD_HOWE, ZoneInfo("America/St_Johns")], ids=str)
@pytest.mark.parametrize("around", [datetime(2026, 4, 5, 12, tzinfo=UTC), datetime(2026, 10, 4, tzinfo=UTC)])
def test_days_and_hours_are_those_of_the_wall_clock(store: Store, zone: tzinfo, around: datetime) -> None:
    # Lord Howe moves its clocks by half an hour on both of these days.
    quarters = [int(around.timestamp()) + n * 900 for n in range(-3 * 96, 3 * 96)]
    for quarter in quarters:
        use(store, quarter, "anthropic", requests=1)
    until = moment(quarters[-1] + 900)
    for bucket, per in (("day", "1d"), ("hour", "1h")):
        counted = Counter(bounds(per, quarter, zone)[0] for quarter in quarters)
        found = rows(store, zone, bucket=bucket, until=until)
        assert {datetime.fromisoformat(row["at"]).timestamp(): row["requests"] for row in found} == counted
        assert [row["at"] for row in found] == sorted(row["at"] for row in found)


def test_a_query_has_the_quarters_of_an_hour_that_it_asks_for(store: Store) -> None:
    for n in range(8):
        use(store, BEGIN + n * 900, "anthropic", requests=10**n)

    def told(since: int, until: int) -> list[tuple[str, int]]:
        found = rows(store, since=moment(BEGIN + since * 60), until=moment(BEGIN + until * 60))
        return [(row["at"][11:16], row["requests"]) for row in found]

    assert told(30, 90) == [("12:00", 1100), ("13:00", 110000)]
    assert told(30, 90) == told(44, 76), "a quarter that the query begins or ends in is told whole"
    assert told(0, 30) == [("12:00", 11)]
    assert told(30, 30) == []


async def test_what_is_used_counts_in_its_quarter_of_an_hour(house: House, peer: Peer) -> None:
    house.stepped = 2 * 900 + 899
    await peer.report(await peer.use())
    house.daemon.outbox.fold()
    with closing(sqlite3.connect(house.place.paths.database)) as db:
        assert db.execute("SELECT quarter, requests FROM usage").fetchall() == [(BEGIN + 2 * 900, 1)]


def test_of_too_many_rows_the_newest_are_told_oldest_first(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_reader, "MOST", 2)
    for hour in range(3):
        use(store, BEGIN + hour * HOUR, "anthropic", requests=1)
    assert [row["at"][11:13] for row in rows(store)] == ["13", "14"]


def test_old_usage_goes_a_few_rows_at_a_time(store: Store) -> None:
    for hour in range(PRUNE_STEP + 1):
        use(store, BEGIN + hour * HOUR, "anthropic", requests=1)
    store.fold()
    now = BEGIN + (PRUNE_STEP + 2) * HOUR
    assert store.prune(now, keep=HOUR)
    assert not store.prune(now, keep=HOUR)
    with closing(sqlite3.connect(store.path)) as db:
        assert db.execute("SELECT count(*) FROM usage").fetchone() == (0,)


def test_the_daemon_counts_and_answers_in_order(process: Process) -> None:
    process.begin()
    anthropic = {"provider": "anthropic", "model": MODEL}
    with process.client() as client:
        use = client.request("acquire", **anthropic)
        client.request("report", **anthropic, lease=use["lease"], outcome="ok", usage={"input": 10, "cost": 0.5})
        client.request("report", **anthropic, outcome="error", status=429, headers={"retry-after": "60"})
        client.request("acquire", **anthropic, session="s")
        client._socket.sendall(b'{"op":"history","id":-1}\n{"op":"ping","id":-2}\n')
        first, second = (client._receive(client.deadline + 1e9) for _ in range(2))
    assert (first["id"], second["id"]) == (-1, -2)
    (row,) = (row for row in first["rows"] if row["provider"] == "anthropic")
    del row["at"]
    assert row == {
        "provider": "anthropic",
        "model": MODEL,
        "requests": 1,
        "errors": {"throttle": 1},
        "tokens": 10,
        "cost": 0.5,
        "switches": 1,
    }
    before = process.ask("history", bucket="day")["rows"]
    process.kill()
    process.begin()
    kept = process.ask("history", bucket="day")["rows"]
    assert sum(row["switches"] for row in kept) == sum(row["switches"] for row in before)
    assert [row["requests"] for row in kept if row["provider"] == "anthropic"][-1:] == [1]


def test_a_damaged_history_is_found_by_whoever_asks_for_it(process: Process) -> None:
    process.begin()
    assert process.ask("report", provider="anthropic", model=MODEL, outcome="ok")["type"] == "recorded"
    process.ask("shutdown")
    process.exits()
    path = process.place.paths.database
    with closing(sqlite3.connect(path)) as db:
        (page,) = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'usage'").fetchone()
        (size,) = db.execute("PRAGMA page_size").fetchone()
    process.begin()
    assert len(process.ask("history")["rows"]) == 1
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)
    with process.client() as client, pytest.raises(DaemonRefusedError, match="database disk image is malformed"):
        client.request("history")
    assert list(process.place.paths.state_dir.glob("state.db.damaged-*"))
    status = process.ask("status")
    assert (status["daemon"]["durable"], status["providers"][0]["request_count"]) == (True, 1)
    assert process.ask("history")["rows"] == []
    process.kill()
    process.begin()
    assert process.ask("status")["providers"][0]["request_count"] == 1


IN_THE_WAY = """
from rlmd.__main__ import main
from rlmd.store import checkpoint, history

history.COMMAND = ("sleep", "60")
checkpoint.HOLD_AT = 1
checkpoint._checkpoint = lambda path, mode: False
checkpoint.AGAIN = 0.01
run = checkpoint.Checkpoints.run

async def at_once(self, on_resumed):
    self.request(0)
    await run(self, on_resumed)

checkpoint.Checkpoints.run = at_once
main([])
"""
"""A daemon whose queries take a minute, and keep the log from being cut."""


def test_a_query_gives_way_where_the_log_cannot_be_cut(process: Process) -> None:
    process.launch(sys.executable, "-c", IN_THE_WAY)
    process.await_state("READY=1")
    with process.client() as client, pytest.raises(DaemonRefusedError, match="ask for less of it"):
        client.request("history")
