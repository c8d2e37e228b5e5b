"""A newer version takes over from an older one under systemd, and agents never meet a closed door."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agents import OLD, Agents, older_rlmd
from usermanager import MODEL

from rlmd import __version__

if TYPE_CHECKING:
    from usermanager import Person

CONFIG = f'[[provider]]\nid = "anthropic"\nmodels = ["{MODEL}"]\n'
"""No limit: what is counted has no hour to begin anew with."""


def test_setup_replaces_daemon_shim_and_units_and_loses_no_report(person: Person) -> None:
    older = person.installation("older", older_rlmd(person.home / "source"))
    shim = person.home / ".config" / "opencode" / "plugins" / "rlmd.ts"
    unit = person.units / "rlmd.service"
    person.write(person.paths.config, CONFIG)
    person.write(shim.parents[1] / "opencode.json", "{}")
    run = person.run(older, "-m", "rlmctl", "setup", "--yes")
    assert run.code == 0, run
    assert person.ask("status")["daemon"]["version"] == OLD
    assert OLD in shim.read_text()
    assert "WatchdogSec=90" in unit.read_text()
    with Agents(person.paths.socket, "anthropic", MODEL) as agents:
        run = person.ctl("setup", "--yes")
        assert run.code == 0, run
        assert person.ask("status")["daemon"]["version"] == __version__
        assert OLD not in shim.read_text()
        assert "WatchdogSec=60" in unit.read_text()
        before = agents.recorded
        assert person.ctl("restart").code == 0
    assert agents.recorded > before
    assert agents.absent == 0
    provider = person.ask("status")["providers"][0]
    assert (provider["request_count"], provider["in_flight"]) == (agents.recorded, 0)
