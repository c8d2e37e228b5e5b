"""wait: returns when a provider can serve a model, driven by events and the named time, and gives up at the timeout."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from ctl.person import MODEL

if TYPE_CHECKING:
    from ctl.person import Daemon


@pytest.fixture
def limited(daemon: Daemon) -> Daemon:
    """A daemon whose two providers rest for an hour."""
    for name in ("anthropic", "openrouter"):
        assert daemon.ctl("cooldown", name, "1h").returncode == 0
    return daemon


def waiting(daemon: Daemon, *arguments: str) -> subprocess.Popen[str]:
    """Begin to wait, and return once it has said so."""
    run = subprocess.Popen(
        [sys.executable, "-m", "rlmctl", "wait", MODEL, *arguments],
        env=daemon.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert run.stderr
    assert run.stderr.readline().endswith("; waiting\n")
    return run


def test_available_is_at_once(daemon: Daemon) -> None:
    run = daemon.ctl("wait", MODEL)
    assert (run.returncode, run.stdout, run.stderr) == (0, "the next request goes to anthropic\n", "")
    told = daemon.ctl_json("wait", MODEL)
    assert told.pop("waited_ms") < 5000
    assert told == {
        "model": MODEL,
        "available": True,
        "provider": "anthropic",
        "retry_at": None,
        "message": "the next request goes to anthropic",
    }


def test_at_the_timeout_it_gives_up_and_names_the_time(limited: Daemon) -> None:
    run = limited.ctl("wait", MODEL, "--timeout", "100ms")
    assert (run.returncode, run.stdout) == (1, "")
    assert f"rlmctl: nobody can serve {MODEL} before " in run.stderr
    assert run.stderr.endswith(f"\n  mend: rlmctl why {MODEL}\n")
    run = limited.ctl("wait", MODEL, "--timeout", "0s", "--json")
    assert (run.returncode, run.stderr) == (1, "")
    told = json.loads(run.stdout)
    assert (told["available"], told["provider"]) == (False, None)
    candidates = limited.ctl_json("why", MODEL)["candidates"]
    assert told["retry_at"] == min(c["until"] for c in candidates)


@pytest.mark.parametrize(
    "order", [("reset", "openrouter", "--cooldowns"), ("reset",)], ids=["one comes back", "all come back"]
)
def test_what_a_person_does_elsewhere_ends_the_wait(limited: Daemon, order: tuple[str, ...]) -> None:
    with waiting(limited) as run:
        assert limited.ctl(*order).returncode == 0
        assert run.wait(20) == 0


def test_a_provider_that_is_disabled_is_waited_for_until_it_is_enabled(daemon: Daemon) -> None:
    for name in ("anthropic", "openrouter"):
        daemon.ctl("disable", name)
    with waiting(daemon) as run:
        daemon.ctl("enable", "openrouter")
        assert run.wait(20) == 0
        assert run.stdout
        assert run.stdout.read() == "the next request goes to openrouter\n"


def test_the_named_time_ends_the_wait(limited: Daemon) -> None:
    with limited.connect() as client:
        client.request("reset", provider="openrouter", what="cooldowns")
        client.request("cooldown", provider="openrouter", for_ms=400)
    told = limited.ctl_json("wait", MODEL, "--timeout", "20s")
    assert (told["available"], told["provider"]) == (True, "openrouter")


def test_a_request_that_was_refused_gives_its_place_to_who_waits(daemon: Daemon) -> None:
    daemon.write_config(f'[[provider]]\nid = "anthropic"\nmodels = ["{MODEL}"]\nhourly_limit = 1\n')
    assert daemon.ctl("reload").returncode == 0
    with daemon.connect() as agent:
        use = agent.request("acquire", provider="anthropic", model=MODEL)
        with waiting(daemon) as run:
            agent.request("report", provider="anthropic", model=MODEL, lease=use["lease"], outcome="error", status=400)
            assert run.wait(20) == 0


def test_a_daemon_that_dies_meanwhile_is_said_to_be_gone(limited: Daemon) -> None:
    with waiting(limited) as run:
        killed = threading.Timer(0, limited.process.kill)
        killed.start()
        assert run.wait(20) == 3
        assert run.stderr
        assert run.stderr.read().endswith("  mend: rlmctl start\n")


def test_a_model_that_nobody_serves_is_told_the_nearest(daemon: Daemon) -> None:
    run = daemon.ctl("wait", "claude-sonet-4-5")
    assert run.returncode == 1
    assert f"did you mean '{MODEL}'?" in run.stderr
