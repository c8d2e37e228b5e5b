"""Three weeks of work on a clock of their own, with small bounds so that each is reached: nothing grows any more.

`python tests/daemon/soak.py days --minutes 60` goes on for as long as one likes, with the real ones.
"""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING

import soak
from soak import DAY, Days

from rlmd.core import session, target
from rlmd.notify import notifier
from rlmd.store import database

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_nothing_grows_with_the_days(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "REMEMBERED", 200)
    monkeypatch.setattr(target, "REQUESTS_REMEMBERED", 200)
    monkeypatch.setattr(notifier, "TOLD", 50)
    monkeypatch.setattr(database, "RECEIPTS_KEPT", DAY)
    monkeypatch.setattr(soak, "KEEP", DAY)
    days = Days(tmp_path)
    largest: list[dict[str, int]] = []
    blocks: list[int] = []
    rows: list[int] = []
    for _ in range(3):
        seen: dict[str, int] = {}
        for _ in range(6):
            days.day(600)
            seen = {path: max(size, seen.get(path, 0)) for path, size in (seen | days.sizes()).items()}
        largest.append(seen)
        gc.collect()
        blocks.append(sys.getallocatedblocks())
        rows.append(sum(days.rows().values()))
    days.close()
    _, before, after = largest
    grown = {path: (before.get(path, 0), size) for path, size in after.items() if size > 1.2 * before.get(path, 0) + 20}
    assert not grown
    assert blocks[2] < 1.05 * blocks[1]
    assert rows[2] < 1.2 * rows[1]
    assert after["ledger.sessions._known"] == 200
    assert after["notifier._told"] <= 50
    assert after["ledger.state._agenda"] < 300
