"""A newer version takes over from an older one, and agents go on working meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agents import OLD, Agents, older_rlmd

from ctl.person import MODEL
from rlmd import __version__

if TYPE_CHECKING:
    from ctl.person import Place

CONFIG = f'[[provider]]\nid = "anthropic"\nmodels = ["{MODEL}"]\n'
"""No limit: what is counted has no hour to begin anew with."""


def test_setup_replaces_daemon_and_shim_and_a_restart_the_daemon_without_losing_a_report(place: Place) -> None:
    place.write_config(CONFIG)
    opencode = place.home / ".config" / "opencode"
    opencode.mkdir(parents=True)
    older = str(older_rlmd(place.root / "older"))
    assert place.ctl("setup", "--yes", PYTHONPATH=older).returncode == 0
    shim = opencode / "plugins" / "rlmd.ts"
    assert (place.status()["daemon"]["version"], OLD in shim.read_text()) == (OLD, True)
    with Agents(place.paths.socket, "anthropic", MODEL) as agents:
        run = place.ctl("setup", "--yes")
        assert run.returncode == 0, run.stderr
        assert (place.status()["daemon"]["version"], OLD in shim.read_text()) == (__version__, False)
        for _ in range(3):
            before = agents.recorded
            assert place.ctl("restart").returncode == 0
    assert agents.recorded > before
    provider = place.status()["providers"][0]
    assert (provider["request_count"], provider["in_flight"]) == (agents.recorded, 0)
