"""OpenCode: its shim (`rlmd.ts`) and what puts it in place, finds it and takes it out again (`install.py`)."""

from rlmctl.agents.opencode.install import Found, inspect, install, uninstall

__all__ = ["Found", "inspect", "install", "uninstall"]
