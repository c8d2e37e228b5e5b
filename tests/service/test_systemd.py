"""The daemon under a real systemd: what a person who installs it can rely on."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import threading
import time
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

import pytest
from usermanager import CONFIG, MODEL, REASON, Person, eventually
from webhook import Webhook

from rlmd.client.connection import DaemonUnreachableError

if TYPE_CHECKING:
    from pathlib import Path


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if "env/" not in str(path)}


def of_schema(database: Path, version: int) -> int:
    """Have a database say that it is of another version; return what it said before."""
    with closing(sqlite3.connect(database)) as db:
        before: int = db.execute("PRAGMA user_version").fetchone()[0]
        db.execute(f"PRAGMA user_version = {version}")
    return before


def test_install_starts_it_and_says_so(person: Person) -> None:
    run = person.ctl("install", "systemd")
    assert run.code == 0, run
    assert f"{person.units}/rlmd.socket was written." in run.out
    assert f"The daemon answers at {person.paths.socket} (process {person.pid()}), and systemd keeps it." in run.out
    assert person.show("rlmd.service", "ActiveState") == "active"
    assert person.show("rlmd.service", "UnitFileState") == "enabled"
    assert person.show("rlmd.socket", "UnitFileState") == "enabled"


def test_installing_again_changes_nothing(served: Person) -> None:
    pid = served.pid()
    run = served.ctl("install", "systemd")
    assert (run.code, run.out.count("is up to date")) == (0, 2), run
    assert served.pid() == pid


def test_dry_run_does_nothing(person: Person) -> None:
    before = files(person.home)
    run = person.ctl("install", "systemd", "--dry-run")
    assert (run.code, run.out.count("would be written")) == (0, 2), run
    assert files(person.home) == before


def test_the_socket_is_the_persons_alone(served: Person) -> None:
    path = served.paths.socket
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_the_first_connection_starts_it(served: Person) -> None:
    served.systemctl("stop", "rlmd.service")
    assert served.pid() == 0
    assert served.ask("ping") == {"type": "pong"}
    assert served.pid() != 0


def test_a_daemon_started_by_hand_is_taken_over(person: Person) -> None:
    assert person.ctl("start").code == 0
    person.ask("report", provider="anthropic", model=MODEL, outcome="ok")
    by_hand = person.ask("status")["daemon"]["pid"]
    assert person.ctl("install", "systemd").code == 0
    status = person.ask("status")
    assert status["daemon"]["pid"] == person.pid() != by_hand
    assert status["providers"][0]["request_count"] == 1


def test_kill_9_breaks_one_request_at_most_and_never_the_socket(served: Person) -> None:
    refused: list[str] = []
    broken: list[str] = []
    answered: list[int] = []
    done = threading.Event()

    def ask_without_end() -> None:
        while not done.is_set():
            try:
                client = served.client()
            except DaemonUnreachableError as error:
                refused.append(str(error))
                continue
            try:
                with client:
                    while not done.is_set():
                        answered.append(client.request("status")["daemon"]["pid"])
            except DaemonUnreachableError as error:
                broken.append(str(error))

    def is_not_last(pid: int) -> bool:
        return answered[-1] != pid

    asking = threading.Thread(target=ask_without_end)
    asking.start()
    for killed in range(1, 4):
        eventually(lambda: served.pid() in answered)
        pid = served.kill()
        eventually(partial(is_not_last, pid))
        assert (len(broken), refused) == (killed, [])
    done.set()
    asking.join()
    assert len(set(answered)) == 4


def test_a_wedged_loop_is_noticed_and_ended(served: Person) -> None:
    served.write(served.units / "rlmd.service.d" / "soon.conf", "[Service]\nWatchdogSec=1\n")
    served.systemctl("daemon-reload")
    assert served.ctl("restart").code == 0
    pid = served.pid()
    time.sleep(2.5)
    assert served.pid() == pid, "it gave no sign of life"
    served.fine("kill", "-STOP", str(pid))
    assert served.ask("status")["daemon"]["pid"] != pid
    assert served.show("rlmd.service", "NRestarts") == "1"


def test_stop_answers_what_has_arrived(served: Person) -> None:
    began = time.monotonic()
    with served.client() as client:
        stopping = threading.Timer(0.1, lambda: served.ctl("stop"))
        stopping.start()
        counted = 0
        try:
            while True:
                client.request("report", provider="anthropic", model=MODEL, outcome="ok")
                counted += 1
        except DaemonUnreachableError:
            pass
    stopping.join()
    assert time.monotonic() - began < 5
    assert served.show("rlmd.service", "Result") == "success"
    assert not served.paths.socket.exists()
    assert served.ctl("start").code == 0
    # The one that broke may have been counted before its answer was lost.
    assert served.ask("status")["providers"][0]["request_count"] in {counted, counted + 1}


def test_start_stop_and_restart_go_through_systemd(served: Person) -> None:
    first = served.pid()
    assert served.ctl("stop").out == f"The daemon is stopped (process {first}).\n"
    assert served.show("rlmd.socket", "ActiveState") == "inactive"
    assert served.ctl("status").code == 3
    assert served.ctl("stop").out == "The daemon is not running.\n"
    assert served.ctl("start").out == f"The daemon is started (process {served.pid()}).\n"
    second = served.pid()
    assert served.ctl("start").out == f"The daemon is running already (process {second}).\n"
    assert served.ctl("restart").out == f"The daemon is restarted (process {served.pid()}).\n"
    assert served.pid() not in {first, second}


def test_reload_through_systemd(served: Person) -> None:
    served.write(served.paths.config, CONFIG.replace("50", "70"))
    served.systemctl("reload", "rlmd.service")
    assert served.ask("status")["providers"][0]["limits"][0]["max"] == 70


def test_no_connection_is_refused_during_a_restart_and_no_report_is_lost(served: Person) -> None:
    refused: list[str] = []
    counted = 0
    broken = 0
    done = threading.Event()

    def restart_twice() -> None:
        for _ in range(2):
            served.ctl("restart")
        done.set()

    restarting = threading.Thread(target=restart_twice)
    restarting.start()
    lease = 0
    while not done.is_set():
        lease += 1
        while True:  # as the shim does: the same lease until there is an answer
            try:
                client = served.client()
            except DaemonUnreachableError as error:
                refused.append(str(error))
                continue
            try:
                with client:
                    client.request("report", provider="anthropic", model=MODEL, outcome="ok", lease=f"l{lease}")
            except DaemonUnreachableError:
                broken += 1
                continue
            counted += 1
            break
    restarting.join()
    assert refused == []
    assert served.ask("status")["providers"][0]["request_count"] == counted
    assert broken <= 2


def test_after_twelve_crashes_the_socket_is_there_and_doctor_names_the_mend(served: Person) -> None:
    served.write(served.units / "rlmd.service.d" / "soon.conf", "[Service]\nRestartSec=300ms\n")
    served.systemctl("daemon-reload")
    assert served.ctl("stop").code == 0
    version = of_schema(served.paths.database, 99)
    run = served.ctl("start")
    assert run.code != 0
    assert "was written by a newer rlmd" in run.err
    eventually(lambda: int(served.show("rlmd.service", "NRestarts")) >= 12, 60)
    assert served.paths.socket.exists()
    assert served.show("rlmd.socket", "ActiveState") == "active"
    said = served.doctor()["service"]
    assert said["state"] == "wrong"
    assert "fails again and again" in said["meaning"]
    assert "or newer again, or move the file away" in said["meaning"]
    assert said["mend"] == "do that, then: rlmctl restart"
    of_schema(served.paths.database, version)
    assert served.ctl("restart").code == 0
    assert served.doctor()["service"]["state"] == "ok"


def test_a_start_limit_of_the_persons_own_is_named_and_start_forgives_it(served: Person) -> None:
    served.write(
        served.units / "rlmd.service.d" / "soon.conf",
        "[Unit]\nStartLimitIntervalSec=60\nStartLimitBurst=3\n[Service]\nRestartSec=50ms\n",
    )
    served.systemctl("daemon-reload")

    def given_up() -> bool:
        return served.show("rlmd.service", "ActiveState") == "failed"

    def back_or_given_up(killed: int) -> bool:
        return served.pid() not in {0, killed} or given_up()

    while not given_up():
        eventually(partial(back_or_given_up, served.kill()))
    said = served.doctor()["service"]
    assert (said["state"], said["mend"]) == ("wrong", "rlmctl start")
    assert "systemd gave up" in said["meaning"]
    assert served.ctl("start").code == 0
    assert served.doctor()["service"]["state"] == "ok"


@pytest.mark.parametrize("command", [("install", "systemd"), ("setup", "--yes")])
def test_units_of_another_version_are_seen_and_refreshed(served: Person, command: tuple[str, str]) -> None:
    unit = served.units / "rlmd.service"
    served.write(unit, unit.read_text().replace("WatchdogSec=60", "WatchdogSec=90"))
    pid = served.pid()
    assert served.doctor()["units"]["mend"] == "rlmctl install systemd"
    run = served.ctl(*command)
    assert f"{unit} was written." in run.out + run.err
    assert served.pid() not in {0, pid}
    assert served.doctor()["units"]["state"] == "ok"


def test_units_of_somebody_else_are_left_alone(person: Person) -> None:
    unit = person.units / "rlmd.service"
    person.write(unit, "[Service]\nExecStart=/bin/true\n")
    run = person.ctl("install", "systemd")
    assert run.code == 1
    assert f"{unit} is there and was not written by rlmctl." in run.err
    assert person.ctl("uninstall", "systemd").code == 1
    assert unit.exists()


def test_uninstall_leaves_nothing(person: Person) -> None:
    assert person.ctl("start").code == 0
    assert person.ctl("stop").code == 0
    before = files(person.home)
    assert person.ctl("install", "systemd").code == 0
    assert person.ctl("uninstall", "systemd", "--dry-run").code == 0
    assert person.pid() != 0
    run = person.ctl("uninstall", "systemd")
    assert run.code == 0, run
    assert files(person.home) == before
    assert person.systemctl("list-units", "--all", "--no-legend", "rlmd*") == ""
    assert person.run("systemctl", "--user", "list-unit-files", "--no-legend", "rlmd*").out == ""
    assert person.ctl("uninstall", "systemd").code == 0


def test_setup_installs_the_service(person: Person) -> None:
    run = person.ctl("setup", "--yes")
    assert run.code == 0, run
    assert person.show("rlmd.socket", "ActiveState") == "active"
    assert person.ask("status")["daemon"]["pid"] == person.pid()
    pid = person.pid()
    assert person.ctl("setup", "--yes").code == 0
    assert person.pid() == pid


def test_doctor_tells_of_the_service_and_of_logging_out(served: Person) -> None:
    said = served.doctor()
    assert said["service"]["meaning"].startswith("systemd keeps the daemon")
    assert "loginctl enable-linger" in said["service"]["meaning"]
    assert served.ctl("uninstall", "systemd").code == 0
    assert served.doctor()["service"]["mend"] == "rlmctl install systemd"


def test_verify_finds_nothing(served: Person) -> None:
    for unit in ("rlmd.socket", "rlmd.service"):
        run = served.run(
            "systemd-analyze", "verify", "--user", "--recursive-errors=yes", "--man=no", served.units / unit
        )
        assert (run.code, run.err) == (0, ""), run


def test_a_path_that_has_a_meaning_in_units(person: Person) -> None:
    odd = person.home / '100% "sure" \\x24'
    odd.mkdir()
    os.chown(odd, person.uid, person.uid)
    here = {"RLMD_STATE_DIR": str(odd)}
    run = person.ctl("install", "systemd", **here)
    assert run.code == 0, run
    assert (odd / "rlmd.sock").is_socket()
    assert (odd / "state.db").exists()
    assert person.doctor()["service"]["state"] == "warning"  # it serves another socket than this shell means
    assert person.ctl("uninstall", "systemd", **here).code == 0


def test_webhooks_work_under_all_of_the_hardening(served: Person) -> None:
    hook = Webhook()
    try:
        targets = f"\n[notify]\ntargets = {json.dumps([hook.json(), 'env:MY_HOOK'])}\n"
        served.write(served.paths.config, CONFIG + targets)
        served.write(served.paths.config.parent / "environment", f"MY_HOOK={hook.slack('mine')}\n")
        assert served.ctl("restart").code == 0
        run = served.ctl("notify", "test")
        assert run.code == 0, run
        served.ask("report", provider="anthropic", model=MODEL, outcome="error", status=402, message="no credits left")
        eventually(lambda: all("its credits are used up" in str(hook.told(name)) for name in ("json", "mine")))
        assert served.doctor()["notifications"]["state"] == "ok"
    finally:
        hook.close()


def test_systemctl_status_says_how_things_are(served: Person) -> None:
    assert served.show("rlmd.service", "StatusText") == "1 of 1 providers available"
    served.ask("cooldown", provider="anthropic", for_ms=3_600_000)
    eventually(lambda: "0 of 1 providers available; anthropic until " in served.show("rlmd.service", "StatusText"))
    served.ask("reset")
    eventually(lambda: served.show("rlmd.service", "StatusText") == "1 of 1 providers available")


def test_the_journal_has_an_entry_with_its_level_for_each_event() -> None:
    if REASON is not None:
        pytest.skip(REASON)
    with closing(Person(journal=True)) as person:
        assert person.ctl("install", "systemd").code == 0
        person.ask("cooldown", provider="anthropic", for_ms=3_600_000, reason="a rest")
        ours = "SYSLOG_IDENTIFIER=rlmd"
        eventually(lambda: [entry for entry in person.journal(ours) if entry["MESSAGE"].startswith("state: ")])
        (told,) = (entry for entry in person.journal(ours) if entry["MESSAGE"].startswith("state: "))
        assert told["MESSAGE"].startswith("state: anthropic ")
        assert told["PRIORITY"] == "6"
        assert any(entry["MESSAGE"].startswith("serving ") for entry in person.journal(ours))
