"""doctor: one line a check, the mend behind what is wrong, exit code 1 if anything is."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from ctl.person import CONFIG, MODEL
from rlmd import __version__

if TYPE_CHECKING:
    from pathlib import Path

    from ctl.person import Daemon, Place


KNOWN = {
    "provider": {
        "anthropic": {"options": {"apiKey": "sk-ant-0123456789abcdef"}, "models": {MODEL: {}}},
        "openrouter": {"models": {"anthropic/claude-sonnet-4.5": {}}},
    }
}


def wrong(place: Place, **environ: str) -> dict[str, tuple[str, str]]:
    """Return what doctor finds wrong: name → (meaning, mend)."""
    run = place.ctl("doctor", "--json", **environ)
    told = json.loads(run.stdout)
    found = {c["name"]: (c["meaning"], c["mend"]) for c in told["checks"] if c["state"] == "wrong"}
    assert run.returncode == (1 if found else 0)
    assert told["ok"] is not bool(found)
    return found


def said(place: Place, name: str, **environ: str) -> list[tuple[str, str, str]]:
    """Return what doctor says under a name: (state, meaning, mend)."""
    told = json.loads(place.ctl("doctor", "--json", **environ).stdout)
    return [(c["state"], c["meaning"], c["mend"]) for c in told["checks"] if c["name"] == name]


@pytest.fixture
def opencode(daemon: Daemon) -> Path:
    """A daemon, and an OpenCode with the shim that has both providers and their keys; returns its file."""
    file = daemon.home / ".config" / "opencode" / "opencode.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(KNOWN))
    daemon.ctl("install", "opencode")
    return file


def test_all_is_well(daemon: Daemon, opencode: Path) -> None:
    assert opencode.exists()
    run = daemon.ctl("doctor", OPENROUTER_API_KEY="x")
    assert (run.returncode, run.stderr) == (0, "")
    lines = run.stdout.splitlines()
    names = [
        "configuration",
        "stand-ins",
        "state directory",
        "disk space",
        "socket",
        "service",
        "daemon",
        "version",
        "database",
        "shim",
        "clock",
        "time zone",
    ]
    assert [line[:19].strip() for line in lines] == [f"✓ {name}" for name in names]
    assert wrong(daemon, OPENROUTER_API_KEY="x") == {}


def test_on_a_clean_home_it_names_the_two_commands(place: Place) -> None:
    run = place.ctl("doctor")
    assert run.returncode == 1
    mends = [line.partition("mend: ")[2] for line in run.stdout.splitlines() if "mend: " in line]
    assert mends == ["rlmctl setup", "rlmctl start", "rlmctl start", "npm install -g opencode-ai"]


def test_a_broken_configuration(daemon: Daemon) -> None:
    daemon.write_config(CONFIG.replace("hourly_limit = 50", "hourly_limit = 0"))
    daemon.ctl("reload")
    found = wrong(daemon)
    assert found.keys() == {"configuration", "daemon's file"}
    assert "provider[0].hourly_limit must be at least 1" in found["configuration"][0]
    assert found["daemon's file"][1] == "rlmctl reload"


def test_another_configuration_than_the_daemons(daemon: Daemon) -> None:
    other = daemon.root / "other.toml"
    other.write_text(CONFIG)
    run = daemon.ctl("doctor", RLMD_CONFIG=str(other))
    assert run.returncode == 0
    assert f"the daemon reads {daemon.paths.config}, this shell means {other}" in run.stdout


def test_places_that_are_open_to_others(daemon: Daemon) -> None:
    daemon.paths.state_dir.chmod(0o755)
    daemon.paths.socket.chmod(0o666)
    assert wrong(daemon) == {
        "state directory": (f"{daemon.paths.state_dir} has mode 0755", f"chmod 700 {daemon.paths.state_dir}"),
        "socket": (f"{daemon.paths.socket} has mode 0666", f"chmod 600 {daemon.paths.socket}"),
    }


def test_a_database_that_others_may_read(daemon: Daemon) -> None:
    daemon.paths.database.chmod(0o644)
    meaning, mend = wrong(daemon)["database"]
    assert (meaning, mend) == (f"{daemon.paths.database} has mode 0644", f"chmod 600 {daemon.paths.database}")


def test_places_that_are_something_else(place: Place) -> None:
    place.write_config()
    place.paths.state_dir.write_text("")
    assert wrong(place)["state directory"][0] == f"{place.paths.state_dir} is no directory"
    place.paths.state_dir.unlink()
    place.paths.state_dir.mkdir(mode=0o700)
    place.paths.socket.write_text("")
    assert wrong(place)["socket"][0] == f"{place.paths.socket} is no socket"


@pytest.mark.parametrize("command", ["doctor", "status"])
def test_a_unit_that_cannot_be_read_is_none(place: Place, command: str) -> None:
    for unit in ("rlmd.service", "rlmd.socket"):
        (place.home / ".config" / "systemd" / "user" / unit).mkdir(parents=True)

    assert "Traceback" not in place.ctl(command).stderr


def test_a_socket_path_that_is_too_long(place: Place) -> None:
    assert "at most" in wrong(place, RLMD_SOCKET="/" + "x" * 150)["daemon"][0]


def test_a_shim_that_is_missing_old_or_of_another_daemon(daemon: Daemon) -> None:
    (daemon.home / ".config" / "opencode").mkdir(parents=True)
    assert wrong(daemon)["OpenCode"][1] == "rlmctl install opencode"
    daemon.ctl("install", "opencode")
    shim = daemon.home / ".config" / "opencode" / "plugins" / "rlmd.ts"
    text = shim.read_text()
    shim.write_text(text.replace(f'"{__version__}"', '"0.0.1"', 1))
    assert wrong(daemon)["shim"] == (f"{shim} is of version 0.0.1", "rlmctl install opencode")
    shim.write_text(text.replace(str(daemon.paths.socket), "/elsewhere"))
    assert wrong(daemon)["shim"][0] == f"{shim} looks for the daemon at /elsewhere"
    shim.write_text(text + "// mine\n")
    assert "was edited by hand" in daemon.ctl("doctor").stdout
    assert wrong(daemon) == {}


def test_the_mend_of_a_projects_shim_names_the_project(daemon: Daemon) -> None:
    daemon.ctl("install", "opencode", "--project")
    shim = daemon.home / ".opencode" / "plugins" / "rlmd.ts"
    shim.write_text(shim.read_text().replace(f'"{__version__}"', '"0.0.1"', 1))
    assert wrong(daemon)["shim"][1] == "rlmctl install opencode --project"


@pytest.mark.parametrize(("zone", "fine"), [("Europe/Berlin", True), ("Europe/Berln", False)])
def test_the_time_zone(daemon: Daemon, zone: str, fine: bool) -> None:
    found = wrong(daemon, TZ=zone)
    assert ("time zone" not in found) is fine
    if not fine:
        assert 'Did you mean "Europe/Berlin"?' in found["time zone"][0]


def test_an_agent_that_runs_without_the_shim_is_found(daemon: Daemon) -> None:
    (daemon.home / ".config" / "opencode").mkdir(parents=True)
    daemon.ctl("install", "opencode")
    shim = daemon.home / ".config" / "opencode" / "plugins" / "rlmd.ts"
    os.utime(shim, (time.time() - 60, time.time() - 60))
    program = daemon.root / "opencode"
    shutil.copy("/bin/sleep", program)
    agent = subprocess.Popen([program, "60"], env=daemon.environ, cwd=daemon.home)
    other = subprocess.Popen([program, "60"], env=daemon.environ | {"HOME": "/elsewhere"})
    elsewhere = subprocess.Popen([program, "60"], env=daemon.environ | {"RLMD_SOCKET": "/elsewhere"})
    try:
        assert said(daemon, "OpenCode") == [
            (
                "warning",
                f"process {agent.pid} in {daemon.home} does not ask the daemon",
                "nothing, if it was asked nothing yet; else end that OpenCode and start it again",
            )
        ]
        os.utime(shim, (time.time() + 60, time.time() + 60))  # placed after that OpenCode began
        assert said(daemon, "OpenCode")[0][2] == "end that OpenCode and start it again"
        daemon.ctl("uninstall", "opencode")
        mends = [mend for _, _, mend in said(daemon, "OpenCode")]
        assert mends[0] == "rlmctl install opencode; then end that OpenCode and start it again"
        daemon.ctl("install", "opencode")
        with daemon.connect() as client:
            client.request("hello", client="opencode", version="1", pid=agent.pid)
            assert "does not ask the daemon" not in daemon.ctl("doctor").stdout
    finally:
        for process in (agent, other, elsewhere):
            process.kill()
            process.wait()


def test_a_notification_target_that_fails(daemon: Daemon) -> None:
    daemon.write_config(f'{CONFIG}\n[notify]\ntargets = ["bogus://hush"]\n')
    assert daemon.ctl("reload").returncode == 0
    assert "bogus://… has not been tried" in daemon.ctl("doctor").stdout
    run = daemon.ctl("notify", "test")
    assert run.returncode == 1
    assert run.stdout.startswith("✗ bogus://…")
    meaning, mend = wrong(daemon)["notifications"]
    assert meaning.startswith("bogus://… gets none: Apprise cannot read this address")
    assert mend.endswith("rlmctl notify test")
    assert "Notifications to bogus://… fail: Apprise cannot read" in daemon.ctl("status").stdout


def test_a_variable_that_only_this_shell_has(daemon: Daemon) -> None:
    run = daemon.ctl("doctor", SLACK_WEBHOOK="https://hooks.slack.com/services/hush")
    assert "SLACK_WEBHOOK is set in this shell, and the daemon does not know of it" in run.stdout
    assert "hush" not in run.stdout


def test_an_agent_that_has_an_older_shim_loaded(daemon: Daemon) -> None:
    with daemon.connect() as agent:
        agent.request("hello", client="opencode-shim", version="0.0.1", pid=1, directory="/work")
        assert (
            "warning",
            "process 1 in /work has the shim of 0.0.1 loaded",
            "end that OpenCode and start it again",
        ) in said(daemon, "OpenCode")


def test_a_disk_that_is_nearly_full(place: Place) -> None:
    place.write_config()
    place.paths.state_dir.mkdir(mode=0o700)
    python, state = shlex.quote(sys.executable), shlex.quote(str(place.paths.state_dir))
    script = f"mount -t tmpfs -o size=1m,mode=0700 tmpfs {state} && exec {python} -m rlmctl doctor --json"
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-rm", "true"], check=False, capture_output=True).returncode:
        pytest.skip("no small disk can be made here: that needs a user namespace (Linux)")
    run = subprocess.run(
        [unshare, "-rm", "/bin/sh", "-c", script],
        env=place.environ | {"PATH": os.environ["PATH"]},
        cwd=place.home,
        capture_output=True,
        text=True,
        check=False,
    )
    (found,) = [check for check in json.loads(run.stdout)["checks"] if check["name"] == "disk space"]
    assert (found["state"], run.returncode) == ("wrong", 1)
    assert found["meaning"].startswith(f"1 MiB are free where {place.paths.state_dir} is")


def test_a_database_that_is_damaged(place: Place) -> None:
    place.write_config()
    place.ctl("start")
    with place.connect() as agent:
        for number in range(300):
            agent.request("report", provider="anthropic", model=MODEL, outcome="ok", lease=f"l{number}")
    place.ctl("stop")
    assert said(place, "database") == [("ok", f"{place.paths.database} is whole", "")]
    with place.paths.database.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        for page in range(1, size // 4096):
            file.seek(page * 4096)
            file.write(b"\xff" * 64)
    meaning, mend = wrong(place)["database"]
    assert meaning.startswith(f"{place.paths.database} is damaged: ")
    assert mend.startswith("rlmctl restart")
    assert place.ctl("restart").returncode == 0
    state, meaning, mend = said(place, "database")[-1]
    assert (state, "was damaged and set aside" in meaning, mend.startswith("rm ")) == ("warning", True, True)


def test_a_row_of_the_database_that_made_no_sense(place: Place) -> None:
    place.write_config()
    place.ctl("start")
    with place.connect() as agent:
        agent.request("report", provider="anthropic", model=MODEL, outcome="ok")
    place.ctl("stop")
    with closing(sqlite3.connect(place.paths.database)) as db, db:
        db.execute("UPDATE fact SET row = CAST('{' AS BLOB) WHERE kind = 'tally' AND key = 'anthropic'")
    place.ctl("start")
    rows = f"{place.paths.database}.set-aside"
    assert said(place, "database")[-1] == (
        "warning",
        f"rows that made no sense were set aside, all others are kept: {rows}",
        f"rm {rows}  (once you have no use for it)",
    )


def test_a_clock_that_was_set_back(place: Place) -> None:
    place.write_config()
    place.ctl("start")
    place.ctl("stop")
    ahead = time.time() + 86_400
    os.utime(place.paths.database, (ahead, ahead))
    meaning, mend = wrong(place)["clock"]
    assert "and the state was written at " in meaning
    assert mend.endswith("if it is right now: rlmctl reset")


def test_a_clock_that_was_never_set(place: Place, tmp_path: Path) -> None:
    ahead = time.time() + 10 * 86_400
    package = tmp_path / "rlmd" / "__init__.py"
    package.parent.mkdir()
    package.write_text("")
    os.utime(package, (ahead, ahead))
    script = (
        "import rlmd; from pathlib import Path; from rlmd.paths import resolve; from rlmctl.doctor.clock import clock; "
        f"rlmd.__file__ = {str(package)!r}; print([*clock(resolve())])"
    )
    run = subprocess.run([sys.executable, "-c", script], env=place.environ, capture_output=True, text=True, check=True)
    assert "Check(name='clock', state='wrong'" in run.stdout
    assert "and this program was installed on" in run.stdout


def test_a_provider_that_opencode_does_not_know_is_told_the_nearest(daemon: Daemon, opencode: Path) -> None:
    opencode.write_text(json.dumps({"provider": {"my-proxy": {"models": {MODEL: {}}}}}))
    daemon.write_config(CONFIG.replace('"anthropic"', '"my-prxy"', 1))
    daemon.ctl("reload")
    meanings = [(state, meaning) for state, meaning, _ in said(daemon, "providers")]
    assert meanings == [
        (
            "warning",
            "my-prxy is configured here, and OpenCode knows no provider of that name. Did you mean 'my-proxy'?",
        ),
        ("warning", "OpenCode has my-proxy too: not configured here, so never a stand-in"),
    ]


def test_a_model_that_opencode_does_not_know_is_told_the_nearest(daemon: Daemon, opencode: Path) -> None:
    opencode.write_text(json.dumps({"provider": {"my-proxy": {"models": {"claude-sonnet-4.5": {}}}}}))
    daemon.write_config(f'[[provider]]\nid = "my-proxy"\nmodels = ["{MODEL}"]\n')
    daemon.ctl("reload")
    ((state, meaning, mend),) = said(daemon, "models")
    assert state == "warning"
    assert meaning == f"OpenCode knows no model '{MODEL}' of my-proxy. Did you mean 'claude-sonnet-4.5'?"
    assert mend.endswith("rlmctl reload")


def test_variables_of_keys_that_are_not_set_here_may_be_set_elsewhere(daemon: Daemon, opencode: Path) -> None:
    ((state, meaning, mend),) = said(daemon, "key")
    assert (state, meaning) == (
        "warning",
        "openrouter takes its key from OPENROUTER_API_KEY, which is not set in this shell",
    )
    assert mend.startswith("export OPENROUTER_API_KEY=... where OpenCode is started")
    opencode.write_text("{}")
    assert [state for state, *_ in said(daemon, "key")] == ["warning", "warning"]
    assert wrong(daemon) == {}


def test_a_variable_written_as_a_shell_writes_it(daemon: Daemon, opencode: Path) -> None:
    settings = KNOWN | {"provider": {"anthropic": {"options": {"apiKey": "${ANTHROPIC_API_KEY}"}}}}
    opencode.write_text(json.dumps(settings))
    meaning, mend = wrong(daemon, ANTHROPIC_API_KEY="x", OPENROUTER_API_KEY="x")["key"]
    assert meaning.startswith(f"{opencode}: provider.anthropic.options.apiKey has ${{ANTHROPIC_API_KEY}}, which ")
    assert mend == "write {env:ANTHROPIC_API_KEY} there"


def test_a_file_of_opencodes_that_cannot_be_read(daemon: Daemon, opencode: Path) -> None:
    opencode.write_text("{")
    assert wrong(daemon)["OpenCode's file"][0].startswith(f"{opencode} was left out: ")


def test_a_limit_that_is_never_reached_because_the_provider_refuses_before(daemon: Daemon) -> None:
    refused = {"outcome": "error", "status": 429, "headers": {"retry-after": "3000"}}
    with daemon.connect() as agent:
        for n in range(6):
            agent.request("report", provider="anthropic", model=MODEL, outcome="ok", lease=f"l{n}")
        agent.request("report", provider="anthropic", model=MODEL, lease="a", **refused)
        assert said(daemon, "limits") == []  # one refusal is a guess
        agent.request("reset", provider="anthropic", what="cooldowns")
        agent.request("report", provider="anthropic", model=MODEL, lease="b", **refused)
    ((state, meaning, mend),) = said(daemon, "limits")
    assert (state, mend) == ("warning", "rlmctl limits suggest")
    assert meaning.startswith("anthropic's 50 requests per 1h are never reached: anthropic: 6 requests per hour; ")


def test_the_plugin_that_this_replaces(daemon: Daemon, opencode: Path) -> None:
    old = opencode.parent / "plugin" / "rate-limit-manager.ts"
    old.parent.mkdir(exist_ok=True)
    old.write_text("export const it = 1\n")
    ((state, meaning, mend),) = said(daemon, "old plugin")
    assert (state, mend) == ("warning", f"rm {old}")
    assert str(old) in meaning


def test_what_the_shim_noted_of_itself_is_pointed_to(daemon: Daemon, opencode: Path) -> None:
    assert opencode.exists()
    assert not any("inside the shim" in meaning for _, meaning, _ in said(daemon, "shim"))
    log = daemon.paths.socket.with_name("shim.log")
    log.write_text("2026-12-01T00:00:00.000Z 7 event: TypeError\n")

    [(state, meaning, mend)] = [line for line in said(daemon, "shim") if "inside the shim" in line[1]]
    assert (state, str(log) in mend) == ("warning", True), meaning
