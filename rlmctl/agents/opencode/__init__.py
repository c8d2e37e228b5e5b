"""OpenCode: its shim (`rlmd.ts`, `rlmd/`), what puts it in place and takes it out, what is to be said of both."""

from rlmctl.agents.opencode.findings import findings
from rlmctl.agents.opencode.install import Found, inspect, install, other_ways, uninstall
from rlmctl.agents.opencode.predecessor import offers
from rlmctl.agents.opencode.versions import NotServedError

__all__ = ["Found", "NotServedError", "findings", "inspect", "install", "offers", "other_ways", "uninstall"]
