"""What the daemon that runs says of itself: its version, its file, its targets, and the agents that ask it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from rlmctl.doctor import Check

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rlmd.paths import Paths

SLACK = 2.0
"""Seconds: when a process began is known by the boot's clock, which may differ a little."""
AGAIN = "end that OpenCode and start it again"


def daemon(paths: Paths, told: dict[str, Any]) -> Iterator[Check]:
    """Check the daemon by what it told of itself in `status`."""
    from rlmd import __version__

    yield Check("daemon", "ok", f"process {told['pid']} answers, agents connected: {told['agents']}")
    ours, theirs = __version__, told["version"]
    if ours == theirs:
        yield Check("version", "ok", f"{ours}, daemon and rlmctl alike")
    else:
        yield Check("version", "wrong", f"the daemon still runs {theirs}, installed is {ours}", "rlmctl restart")
    if told["config"] != str(paths.config):
        meaning = f"the daemon reads {told['config']}, this shell means {paths.config}"
        yield Check("daemon's file", "warning", meaning, "set RLMD_CONFIG alike for both, then: rlmctl restart")
    if told["config_error"]:
        yield Check("daemon's file", "wrong", f"the daemon refused it: {told['config_error']}", "rlmctl reload")
    yield from _notifications(paths, told)
    yield from _agents(paths, told)


def _notifications(paths: Paths, told: dict[str, Any]) -> Iterator[Check]:
    for target in told["notify"]:
        waiting = f", waiting: {target['waiting']}" if target["waiting"] else ""
        if target["ok"] is False:
            meaning = f"{target['target']} gets none: {target['error']}{waiting}"
            yield Check("notifications", "wrong", meaning, "mend its address under [notify], then: rlmctl notify test")
        else:
            how = "took the last one" if target["ok"] else "has not been tried since the daemon started"
            yield Check("notifications", "ok", f"{target['target']} {how}{waiting}")
    if os.environ.get("SLACK_WEBHOOK") and not told["notify"]:
        meaning = "SLACK_WEBHOOK is set in this shell, and the daemon does not know of it"
        mend = f"rlmctl restart; under systemd write it into {paths.config.parent}/environment before that"
        yield Check("notifications", "warning", meaning, mend)


def _agents(paths: Paths, told: dict[str, Any]) -> Iterator[Check]:
    """Check that every OpenCode that runs has the shim of this version loaded."""
    from rlmctl.agents.opencode import inspect
    from rlmctl.daemon.processes import unconnected
    from rlmd import __version__

    for client in told["clients"]:
        if client["client"] == "opencode-shim" and client["version"] != __version__:
            where = f" in {client['directory']}" if client["directory"] else ""
            meaning = f"process {client['pid']}{where} has the shim of {client['version']} loaded"
            yield Check("OpenCode", "warning", meaning, AGAIN)
    placed = max((shim.path.stat().st_mtime for shim in inspect()), default=None)
    connected = {client["pid"] for client in told["clients"] if client["pid"]}
    for process in unconnected("opencode", connected, paths.socket):
        where = f" in {process.directory}" if process.directory else ""
        meaning = f"process {process.pid}{where} does not ask the daemon"
        mend = f"rlmctl install opencode; then {AGAIN}"
        if placed is not None:
            # OpenCode loads its plugins with the first prompt, not when its screen comes up.
            mend = AGAIN if process.since + SLACK < placed else f"nothing, if it was asked nothing yet; else {AGAIN}"
        yield Check("OpenCode", "warning", meaning, mend)
