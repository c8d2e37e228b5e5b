"""The first run: on a clean home, with OpenCode, again, dry, and in the way of what cannot be written."""

from __future__ import annotations

import json
import os
import pty
import shlex
import shutil
import stat
import subprocess
import sys
import time
import tomllib
from typing import TYPE_CHECKING

import pytest
from opencode_stand_in import opencode_that_says

from ctl.person import MODEL
from rlmd import __version__

if TYPE_CHECKING:
    from pathlib import Path

    from ctl.person import Daemon, Place

OPENCODE = """{
  // what a person has
  "model": "anthropic/claude-sonnet-4-5",
  "provider": {
    "openrouter": {
      "options": {"apiKey": "sk-or-secret"},
      "models": {"anthropic/claude-sonnet-4.5": {}, "llama-3-1-70b": {}},
    },
    "anthropic": {"options": {"apiKey": "{env:ANTHROPIC_API_KEY}"}},
    "bare": {},
  },
}"""


@pytest.fixture
def opencode(place: Place) -> Path:
    """A person who has configured OpenCode; returns the shim's place."""
    directory = place.home / ".config" / "opencode"
    directory.mkdir(parents=True)
    (directory / "opencode.jsonc").write_text(OPENCODE)
    return directory / "plugins" / "rlmd.ts"


def test_with_nothing_to_go_by_it_writes_an_example_and_starts(place: Place) -> None:
    run = place.ctl("setup", "--yes")
    assert run.returncode == 0, run.stderr
    assert run.stdout.lstrip("\n").startswith("=== Rate Limit Manager Status ===")
    assert "fill it in" in run.stderr
    assert f"name your providers in {place.paths.config}" in run.stderr
    assert "rlmctl install opencode" in run.stderr
    assert stat.S_IMODE(place.paths.config.stat().st_mode) == 0o600
    assert tomllib.loads(place.paths.config.read_text()) == {}
    assert place.status()["providers"] == []


def test_the_example_works_once_its_marks_are_removed(place: Place) -> None:
    place.ctl("setup")
    lines = place.paths.config.read_text().splitlines()
    example = [line.removeprefix("# ") for line in lines[lines.index("# [[provider]]") :]]
    place.write_config("\n".join(example))
    run = place.ctl("config", "check")
    assert run.returncode == 0, run.stderr
    assert "providers: 2, models: 1" in run.stdout


def test_what_opencode_has_becomes_a_configuration(place: Place, opencode: Path) -> None:
    run = place.ctl("setup", "--yes")
    assert run.returncode == 0, run.stderr
    text = place.paths.config.read_text()
    assert tomllib.loads(text) == {
        "provider": [
            {"id": "anthropic", "priority": 1, "models": ["claude-sonnet-4-5"]},
            {
                "id": "openrouter",
                "priority": 2,
                "models": {
                    "claude-sonnet-4-5": "anthropic/claude-sonnet-4.5",
                    "llama-3-1-70b": "llama-3-1-70b",
                },
            },
        ]
    }
    assert "# OpenCode's configuration has bare too, and no model of it is named anywhere" in text
    assert place.status()["model_mapping"]["claude-sonnet-4-5"] == ["anthropic", "openrouter"]
    assert opencode.exists()
    assert "secret" not in text + run.stdout + run.stderr + opencode.read_text()


def test_again_it_changes_nothing(place: Place, opencode: Path) -> None:
    place.ctl("setup")
    place.paths.config.write_text(place.paths.config.read_text() + "# mine\n")
    kept = (place.paths.config.read_text(), opencode.read_text(), place.status()["daemon"]["pid"])
    run = place.ctl("setup", "--yes")
    assert run.returncode == 0, run.stderr
    assert "stays as it is" in run.stderr
    assert (place.paths.config.read_text(), opencode.read_text(), place.status()["daemon"]["pid"]) == kept


def test_a_configuration_under_a_running_daemon_is_taken_at_once(place: Place, opencode: Path) -> None:
    del opencode
    place.ctl("start")
    assert place.ctl("setup").returncode == 0
    assert [provider["id"] for provider in place.status()["providers"]] == ["anthropic", "openrouter"]


def test_an_agent_that_was_configured_later_takes_the_place_of_the_untouched_example(place: Place) -> None:
    place.ctl("setup")
    (place.home / "opencode.json").write_text('{"model": "anthropic/claude-sonnet-4-5"}')
    run = place.ctl("setup")
    assert run.returncode == 0
    assert f"{place.paths.config} written (anthropic)" in run.stderr
    assert [provider["id"] for provider in place.status()["providers"]] == ["anthropic"]


