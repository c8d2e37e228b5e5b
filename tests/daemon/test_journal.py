"""The log as the journal takes it: the level in front of each line, the time left to the journal."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from rlmd.__main__ import JournalFormatter, is_journal

if TYPE_CHECKING:
    from house import Place


@pytest.mark.parametrize(("level", "mark"), [(logging.ERROR, "<3>"), (logging.WARNING, "<4>"), (logging.INFO, "<6>")])
def test_a_line_has_its_level_in_front(level: int, mark: str) -> None:
    record = logging.LogRecord("rlmd", level, "", 0, "first\nsecond", (), None)
    assert JournalFormatter().format(record) == f"{mark}first\n{mark}second"


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


def test_a_daemon_writes_for_the_journal_where_it_is_one(place: Place) -> None:
    place.paths.state_dir.write_text("no directory")
    log = place.root / "log"
    with log.open("wb") as file:
        found = os.fstat(file.fileno())
        environ = place.environ | {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
        subprocess.run([sys.executable, "-m", "rlmd"], env=environ, stderr=file, check=False)
    assert log.read_text().startswith(f"<3>{place.paths.state_dir} is no directory.")
