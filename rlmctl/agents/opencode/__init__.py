"""OpenCode: its shim (`rlmd.ts`, `rlmd/`), what puts it in place and takes it out, what is to be said of both."""

from rlmctl.agents.opencode.findings import findings
from rlmctl.agents.opencode.install import Found, inspect, install, uninstall
from rlmctl.agents.opencode.predecessor import offers

__all__ = ["Found", "findings", "inspect", "install", "offers", "uninstall"]
