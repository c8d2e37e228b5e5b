"""What OpenCode offers its clients is the same with the shim as without it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from opencode_home import until

if TYPE_CHECKING:
    from opencode_home import Daemon, OpenCode, Server

pytestmark = [pytest.mark.opencode, pytest.mark.generations(1, 2)]

LISTS = ("model", "provider", "agent", "command", "skill", "integration")


def offered(opencode: OpenCode) -> dict[str, list[str]]:
    """Return the names on each list of `/api/*`, once a turn has made OpenCode fill them."""
    with opencode.serve() as server:
        server.say(server.session(), "hello")
        until(lambda: bool(_names(server, "model")), 10)
        return {name: _names(server, name) for name in LISTS}


def _names(server: Server, name: str) -> list[str]:
    found: Any = server.get(f"/api/{name}?directory={server.project}")
    return sorted(str(one.get("id") or one.get("name")) for one in found["data"])


def test_the_lists_of_the_server_are_complete(bare_opencode: OpenCode, daemon: Daemon) -> None:
    without = offered(bare_opencode)
    bare_opencode.install_shim(daemon)

    assert offered(bare_opencode) == without
    assert "m1" in without["model"]
