"""doctor: one line a check, the mend behind what is wrong, exit code 1 if anything is."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from ctl.person import CONFIG
from rlmd import __version__

if TYPE_CHECKING:
    from ctl.person import Daemon, Place


def wrong(place: Place, **environ: str) -> dict[str, tuple[str, str]]:
    """Return what doctor finds wrong: name → (meaning, mend)."""
    run = place.ctl("doctor", "--json", **environ)
    told = json.loads(run.stdout)
    found = {c["name"]: (c["meaning"], c["mend"]) for c in told["checks"] if c["state"] == "wrong"}
    assert run.returncode == (1 if found else 0)
    assert told["ok"] is not bool(found)
    return found


def test_all_is_well(daemon: Daemon) -> None:
    (daemon.home / ".config" / "opencode").mkdir(parents=True)
    daemon.ctl("install", "opencode")
    run = daemon.ctl("doctor")
    assert (run.returncode, run.stderr) == (0, "")
    lines = run.stdout.splitlines()
    names = [
        "configuration",
        "state directory",
        "socket",
        "service",
        "daemon",
        "version",
        "database",
        "shim",
        "time zone",
    ]
    assert [line[:19].strip() for line in lines] == [f"✓ {name}" for name in names]
    assert wrong(daemon) == {}


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


def test_places_that_are_something_else(place: Place) -> None:
    place.write_config()
    place.paths.state_dir.write_text("")
    assert wrong(place)["state directory"][0] == f"{place.paths.state_dir} is no directory"
    place.paths.state_dir.unlink()
    place.paths.state_dir.mkdir(mode=0o700)
    place.paths.socket.write_text("")
    assert wrong(place)["socket"][0] == f"{place.paths.socket} is no socket"


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
    program = daemon.root / "opencode"
    shutil.copy("/bin/sleep", program)
    agent = subprocess.Popen([program, "60"], env=daemon.environ, cwd=daemon.home)
    other = subprocess.Popen([program, "60"], env=daemon.environ | {"HOME": "/elsewhere"})
    elsewhere = subprocess.Popen([program, "60"], env=daemon.environ | {"RLMD_SOCKET": "/elsewhere"})
    try:
        said = [c for c in json.loads(daemon.ctl("doctor", "--json").stdout)["checks"] if c["name"] == "OpenCode"]
        assert [(c["state"], c["meaning"]) for c in said] == [
            ("warning", f"process {agent.pid} in {daemon.home} does not ask the daemon")
        ]
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
