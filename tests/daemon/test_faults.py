"""Disks that fail for real: full, read-only, damaged, cut off, locked. The daemon is a process; root mounts a tmpfs.

During each fault it decides from memory and says so, it heals by itself, and what it acknowledged is there.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from house import MODEL, SOON, House, Peer, Place, Process

from rlmd.client.connection import DaemonRefusedError
from rlmd.store import database as stores
from rlmd.store import migrations, recovery
from rlmd.store.database import Store
from rlmd.store.migrations import MIGRATIONS
from rlmd.store.transfer import build, export

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ANTHROPIC = {"provider": "anthropic", "model": MODEL}
SIZE = 3 * 2**20


@pytest.fixture
def mounted(process: Process) -> Iterator[Path]:
    """A state directory that is a small disk of its own."""
    path = process.place.paths.state_dir
    path.mkdir(mode=0o700)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=700", "tmpfs", str(path)]
    if not sys.platform.startswith("linux") or os.geteuid() != 0 or subprocess.run(mount, check=False).returncode:
        pytest.skip("only root can mount a disk of its own, on Linux, where it may")
    yield path
    process.close()
    subprocess.run(["umount", "-l", str(path)], check=True)


def fill(path: Path) -> Path:
    """Leave no room at all."""
    ballast = path / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while file.write(b"x" * 4096):
                pass
        except OSError:
            return ballast
    raise AssertionError("unreachable")


def report(process: Process, **fields: Any) -> bool:
    """Report a request; whether that was acknowledged."""
    try:
        process.ask("report", **ANTHROPIC, outcome="ok", **fields)
    except DaemonRefusedError as error:
        if error.code != "not_durable":
            raise
        return False
    return True


def durable(process: Process) -> bool:
    answer: bool = process.ask("status")["daemon"]["durable"]
    return answer


def count(process: Process) -> int:
    counted: int = process.ask("status")["providers"][0]["request_count"]
    return counted


def await_healing(process: Process) -> None:
    until = time.monotonic() + SOON
    while not durable(process):
        assert time.monotonic() < until, process.log.read_text()
        time.sleep(0.05)


def fails_and_heals(process: Process) -> Iterator[None]:
    """Hold what holds for every fault; the caller breaks the disk at the first pause and mends it at the second."""
    acknowledged = sum(report(process) for _ in range(5))
    assert acknowledged == 5
    yield
    sent = 0
    while report(process):
        sent += 1
        assert sent < 5000, "the disk takes everything"
    assert not durable(process)
    assert process.ask("acquire", **ANTHROPIC)["type"] == "use"
    in_memory = count(process)
    yield
    await_healing(process)
    assert count(process) >= in_memory > acknowledged + sent
    kept = count(process)
    process.kill()
    process.begin()
    assert count(process) == kept, "nothing that it knew is lost"


def test_a_full_disk(process: Process, mounted: Path) -> None:
    process.begin()
    story = fails_and_heals(process)
    next(story)
    ballast = fill(mounted)
    next(story)
    ballast.unlink()
    next(story, None)


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="root may write anywhere without setpriv")
def test_a_directory_made_read_only(process: Process) -> None:
    drop = ("setpriv", "--bounding-set=-dac_override") if os.geteuid() == 0 else ()
    process.launch(*drop, sys.executable, "-m", "rlmd")
    process.await_state("READY=1")
    assert report(process)
    directory = process.place.paths.state_dir
    directory.chmod(0o500)
    assert (report(process), durable(process)) == (True, True), "its files are open"
    process.kill()
    process.launch(*drop, sys.executable, "-m", "rlmd")
    assert process.exits() == 1
    assert f"{directory} cannot be written. Open it with: chmod 700" in process.log.read_text()
    directory.chmod(0o700)
    process.begin()
    assert count(process) == 2


@pytest.fixture
def read_only(process: Process) -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """Make the state directory read-only for all that is opened from then on."""
    directory = str(process.place.paths.state_dir)

    @contextmanager
    def made() -> Iterator[None]:
        subprocess.run(["mount", "--bind", directory, directory], check=True)
        try:
            subprocess.run(["mount", "-o", "remount,ro,bind", directory], check=True)
            yield
        finally:
            subprocess.run(["umount", "-l", directory], check=True)

    process.place.paths.state_dir.mkdir(mode=0o700)
    process.environ["RLMD_SOCKET"] = process.place.environ["RLMD_SOCKET"] = str(process.place.root / "s.sock")
    try:
        with made():
            pass
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("only root can mount, on Linux, where it may")
    yield made
    process.close()


def test_a_daemon_that_starts_on_a_read_only_disk(
    process: Process, read_only: Callable[[], AbstractContextManager[None]]
) -> None:
    process.begin()
    assert all(report(process) for _ in range(3))
    process.kill()
    with read_only():
        process.begin()
        assert (count(process), durable(process), report(process)) == (3, False, False)
        assert process.ask("acquire", **ANTHROPIC)["type"] == "use"
        assert "Read-only file system" in process.log.read_text()
    await_healing(process)
    assert report(process)
    kept = count(process)
    assert kept >= 5
    process.kill()
    process.begin()
    assert count(process) == kept


def test_a_disk_that_becomes_read_only_while_it_runs(
    process: Process, read_only: Callable[[], AbstractContextManager[None]]
) -> None:
    process.launch(sys.executable, "-c", f"{SMALL}main([])")
    process.await_state("READY=1")
    with read_only():
        assert (report(process), durable(process)) == (True, True), "its files are open"
        answers = load(process, lambda: not durable(process))
        assert "error" in answers, "the log could not be cut"
        assert process.ask("acquire", **ANTHROPIC)["type"] == "use"
    await_healing(process)
    kept = count(process)
    assert kept == len(answers) + 1
    process.kill()
    process.begin()
    assert count(process) == kept


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Have another process write to the database, and not come to an end."""
    code = (
        "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); db.execute('BEGIN EXCLUSIVE'); print(1, flush=True);"
    )
    command = [sys.executable, "-c", f"{code} sys.stdin.read()", str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline()
        yield
        other.communicate()


def test_a_database_locked_by_another_process(process: Process) -> None:
    process.begin()
    story = fails_and_heals(process)
    next(story)
    with locked(process.place.paths.database):
        next(story)
        time.sleep(2.5)  # several attempts
        assert not durable(process)
    next(story, None)


@pytest.mark.parametrize("killed", [True, False], ids=["with a journal to fold", "with nothing to do"])
def test_a_database_locked_when_it_starts(process: Process, *, killed: bool) -> None:
    process.begin()
    assert all(report(process) for _ in range(5))
    process.send(signal.SIGKILL if killed else signal.SIGTERM)
    process.exits()
    with locked(process.place.paths.database):
        process.begin()
        assert not report(process)
        assert (count(process), durable(process)) == (6, False)
        assert process.ask("acquire", **ANTHROPIC)["type"] == "use"
    await_healing(process)
    process.kill()
    process.begin()
    assert count(process) == 7, "with the lease whose connection is closed"


@pytest.mark.parametrize("all_of_it", [True, False], ids=["and its log", "alone"])
def test_a_state_that_is_deleted_while_the_daemon_is_down_is_a_reset(process: Process, *, all_of_it: bool) -> None:
    process.begin()
    assert all(report(process) for _ in range(5))
    process.ask("disable", provider="openrouter")
    process.kill()
    directory = process.place.paths.state_dir
    for path in directory.glob("state.db*") if all_of_it else [process.place.paths.database]:
        path.unlink()
    process.begin()
    status = process.ask("status")
    assert (count(process), status["providers"][1]["state"], status["daemon"]["durable"]) == (0, "closed", True)
    assert report(process)
    process.kill()
    process.begin()
    assert count(process) == 1
    assert not list(directory.glob("*damaged*"))


FIRST = Path(__file__).parents[1] / "data" / "state" / "state-1.db"
"""A database of the first schema: of openrouter one error, and a pin."""


def test_no_room_for_a_migration(process: Process, mounted: Path) -> None:
    path = process.place.paths.database
    shutil.copyfile(FIRST, path)
    ballast = fill(mounted)
    process.environ["RLMD_SOCKET"] = process.place.environ["RLMD_SOCKET"] = str(process.place.root / "s.sock")
    (mounted / "rlmd.lock").touch()
    process.begin()
    assert not report(process)
    assert not durable(process)
    assert known(process) == (1, {MODEL: "openrouter"})
    assert path.read_bytes() == FIRST.read_bytes()
    ballast.unlink()
    await_healing(process)
    process.kill()
    process.begin()
    assert known(process) == (1, {MODEL: "openrouter"})
    with closing(sqlite3.connect(path)) as new:
        assert new.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)


