"""`rlmctl export` and `rlmctl import`, with a daemon that runs and without one; and the state of the other plugin."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import time
import tomllib
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from ctl.person import CONFIG, MODEL
from rlmd.client.connection import DaemonRefusedError

if TYPE_CHECKING:
    from pathlib import Path

    from ctl.person import Daemon, Place


def work(daemon: Daemon) -> None:
    """Have something in every part of the state."""
    with daemon.connect() as client:
        for number in range(5):
            use = client.request("acquire", provider="anthropic", model=MODEL, session="s")
            given = {name: use[name] for name in ("provider", "model", "lease")}
            client.request("report", **given, outcome="ok", usage={"input": number, "cost": 0.1})
        client.request("report", provider="anthropic", model=MODEL, outcome="error", status=429, body="slow down")
        client.request("acquire", provider="anthropic", model=MODEL, session="s")
        client.request("pin", provider="openrouter")
        client.request("disable", provider="openrouter")


def saved(place: Place, file: str = "state.json") -> tuple[Path, str]:
    run = place.ctl("export")
    assert (run.returncode, run.stderr) == (0, "")
    (place.root / file).write_text(run.stdout)
    return place.root / file, run.stdout


def told(daemon: Daemon) -> dict[str, Any]:
    status = daemon.status()
    return {name: status[name] for name in ("providers", "current_provider", "pins", "text")}


def test_there_and_back_with_a_daemon_that_runs(daemon: Daemon) -> None:
    work(daemon)
    before = told(daemon)
    file, text = saved(daemon)
    assert all(json.loads(text)["tables"][name] for name in ("fact", "receipt", "event", "usage"))
    assert daemon.ctl("reset").returncode == 0
    daemon.ctl("use", "auto")
    assert told(daemon) != before
    run = daemon.ctl("import", str(file))
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith(f"the state is replaced; the one before is kept in {daemon.paths.database}.replaced-")
    assert saved(daemon)[1] == text
    assert {**told(daemon), "providers": 0} == {**before, "providers": 0}
    daemon.end()
    daemon.begin()
    assert saved(daemon)[1] == text
    for one, other in zip(told(daemon)["providers"], before["providers"], strict=True):
        assert one | {"in_flight": 0} == other | {"in_flight": 0}


def test_there_and_back_without_a_daemon(daemon: Daemon) -> None:
    work(daemon)
    daemon.end()
    file, text = saved(daemon)
    for path in daemon.paths.state_dir.glob("state.db*"):
        path.unlink()
    assert daemon.ctl_json("import", str(file))["message"].startswith("the state is replaced")
    assert saved(daemon)[1] == text
    assert stat.S_IMODE(daemon.paths.database.stat().st_mode) == 0o600
    daemon.begin()
    assert saved(daemon)[1] == text
    assert daemon.status()["pins"] == {"*": "openrouter"}


def test_into_a_place_where_nothing_ever_ran(daemon: Daemon, tmp_path: Path) -> None:
    work(daemon)
    file, text = saved(daemon)
    elsewhere = {"RLMD_STATE_DIR": str(tmp_path / "new")}
    assert daemon.ctl("import", str(file), **elsewhere).returncode == 0
    assert daemon.ctl("export", **elsewhere).stdout == text
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700


def test_an_export_says_that_it_is_not_all_there_is(daemon: Daemon) -> None:
    work(daemon)
    _, before = saved(daemon)
    with closing(sqlite3.connect(daemon.paths.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with daemon.connect() as client, pytest.raises(DaemonRefusedError):
            client.request("report", provider="anthropic", model=MODEL, outcome="ok")
        run = daemon.ctl("export")
        assert (run.returncode, run.stdout) == (0, before)
        assert run.stderr == "rlmctl: the disk fails: what the daemon has in memory only is not in this export\n"


def test_an_export_without_a_state(place: Place) -> None:
    run = place.ctl("export")
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr == f"rlmctl: There is no state at {place.paths.database} yet.\n  mend: rlmctl start\n"


@pytest.mark.parametrize(
    ("text", "code", "why"),
    [
        ("", 2, "is no JSON"),
        ("[1]", 1, "is no export"),
        ('{"schema": 99, "rlmd": "7.0", "tables": {}}', 1, "it was exported by rlmd 7.0 (schema 99"),
        ('{"schema": 3, "tables": {"told": [{"fact": "x", "until": "soon"}]}}', 1, "told[0].until is 'soon'"),
    ],
)
def test_what_cannot_be_imported_changes_nothing(daemon: Daemon, text: str, code: int, why: str) -> None:
    work(daemon)
    _, before = saved(daemon)
    bad = daemon.root / "bad.json"
    bad.write_text(text)
    run = daemon.ctl("import", str(bad))
    assert (run.returncode, run.stdout) == (code, "")
    assert why in run.stderr
    assert saved(daemon)[1] == before
    assert {path.name for path in daemon.paths.state_dir.glob("state.db*")} == {
        "state.db",
        "state.db-wal",
        "state.db-shm",
    }


def test_a_row_that_makes_no_sense_is_named_and_left_out(daemon: Daemon) -> None:
    work(daemon)
    _, before = saved(daemon)
    document = json.loads(before)
    document["tables"]["fact"].append({"kind": "window", "key": "x", "row": {}})
    odd = daemon.root / "odd.json"
    odd.write_text(json.dumps(document))
    run = daemon.ctl("import", str(odd))
    assert run.returncode == 0
    why = "Object missing required field `window`"
    assert run.stderr == f"rlmctl: one row makes no sense and is left out, fact window x: {why}\n"
    assert saved(daemon)[1] == before


def test_a_file_that_is_not_there(place: Place) -> None:
    run = place.ctl("import", "nowhere.json")
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr == "rlmctl: nowhere.json cannot be read: No such file or directory.\n"


# The plugin that this project replaces


def plugin(daemon: Place, **changes: Any) -> Path:
    later = datetime.now(UTC) + timedelta(minutes=30)
    state: dict[str, Any] = {
        "providers": {
            "anthropic": {
                "requestCount": 23,
                "hourlyLimit": 50,
                "dailyLimit": 500,
                "cooldownUntil": None,
                "isAvailable": True,
                "errorCount": 2,
            },
            "openrouter": {
                "requestCount": 7,
                "hourlyLimit": 100,
                "dailyLimit": 0,
                "cooldownUntil": int(later.timestamp() * 1000),
                "isAvailable": False,
                "errorCount": 0,
            },
            "groq": {"requestCount": 1, "hourlyLimit": 30, "dailyLimit": 2000, "cooldownUntil": None},
        },
        "currentProvider": "anthropic",
        "modelMapping": {MODEL: ["anthropic", "openrouter", "groq"]},
        **changes,
    }
    file = daemon.root / "rate-limit-state.json"
    file.write_text(json.dumps(state))
    return file


def test_counts_and_cooldowns_are_taken_and_the_rest_is_told(daemon: Daemon) -> None:
    file = plugin(daemon)
    run = daemon.ctl("import", str(file))
    assert (run.returncode, run.stderr) == (0, "")
    status = daemon.status()
    anthropic, openrouter = status["providers"]
    assert (anthropic["request_count"], anthropic["error_count"], anthropic["state"]) == (23, 2, "closed")
    assert [limit["used"] for limit in anthropic["limits"]] == [23, 23], "of the hour, and thereby of the day"
    assert (openrouter["request_count"], openrouter["state"], openrouter["reason"]) == (7, "open", "imported")
    assert status["current_provider"] == "anthropic"
    taken, rest = run.stdout.split("not taken:")
    left, toml = rest.split("# Its limits are not taken")
    assert "anthropic: 23 requests in the hour that runs, 2 errors" in taken
    assert "openrouter rests until " in taken
    assert "groq is not in the configuration" in left
    assert "modelMapping: the configuration has its own" in left
    assert toml.endswith(
        f'write into {daemon.paths.config}:\n\n# below id = "anthropic", in the place of those there:\n'
        f'daily_limit = 500\n\n[[provider]]\nid = "groq"\nmodels = ["{MODEL}"]\nhourly_limit = 30\ndaily_limit = 2000\n'
    )


def test_its_limits_can_be_pasted(daemon: Daemon) -> None:
    toml = daemon.ctl_json("import", str(plugin(daemon)))["toml"]
    _, changed, new = toml.split("\n\n") if toml.startswith("\n\n") else ("", *toml.lstrip("\n").split("\n\n"))
    assert tomllib.loads(changed) == {"daily_limit": 500}
    daemon.write_config(CONFIG + "\n" + new)
    assert daemon.ctl("config", "check").returncode == 0
    assert daemon.ctl("reload").returncode == 0
    groq = daemon.status()["providers"][-1]
    assert [limit["max"] for limit in groq["limits"]] == [30, 2000]


def test_what_rlmctl_state_prints_comes_back_as_it_was(daemon: Daemon) -> None:
    with daemon.connect() as client:
        for _ in range(3):
            client.request("report", provider="anthropic", model=MODEL, outcome="ok")
        client.request("report", provider="anthropic", model=MODEL, outcome="error", status=400)
        client.request("cooldown", provider="openrouter", for_ms=3_600_000)
    before = daemon.ctl("state", "--json").stdout
    (daemon.root / "rate-limit-state.json").write_text(before)
    daemon.end()
    for path in daemon.paths.state_dir.glob("state.db*"):
        path.unlink()
    daemon.begin()
    for _ in range(2):  # twice is once
        run = daemon.ctl("import", str(daemon.root / "rate-limit-state.json"))
        assert run.returncode == 0
        assert "[[provider]]" not in run.stdout
        assert daemon.ctl("state", "--json").stdout == before


@pytest.mark.parametrize(
    ("state", "left"),
    [
        ({"cooldownUntil": 1_700_000_000_000}, "anthropic: its cooldown is over since"),
        ({"cooldownUntil": "2020-01-01T00:00:00.000Z"}, "anthropic: its cooldown is over since"),
        ({"cooldownUntil": "soon"}, "anthropic: cooldownUntil 'soon' is no time"),
        ({"cooldownUntil": 4e15}, "anthropic: cooldownUntil 4000000000000000.0 is no time"),
        ({"cooldownUntil": 10**14}, "anthropic: a cooldown of more than a year"),
        ({"isAvailable": False}, "anthropic: it is not available, but no cooldown says until when"),
        (7, "anthropic: 7 is no provider's state"),
    ],
)
def test_what_makes_no_sense_is_told(daemon: Daemon, state: Any, left: str) -> None:
    file = plugin(daemon, providers={"anthropic": state}, modelMapping={})
    reply = daemon.ctl_json("import", str(file))
    assert [sentence for sentence in reply["left"] if sentence.startswith(left)], reply
    assert daemon.status()["providers"][0]["state"] == "closed"


def test_a_cooldown_as_a_date_is_taken(daemon: Daemon) -> None:
    until = datetime.now(UTC) + timedelta(hours=1)
    daemon.ctl_json("import", str(plugin(daemon, providers={"anthropic": {"cooldownUntil": until.isoformat()}})))
    assert daemon.status()["providers"][0]["state"] == "open"


def test_counts_of_an_hour_that_is_over_are_not_taken(daemon: Daemon) -> None:
    file = plugin(daemon)
    old = time.time() - 5 * 3600
    os.utime(file, (old, old))
    left = daemon.ctl_json("import", str(file))["left"]
    assert "anthropic: its counts are of an hour that is over: the file is 5 h old" in left
    anthropic, openrouter = daemon.status()["providers"]
    assert anthropic["request_count"] == 0
    assert openrouter["state"] == "open", "a cooldown says itself when it ends"


def test_it_needs_the_daemon(place: Place) -> None:
    assert place.ctl("import", str(plugin(place))).returncode == 3
