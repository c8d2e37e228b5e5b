"""The log: what is written, where to, and that it is nobody's but ours."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from rlmd.logs import JournalLines, is_journal

if TYPE_CHECKING:
    from house import Process

SECRET = "hush-4711"


@pytest.mark.parametrize(
    ("level", "priority"), [(logging.ERROR, "3"), (logging.WARNING, "4"), (logging.INFO, "6"), (logging.DEBUG, "7")]
)
def test_each_line_for_the_journal_has_its_level_in_front(level: int, priority: str) -> None:
    record = logging.makeLogRecord({"levelno": level, "msg": "first\nsecond"})
    assert JournalLines().format(record) == f"<{priority}>first\n<{priority}>second"


def test_a_daemon_whose_stderr_is_the_journal_writes_lines_with_their_level(process: Process) -> None:
    """The log is a file here; systemd would name the stream of the journal in the same way."""
    process.log.touch()
    found = process.log.stat()
    process.environ["JOURNAL_STREAM"] = f"{found.st_dev}:{found.st_ino}"
    process.begin()
    assert all(re.fullmatch(r"<6>\S.*", line) for line in process.log.read_text().splitlines())


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