def known(process: Process) -> tuple[int, dict[str, str]]:
    status = process.ask("status")
    return status["providers"][1]["error_count"], status["pins"]


def test_no_room_in_the_middle_of_a_migration(mounted: Path) -> None:
    path = mounted / "state.db"
    shutil.copyfile(FIRST, path)
    store = Store(path)
    facts = store.facts()
    store.close()
    stopped_at = set()
    for pages in range(40):
        for file in mounted.iterdir():
            file.unlink()
        shutil.copyfile(FIRST, path)
        ballast = fill(mounted)
        os.truncate(ballast, ballast.stat().st_size - pages * 4096)
        store = Store(path)
        assert store.facts() == facts, "what is in memory is all there was"
        away = store.away
        store._db.close()  # as a kill leaves it
        with closing(recovery.copy(path)) as left:
            stopped_at.add((migrations.version_of(left), away))
        ballast.unlink()
        store = Store(path)
        assert (store.away, store.facts()) == (False, facts)
        store.close()
    assert {(1, True), (len(MIGRATIONS), False)} <= stopped_at
    assert any(1 < version < len(MIGRATIONS) for version, _ in stopped_at), "in the very middle, too"


def flip(path: Path, begin: int = 0) -> bytes:
    """Damage a file as a bad disk does, and return what it is now."""
    damaged = bytes(byte ^ 0xFF if place >= begin else byte for place, byte in enumerate(path.read_bytes()))
    path.write_bytes(damaged)
    return damaged