def test_what_a_person_has_written_stays_and_the_rest_is_offered(place: Place, opencode: Path) -> None:
    place.write_config(f'[[provider]]\nid = "anthropic"\nmodels = ["{MODEL}"]\n')
    before = place.paths.config.read_text()
    run = place.ctl("setup", "--yes")
    assert run.returncode == 0
    assert place.paths.config.read_text() == before
    assert "OpenCode has openrouter too. To take over, at its end:" in run.stderr
    assert "is there (1 provider) and stays as it is" in run.stderr
    offered = run.stderr.partition("at its end:\n")[2].partition("\n✓")[0]
    assert tomllib.loads(offered)["provider"][0]["priority"] == 2
    place.write_config(before + offered)
    assert place.ctl("config", "check").returncode == 0
    assert "OpenCode has" not in place.ctl("setup").stderr
    assert opencode.exists()


def test_dry_run_shows_all_and_does_nothing(place: Place, opencode: Path) -> None:
    run = place.ctl("setup", "--dry-run")
    assert run.returncode == 0
    assert tomllib.loads(run.stdout)["provider"][0]["id"] == "anthropic"
    assert f"would write: {place.paths.config}" in run.stderr
    assert f"{opencode} would be written" in run.stderr
    assert "would start: the daemon" in run.stderr
    assert not place.paths.config.exists()
    assert not opencode.exists()
    assert not place.paths.state_dir.exists()


def test_json_tells_what_was_done(place: Place, opencode: Path) -> None:
    done = place.ctl_json("setup")
    assert done["config"] == str(place.paths.config)
    assert (done["config_written"], done["daemon_started"]) == (True, True)
    assert str(opencode) in done["shim"][0]
    assert done["status"]["type"] == "status"
    again = place.ctl_json("setup")
    assert (again["config_written"], again["daemon_started"]) == (False, False)


def test_a_broken_configuration_is_the_persons_to_mend(place: Place) -> None:
    place.write_config("[[provider]]\nid = 3\n")
    run = place.ctl("setup")
    assert (run.returncode, run.stdout) == (2, "")
    assert f"{place.paths.config}:2: provider[0].id" in run.stderr
    assert place.paths.config.read_text() == "[[provider]]\nid = 3\n"


def test_a_link_to_a_configuration_that_is_not_there_is_named_with_its_mend(place: Place) -> None:
    target = place.home / "dotfiles" / "rlmd.toml"
    place.paths.config.parent.mkdir(parents=True, exist_ok=True)
    place.paths.config.symlink_to(target)
    run = place.ctl("setup", "--yes")
    assert run.returncode == 2
    assert f"{place.paths.config} is a link to {target}, and that file is not there. Nothing was written." in run.stderr
    assert f"mend: rm {place.paths.config}, or bring {target} back; then: rlmctl setup" in run.stderr
    assert place.paths.config.is_symlink()
    assert not target.exists()


def test_a_place_that_cannot_be_written(place: Place) -> None:
    (place.root / "file").write_text("")
    run = place.ctl("setup", RLMD_CONFIG=str(place.root / "file" / "config.toml"))
    assert run.returncode == 2
    assert "The configuration cannot be written: Not a directory" in run.stderr
    assert "  mend: set RLMD_CONFIG to a file that you may write" in run.stderr


