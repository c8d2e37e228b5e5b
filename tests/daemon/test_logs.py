"""The log: what is written, where to, and that it is nobody's but ours."""

from __future__ import annotations

import logging
import os
import re
import socket
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from house import MODEL

from rlmd.logs import FACTS, Journal, is_journal
from rlmd.wire.messages import Event

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from house import Place, Process

SECRET = "hush-4711"


class Journald:
    """A socket that takes entries as systemd's does."""

    def __init__(self, address: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(address))
        self._socket.settimeout(5)

    def entry(self) -> dict[str, str]:
        """Take one entry apart: each field a name, a newline, the length in eight bytes, the text, a newline."""
        rest, fields = self._socket.recv(65536), {}
        while rest:
            name, _, rest = rest.partition(b"\n")
            length = int.from_bytes(rest[:8], "little")
            text, rest = rest[8 : 8 + length], rest[8 + length :]
            assert rest[:1] == b"\n"
            fields[name.decode()], rest = text.decode(), rest[1:]
        return fields

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def journald(place: Place) -> Iterator[Journald]:
    with closing(Journald(place.root / "journal")) as journald:
        yield journald


@pytest.fixture
def journal(place: Place, journald: Journald) -> Iterator[Journal]:
    del journald  # it listens
    with closing(Journal(str(place.root / "journal"))) as journal:
        yield journal


def record(level: int, message: str, **extra: object) -> logging.LogRecord:
    return logging.makeLogRecord({"name": "rlmd.server.outbox", "levelno": level, "msg": message, **extra})


@pytest.mark.parametrize(
    ("level", "priority"), [(logging.ERROR, "3"), (logging.WARNING, "4"), (logging.INFO, "6"), (logging.DEBUG, "7")]
)
def test_an_entry_of_the_journal_has_its_level(journal: Journal, journald: Journald, level: int, priority: str) -> None:
    journal.emit(record(level, "first\nsecond"))
    assert journald.entry() == {
        "MESSAGE": "first\nsecond",
        "PRIORITY": priority,
        "SYSLOG_IDENTIFIER": "rlmd",
        "LOGGER": "rlmd.server.outbox",
    }


def test_an_event_has_its_facts_as_fields(journal: Journal, journald: Journald) -> None:
    event = Event("switched", "2026-01-12T12:00:00.000Z", "on", provider="anthropic", model=MODEL, to="openrouter")
    journal.emit(record(logging.INFO, "switched: on", event=event))
    told = {name: text for name, text in journald.entry().items() if name.startswith("RLMD_")}
    assert told == {
        "RLMD_EVENT": "switched",
        "RLMD_PROVIDER": "anthropic",
        "RLMD_MODEL": MODEL,
        "RLMD_TO": "openrouter",
    }
    assert set(FACTS) <= set(Event.__struct_fields__)


def test_where_the_journal_takes_nothing_the_lines_have_their_level_in_front(
    place: Place, capfd: pytest.CaptureFixture[str]
) -> None:
    with closing(Journal(str(place.root / "nobody"))) as journal:
        journal.emit(record(logging.ERROR, "first\nsecond"))
    assert capfd.readouterr().err == "<3>first\n<3>second\n"


def test_only_the_stream_that_systemd_named_is_the_journal() -> None:
    ours, theirs = os.pipe()
    found = os.fstat(theirs)
    named = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
    assert is_journal(theirs, named)
    assert not is_journal(theirs, {})
    assert not is_journal(2, named)
    os.close(ours)
    os.close(theirs)
    assert not is_journal(theirs, named)


def test_without_anywhere_to_write_it_serves_all_the_same(process: Process) -> None:
    process.launch("/bin/sh", "-c", 'exec "$0" -m rlmd 2>&-', sys.executable)
    process.await_state("READY=1")
    assert process.ask("disable", provider="anthropic")["type"] == "done"


def test_without_a_journal_a_line_has_time_and_level(process: Process) -> None:
    process.begin()
    process.ask("cooldown", provider="anthropic", for_ms=60_000, reason="two\nlines")
    process.ask("ping")  # an event is told after the reply that it belongs to
    lines = process.log.read_text().splitlines()
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO \S.*", line) for line in lines), lines
    assert len([line for line in lines if " INFO state: " in line]) == 1, lines


@pytest.mark.parametrize(("level", "written"), [("warning", 0), ("info", 1), ("debug", 1)])
def test_the_level_is_chosen_on_the_command_line(process: Process, level: str, written: int) -> None:
    process.launch(sys.executable, "-m", "rlmd", "--log-level", level)
    process.await_state("READY=1")
    process.ask("disable", provider="anthropic")
    process.ask("ping")
    assert process.log.read_text().count(" INFO state: ") == written


def test_an_unknown_level_is_wrong_usage() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "rlmd", "--log-level", "loud"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 2
    assert "'debug', 'info', 'warning', 'error'" in run.stderr


def test_what_libraries_say_is_not_in_it() -> None:
    code = (
        "import logging, warnings; from rlmd.logs import set_up; set_up('debug')\n"
        f"for say in (logging.getLogger('urllib3').error, logging.warning, warnings.warn): say('{SECRET}')\n"
        "logging.getLogger('rlmd.notify.notifier').debug('ours')"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert SECRET not in run.stdout + run.stderr
    assert run.stderr.endswith(" DEBUG ours\n")
