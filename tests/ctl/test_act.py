"""The commands that change what the daemon decides, seen in what it decides then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ctl.person import MODEL

if TYPE_CHECKING:
    from ctl.person import Daemon


def provider(daemon: Daemon, name: str) -> dict[str, Any]:
    return next(p for p in daemon.status()["providers"] if p["id"] == name)


def goes_to(daemon: Daemon) -> str:
    with daemon.connect() as client:
        reply = client.request("acquire", provider="anthropic", model=MODEL, dry_run=True)
    return str(reply.get("provider", reply["type"]))


def test_use_puts_a_provider_first_until_auto(daemon: Daemon) -> None:
    run = daemon.ctl("use", "openrouter")
    assert (run.returncode, run.stderr) == (0, "")
    assert "openrouter" in run.stdout
    assert goes_to(daemon) == "openrouter"
    assert daemon.ctl_json("use", "auto")["type"] == "done"
    assert goes_to(daemon) == "anthropic"


def test_use_for_one_model(daemon: Daemon) -> None:
    assert daemon.ctl("use", "openrouter", "--model", MODEL).returncode == 0
    assert daemon.status()["pins"] == {MODEL: "openrouter"}


def test_cooldown_rests_a_provider_until_it_is_reset(daemon: Daemon) -> None:
    run = daemon.ctl("cooldown", "anthropic", "1h30m", "--reason", "the plan is used up")
    assert (run.returncode, run.stderr) == (0, "")
    assert goes_to(daemon) == "openrouter"
    assert provider(daemon, "anthropic")["reason"] == "the plan is used up"
    assert daemon.ctl_json("reset", "anthropic", "--cooldowns")["type"] == "done"
    assert goes_to(daemon) == "anthropic"


def test_cooldown_of_one_model(daemon: Daemon) -> None:
    assert daemon.ctl_json("cooldown", "anthropic", "90s", "--model", MODEL)["type"] == "done"
    assert goes_to(daemon) == "openrouter"


@pytest.mark.parametrize("duration", ["9x", "", "soon", "-1h"])
def test_a_duration_that_is_none_is_wrong_usage(daemon: Daemon, duration: str) -> None:
    run = daemon.ctl("cooldown", "anthropic", f" {duration}")
    assert (run.returncode, run.stdout) == (2, "")
    assert '"90s"' in run.stderr
    assert run.stderr.endswith("  mend: rlmctl cooldown anthropic 1h\n")


def test_reset_forgets_counts_or_cooldowns_or_both(daemon: Daemon) -> None:
    def dirty() -> None:
        with daemon.connect() as client:
            client.request("report", provider="anthropic", model=MODEL, outcome="ok")
            client.request("cooldown", provider="anthropic", for_ms=60_000)

    def state() -> tuple[int, str]:
        found = provider(daemon, "anthropic")
        return found["request_count"], found["state"]

    dirty()
    assert state() == (1, "open")
    assert daemon.ctl("reset", "--counters").returncode == 0
    assert state() == (0, "open")
    dirty()
    assert daemon.ctl("reset", "--cooldowns").returncode == 0
    assert state() == (1, "closed")
    dirty()
    assert daemon.ctl("reset", "anthropic").returncode == 0
    assert state() == (0, "closed")
    assert daemon.ctl("reset", "--counters", "--cooldowns").returncode == 2


def test_disable_and_enable(daemon: Daemon) -> None:
    assert daemon.ctl_json("disable", "anthropic")["type"] == "done"
    assert provider(daemon, "anthropic")["state"] == "disabled"
    assert goes_to(daemon) == "openrouter"
    assert daemon.ctl_json("enable", "anthropic")["type"] == "done"
    assert goes_to(daemon) == "anthropic"


@pytest.mark.parametrize(
    "command", ["use nobody", "cooldown nobody 1h", "reset nobody", "enable nobody", "disable nobody"]
)
def test_an_unknown_provider_is_the_daemons_error_and_names_the_known(daemon: Daemon, command: str) -> None:
    run = daemon.ctl(*command.split())
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr == "rlmctl: there is no provider 'nobody'; there are: anthropic, openrouter.\n"


def test_reload_takes_a_new_configuration_and_refuses_a_bad_one(daemon: Daemon) -> None:
    daemon.write_config('[[provider]]\nid = "other"\nmodels = ["m"]\n')
    assert daemon.ctl_json("reload")["type"] == "done"
    assert [p["id"] for p in daemon.status()["providers"]] == ["other"]
    daemon.write_config('[[provider]]\nid = "other"\nmodles = ["m"]\n')
    run = daemon.ctl("reload")
    assert (run.returncode, run.stdout) == (1, "")
    assert "Did you mean models?" in run.stderr
    assert [p["id"] for p in daemon.status()["providers"]] == ["other"]


def test_log_tells_what_was_done(daemon: Daemon) -> None:
    daemon.ctl("disable", "anthropic")
    run = daemon.ctl("log", "--since", "1h")
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.splitlines()[-1].endswith("anthropic is disabled by hand")
    events = daemon.ctl_json("log")["events"]
    assert events[-1]["provider"] == "anthropic"
    assert daemon.ctl("log", "--since", "yesterday").returncode == 2


def test_log_follows(daemon: Daemon) -> None:
    import subprocess
    import sys

    command = [sys.executable, "-m", "rlmctl", "log", "--follow", "--json"]
    with subprocess.Popen(
        command, env=daemon.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout
        assert run.stderr
        daemon.ctl("disable", "anthropic")
        assert "anthropic is disabled" in run.stdout.readline()
        daemon.ctl("enable", "anthropic")
        assert "anthropic is enabled" in run.stdout.readline()
        daemon.end()
        assert "stopped or died" in run.stderr.read()
    assert run.returncode == 3


@pytest.mark.parametrize(
    "typed",
    [
        "use antropic",
        "enable antropic",
        "disable antropic",
        "reset antropic",
        "cooldown antropic 1h",
        "history --provider antropic",
        "history --provider antropic --json",
        "limits suggest --provider antropic",
    ],
)
def test_a_mistyped_provider_is_told_the_nearest(daemon: Daemon, typed: str) -> None:
    run = daemon.ctl(*typed.split())
    assert (run.returncode, run.stdout) == (1, "")
    assert "there is no provider 'antropic'; did you mean 'anthropic'? There are: anthropic, openrouter." in run.stderr


@pytest.mark.parametrize(
    "typed",
    ["why claude-sonet-4-5", "wait claude-sonet-4-5", "use anthropic --model claude-sonet-4-5"],
)
def test_a_mistyped_model_is_told_the_nearest(daemon: Daemon, typed: str) -> None:
    run = daemon.ctl(*typed.split())
    assert (run.returncode, run.stdout) == (1, "")
    assert f"no provider serves 'claude-sonet-4-5'; did you mean '{MODEL}'? There are: {MODEL}." in run.stderr