def on_a_terminal(place: Place, *answers: str) -> tuple[int, str]:
    """Run `rlmctl setup` on a terminal where somebody types, and then ends the input."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "rlmctl", "setup"]
    run = subprocess.Popen(
        command, env=place.environ, cwd=place.home, stdin=theirs, stderr=theirs, stdout=subprocess.DEVNULL
    )
    os.close(theirs)
    os.write(ours, "".join(f"{answer}\n" for answer in answers).encode() + b"\x04" * 6)
    shown = b""
    try:
        while data := os.read(ours, 65536):
            shown += data
    except OSError:  # Linux says the end of a terminal this way
        pass
    os.close(ours)
    return run.wait(), shown.decode()


def test_on_a_terminal_it_asks(place: Place, opencode: Path) -> None:
    code, shown = on_a_terminal(place, "openruter", "openrouter anthropic", "y", "", "")
    assert code == 0
    assert "Tried in this order: anthropic, openrouter. Enter, or your own order:" in shown
    assert "There is no 'openruter' among them. Did you mean 'openrouter'?" in shown
    assert "anthropic allows 50 requests per 1m (API tier 1). Is that your plan? [y/N]" in shown
    assert f"Write this to {place.paths.config}? [Y/n]" in shown
    assert "Install the shim into OpenCode? [Y/n]" in shown
    assert opencode.exists()
    first, second = tomllib.loads(place.paths.config.read_text())["provider"]
    assert (first["id"], second["id"]) == ("openrouter", "anthropic")
    assert second["limit"] == [{"of": "requests", "max": 50, "per": "1m"}]
    assert place.ctl("config", "check").returncode == 0


def test_on_a_terminal_no_means_no(place: Place, opencode: Path) -> None:
    code, shown = on_a_terminal(place, "", "", "n")
    assert code == 1
    assert "Nothing was written." in shown
    assert not place.paths.config.exists()
    assert not opencode.exists()
    code, shown = on_a_terminal(place, "", "", "y", "n")
    assert code == 0
    assert place.paths.config.exists()
    assert not opencode.exists()


def test_the_end_of_the_input_is_no_agreement(place: Place, opencode: Path) -> None:
    code, shown = on_a_terminal(place)
    assert (code, place.paths.config.exists(), opencode.exists()) == (1, False, False)
    assert "Nothing was written." in shown


def test_on_a_terminal_what_is_missing_is_added_only_where_that_is_wanted(place: Place, opencode: Path) -> None:
    place.write_config(f'[[provider]]\nid = "anthropic"\nmodels = ["{MODEL}"]\n')
    before = place.paths.config.read_text()
    assert on_a_terminal(place, "", "")[0] == 0
    assert place.paths.config.read_text() == before
    code, shown = on_a_terminal(place, "y")
    assert code == 0
    assert "Install the shim" not in shown
    assert place.paths.config.read_text().startswith(before)
    assert place.status()["model_mapping"][MODEL] == ["anthropic", "openrouter"]
    assert opencode.exists()


def test_providers_with_one_key_become_one_account(place: Place, opencode: Path) -> None:
    settings = {
        "model": "anthropic/claude-sonnet-4-5",
        "provider": {
            "helicone": {
                "options": {
                    "apiKey": "${ANTHROPIC_API_KEY}",
                    "baseURL": "https://anthropic.helicone.ai/v1",
                },
                "models": {"claude-sonnet-4-5": {}},
            },
            "openrouter": {"models": {"anthropic/claude-sonnet-4.5": {}}},
        },
    }
    file = opencode.parents[1] / "opencode.jsonc"
    file.write_text(json.dumps(settings))
    run = place.ctl("setup", "--yes")
    assert run.returncode == 0
    assert (
        f"! OpenCode       {file}: provider.helicone.options.apiKey has ${{ANTHROPIC_API_KEY}}, which OpenCode sends "
        "as it stands; write {env:ANTHROPIC_API_KEY}"
    ) in run.stderr
    written = {p["id"]: p.get("account") for p in tomllib.loads(place.paths.config.read_text())["provider"]}
    assert written == {"anthropic": "anthropic", "helicone": "anthropic", "openrouter": None}
    assert "# ANTHROPIC_API_KEY, as helicone: used up for one is used up for all" in place.paths.config.read_text()


def test_published_limits_are_comments_with_their_source_that_hold_without_their_marks(
    place: Place, opencode: Path
) -> None:
    place.ctl("setup", "--yes")
    text = place.paths.config.read_text()
    assert "# API tier 1: https://platform.claude.com/docs/en/api/rate-limits (" in text
    place.write_config(
        "\n".join(
            line.removeprefix("# ") if line.startswith(("# [[", "# of", "# max", "# per")) else line
            for line in text.splitlines()
        )
    )
    assert place.ctl("reload").returncode == 0
    (limit,) = place.status()["providers"][0]["limits"]
    assert (limit["max"], limit["per"], opencode.exists()) == (50, "1m", True)


def test_a_shim_that_was_edited_stays(place: Place, opencode: Path) -> None:
    place.ctl("setup")
    opencode.write_text(opencode.read_text() + "// mine\n")
    run = place.ctl("setup", "--yes")
    assert run.returncode == 0
    assert f"{opencode} was edited and stays as it is; to replace it: rlmctl install opencode" in run.stderr
    assert opencode.read_text().endswith("// mine\n")


def test_a_shim_of_another_version_is_replaced(place: Place, opencode: Path) -> None:
    place.ctl("setup")
    kept = opencode.read_text()
    opencode.write_text(kept.replace(f'"{__version__}"', '"0.0.1"'))
    assert place.ctl("setup", "--yes").returncode == 0
    assert opencode.read_text() == kept


def test_it_proves_that_it_decides(place: Place, opencode: Path) -> None:
    run = place.ctl("setup", "--yes")
    assert f"✓ it decides     {MODEL}: the next request goes to anthropic" in run.stderr
    assert opencode.exists()


def test_the_shim_is_installed_and_removed_by_name(place: Place, opencode: Path) -> None:
    run = place.ctl("install", "opencode", "--dry-run")
    assert (run.returncode, run.stderr) == (0, "")
    assert not opencode.exists()
    assert "would be written" in json.loads(place.ctl("install", "opencode", "--dry-run", "--json").stdout)[0]
    assert place.ctl("install", "opencode").returncode == 0
    assert json.dumps(str(place.paths.socket)) in opencode.read_text()
    assert place.ctl("uninstall", "opencode").returncode == 0
    assert not opencode.exists()


def test_for_an_opencode_that_no_form_serves_the_shim_is_refused_and_the_rest_is_set_up(
    place: Place, opencode: Path
) -> None:
    opencode_that_says(place.root / "nothing", "1.0.185")
    refusal = "OpenCode 1.0.185 is too old: the shim was tried with 1.1.53 and later. Nothing was written."

    run = place.ctl("install", "opencode")
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr == f"rlmctl: {refusal}\n  mend: opencode upgrade\n"

    run = place.ctl("setup", "--yes")
    assert run.returncode == 1
    assert f"! agent          {refusal}\n                 mend: opencode upgrade\n" in run.stderr
    assert run.stderr.endswith(f"One thing is left to do: {refusal}\n")
    assert not opencode.exists()
    assert place.status()["model_mapping"][MODEL] == ["anthropic", "openrouter"]


def test_where_opencodes_directory_cannot_be_written_the_rest_is_set_up(place: Place, opencode: Path) -> None:
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-rm", "true"], check=False, capture_output=True).returncode:
        pytest.skip("no place can be made read-only here: that needs a user namespace (Linux)")
    home = shlex.quote(str(opencode.parents[1]))
    script = f"mount --bind {home} {home} && mount -o remount,bind,ro {home} && exec {shlex.quote(sys.executable)} "
    script += "-m rlmctl setup --yes --json"
    run = subprocess.run(
        [unshare, "-rm", "/bin/sh", "-c", script],
        env=place.environ | {"PATH": os.environ["PATH"]},
        cwd=place.home,
        capture_output=True,
        text=True,
        check=False,
    )
    elsewhere = place.home / ".config" / "opencode-rlmd"
    assert run.returncode == 1
    told = json.loads(run.stdout)
    assert told["left"] == [f"The shim's file cannot be changed: Read-only file system: {opencode.parent}."]
    assert (told["config_written"], told["daemon_started"]) == (True, True)
    assert place.answers()
    assert f"OPENCODE_CONFIG_DIR={elsewhere} rlmctl install opencode" in run.stderr
    assert f'"plugin": ["file://{elsewhere}/plugins/rlmd.ts"]' in run.stderr
    assert "rlmctl install opencode --project" in run.stderr


def test_the_shim_of_a_project(place: Place) -> None:
    assert place.ctl("install", "opencode", "--project").returncode == 0
    assert (place.home / ".opencode" / "plugins" / "rlmd.ts").exists()
    assert place.ctl("uninstall", "opencode", "--project").returncode == 0
    assert not (place.home / ".opencode").exists()


def test_a_shim_that_cannot_be_written(place: Place, opencode: Path) -> None:
    opencode.parent.write_text("")
    run = place.ctl("install", "opencode")
    assert run.returncode == 1
    assert run.stderr.startswith("rlmctl: The shim's file cannot be changed: ")


@pytest.mark.parametrize(
    ("service", "reason"),
    [("systemd", "Here no systemd runs units of yours."), ("launchd", "launchd is macOS's; this is another system.")],
)
def test_where_there_is_no_such_service_manager_it_says_so(place: Place, service: str, reason: str) -> None:
    run = place.ctl("install", service)
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr.startswith(f"rlmctl: {reason}\n  mend: rlmctl start")
    assert place.ctl("uninstall", service).returncode == 0


def test_a_daemon_of_another_version_is_replaced(daemon: Daemon) -> None:
    daemon.end()
    old = "import sys, rlmd; rlmd.__version__ = '0.0.1'; from rlmd.__main__ import main; sys.exit(main([]))"
    command = [sys.executable, "-c", old, "rlmd"]
    with subprocess.Popen(command, env=daemon.environ, stderr=subprocess.DEVNULL) as before:
        until = time.monotonic() + 20
        while not daemon.answers():
            assert time.monotonic() < until
            time.sleep(0.02)
        assert daemon.status()["daemon"]["version"] == "0.0.1"
        assert daemon.ctl("setup", "--yes").returncode == 0
        assert before.wait(10) == 0
    assert daemon.status()["daemon"]["version"] == __version__
    assert daemon.ctl("stop").returncode == 0