@pytest.mark.parametrize("begin", [0, 100], ids=["all of it", "all but its head"])
def test_a_damaged_database_is_set_aside_and_kept(process: Process, begin: int) -> None:
    process.begin()
    assert report(process)
    process.ask("shutdown")
    process.exits()
    damaged = flip(process.place.paths.database, begin)
    process.begin()
    (aside,) = process.place.paths.state_dir.glob("state.db.damaged-*")
    assert aside.read_bytes() == damaged
    assert f"it is kept as {aside.name}, and a fresh one is begun" in process.log.read_text()
    assert any(aside.name in event["message"] for event in process.ask("log")["events"])
    assert (count(process), durable(process), report(process)) == (0, True, True)


async def test_a_database_that_is_damaged_while_it_runs_is_written_afresh(
    house: House, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        await peer.ask("report", **ANTHROPIC, outcome="ok")
    damage = sqlite3.DatabaseError("database disk image is malformed")
    damage.sqlite_errorcode = sqlite3.SQLITE_CORRUPT

    def damaged(*_: object) -> None:
        monkeypatch.undo()
        raise damage

    monkeypatch.setattr(Store, "commit", damaged)
    assert (await peer.ask("report", **ANTHROPIC, outcome="ok"))["code"] == "not_durable"
    house.stepped += 2
    assert (await peer.ask("report", **ANTHROPIC, outcome="ok"))["type"] == "recorded"
    assert list(house.place.paths.state_dir.glob("state.db.damaged-*"))
    await house.restart()
    assert (await (await house.peer()).provider())["request_count"] == 5


async def test_a_damaged_database_that_cannot_be_set_aside_yet(
    house: House, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await peer.ask("report", **ANTHROPIC, outcome="ok")
    house.daemon.outbox.fold()
    house.daemon._store._db.execute("DROP TABLE journal")

    def stuck(_: Path) -> Path:
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(recovery, "set_aside", stuck)
        for _ in range(3):
            assert (await peer.ask("report", **ANTHROPIC, outcome="ok"))["code"] == "not_durable"
            assert (await peer.use(dry_run=True))["provider"] == "anthropic"
            house.stepped += 2
    house.stepped += 2
    assert (await peer.ask("report", **ANTHROPIC, outcome="ok"))["code"] == "not_durable", "it is set aside"
    house.stepped += 2
    assert (await peer.ask("report", **ANTHROPIC, outcome="ok"))["type"] == "recorded"
    assert list(house.place.paths.state_dir.glob("state.db.damaged-*"))
    await house.restart()
    assert (await (await house.peer()).provider())["request_count"] == 6


def test_a_log_that_was_cut_off_costs_its_end_only(process: Process) -> None:
    process.begin()
    for _ in range(50):
        assert report(process)
    process.kill()
    wal = process.place.paths.database.with_name("state.db-wal")
    os.truncate(wal, wal.stat().st_size - 10_000)
    process.begin()
    assert 0 < count(process) < 50
    assert report(process)


async def test_a_clock_that_steps_loses_nothing(house: House, peer: Peer) -> None:
    for step in (-7200, 86400, -86400):
        house.stepped += step
        assert (await peer.ask("report", **ANTHROPIC, outcome="ok"))["type"] == "recorded"
    await house.restart()
    assert (await (await house.peer()).ask("status"))["daemon"]["durable"]


def test_the_log_stays_short_whatever_the_load(process: Process) -> None:
    process.begin()
    wal = process.place.paths.database.with_name("state.db-wal")
    line = b'{"op":"report","provider":"anthropic","model":"sonnet","outcome":"ok"}\n'
    longest = 0
    with process.client() as client:
        for _ in range(6000):
            client._socket.sendall(line)
            client._receive(time.monotonic() + SOON)
            longest = max(longest, wal.stat().st_size)
    assert stores.CHECKPOINT_AT <= longest < 64 * 2**20
    assert wal.stat().st_size < longest, "it has begun anew"


SMALL = """
from rlmd.__main__ import main
from rlmd.server import outbox
from rlmd.store import checkpoint, database

outbox.CHECKPOINT_AT = 8 << 17
checkpoint.HOLD_AT = 20 << 17
database.LOG_MOST = 32 << 17
"""
"""A daemon with an eighth of the real bounds, that a test need not take a minute; then `main([])`."""


def load(process: Process, stop: Callable[[], bool]) -> list[str]:
    """Have several clients report as fast as they can until it is enough; what each of them was answered."""
    line = b'{"op":"report","provider":"anthropic","model":"sonnet","outcome":"ok"}\n' * 20

    def work(_: int) -> list[str]:
        answers: list[str] = []
        with process.client() as client:
            while not stop():
                client._socket.sendall(line)
                answers += (client._receive(time.monotonic() + SOON)["type"] for _ in range(20))
        return answers

    with ThreadPoolExecutor(4) as clients:
        return [answer for answers in clients.map(work, range(4)) for answer in answers]


def test_the_log_has_a_bound_also_where_somebody_reads_for_long(place: Place, process: Process) -> None:
    process.launch(sys.executable, "-c", f"{SMALL}main([])")
    process.await_state("READY=1")
    report(process)
    wal = place.paths.database.with_name("state.db-wal")
    longest = 0

    def blocked() -> bool:
        nonlocal longest
        longest = max(longest, wal.stat().st_size)
        return not durable(process)

    with closing(sqlite3.connect(place.paths.database)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM fact").fetchone()
        answers = load(process, blocked)
        assert process.ask("acquire", **ANTHROPIC)["type"] == "use"
        assert not report(process)
        assert any("keeps a long read open" in event["message"] for event in process.ask("log")["events"])
    await_healing(process)
    assert wal.stat().st_size < 32 << 17 <= longest < 64 << 17
    assert "error" in answers
    process.kill()
    process.begin()
    assert count(process) == len(answers) + 2, "what was counted in memory is there, too"


def test_where_the_disk_takes_the_log_too_slowly_reports_wait_for_it(process: Process) -> None:
    slow = """
import time

checkpointed, made = checkpoint._checkpoint, checkpoint.Checkpoints.__init__

def making(self, store, on_readers_block):
    made(self, store, on_readers_block)
    checkpoint.kept = store

def slowly(path, mode):
    while not checkpoint.kept.paused:
        time.sleep(0.001)
    print(mode, "begins at", path.with_name("state.db-wal").stat().st_size, flush=True)
    return checkpointed(path, mode)

checkpoint._checkpoint, checkpoint.Checkpoints.__init__ = slowly, making
main([])
"""
    process.launch(sys.executable, "-c", f"{SMALL}{slow}")
    process.await_state("READY=1")
    wal = process.place.paths.database.with_name("state.db-wal")

    def found() -> list[int]:
        return [int(size) for size in re.findall(r"PASSIVE begins at (\d+)", process.log.read_text())]

    answers = load(process, lambda: len(found()) >= 2 or wal.stat().st_size >= 32 << 17)
    assert set(answers) == {"recorded"}
    assert len(found()) >= 2
    assert all(20 << 17 <= size < 32 << 17 for size in found())


def test_an_import_without_room_changes_nothing(process: Process, mounted: Path) -> None:
    path = process.place.paths.database
    process.begin()
    assert all(report(process) for _ in range(60))
    text = "".join(export(path))
    build(json.loads(text), recovery.import_path(path))
    ballast = fill(mounted)
    with process.client() as client, pytest.raises(DaemonRefusedError, match="Nothing was imported: "):
        client.request("import")
    assert not list(mounted.glob("*.replaced-*"))
    ballast.unlink()
    await_healing(process)
    assert count(process) == 60
    with process.client() as client:
        assert client.request("import")["type"] == "done"
    assert "".join(export(path)) == text


def test_a_kill_during_an_import_leaves_the_one_state_or_the_other(process: Process) -> None:
    path = process.place.paths.database
    process.begin()
    assert all(report(process) for _ in range(60))
    one = "".join(export(path))
    assert all(report(process) for _ in range(60))
    other = "".join(export(path))
    seen = set()
    for number in range(16):
        text = one if number % 2 else other
        recovery.import_path(path).unlink(missing_ok=True)
        build(json.loads(text), recovery.import_path(path))
        with process.client() as client:
            client._socket.sendall(b'{"op":"import"}\n')
            time.sleep(0.3 * (number / 15) ** 4)
            process.kill()
        found = "".join(export(path))
        assert found in {one, other}
        seen.add(found == text)
        process.begin()
        assert count(process) == (60 if found == one else 120)
    assert seen == {True, False}, "it was killed before and after"
