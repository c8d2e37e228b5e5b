"""With the shim and without it, side by side: whoever installs it has nothing less, daemon or not."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from aws import KEYS, refuse_bad_signatures
from opencode_home import MISSING, Daemon, OpenCode, Server, opencode_program, until
from wires import PACKAGES, SAID, Wires

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wires import Sent

pytestmark = pytest.mark.opencode

OURS = "rate_limit_status"
"""The one command that the shim adds."""
LISTS = (
    *(f"/api/{name}" for name in ("agent", "command", "integration", "model", "provider", "skill")),
    *("/agent", "/command", "/skill"),
)
NAMES = ("without", "unheard", "running")
"""Without the shim; with it, and its daemon is not there; with it and its daemon. All paths have the same length."""
CHANGING = {
    "id of a session, message or part": r"\b(?:ses|msg|prt)_\w+",
    "directory, by our own doing": "/" + f"(?:{'|'.join(NAMES)})" + "/",
    "port, by our own doing": r"127\.0\.0\.1:\d+",
    "time of the signature": r"\b\d{8}T\d{6}Z",
    "the signature, which is over these too": r"Signature=\w{64}",
}
"""What is different in each two requests, whoever sends them: its pattern in the request."""


def alike(text: str) -> str:
    """Return a text without what always changes."""
    for what, pattern in CHANGING.items():
        text = re.sub(pattern, f"<{what}>", text)
    return text


def as_text(sent: Sent) -> str:
    """Return a request as it went over the wire, its headers in their order, without what always changes."""
    head = [f"{sent.method} {sent.path}", *(f"{name}: {value}" for name, value in sent.headers)]
    return alike("\n".join([*head, "", sent.body.decode()]))


class Side(NamedTuple):
    """An OpenCode, and the providers that it alone asks."""

    server: Server
    wires: Wires

    def turns(self, provider: str, count: int) -> tuple[list[str], list[str]]:
        """Have a new session say hello so often. Returns the answers, and the requests that it took."""
        session = self.server.session()
        answers = [self.server.say(session, "hello", f"{provider}/m-{provider}") for _ in range(count)]
        return answers, [as_text(sent) for sent in self.wires.requests if sent.provider == provider]

    def lists(self) -> dict[str, list[Any]]:
        """Return what its API lists, the newer one and the older."""
        found = {path: json.loads(alike(json.dumps(self.server.get(path)))) for path in LISTS}
        return {path: one["data"] if path.startswith("/api/") else one for path, one in found.items()}


@pytest.fixture(scope="module")
def sides() -> Iterator[dict[str, Side]]:
    """Three OpenCodes that differ in the shim alone, by name."""
    program = opencode_program()
    if program is None:
        pytest.skip(MISSING)
    directory = Path(tempfile.mkdtemp(prefix="rlmd-"))
    with ExitStack() as stack, ThreadPoolExecutor() as pool:
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        daemon = Daemon(
            directory, "".join(f'[[provider]]\nid = "{name}"\nmodels = ["m-{name}"]\n' for name in PACKAGES)
        )
        stack.callback(daemon.kill)
        daemon.start()

        def begin(name: str) -> Side:
            wires = stack.enter_context(Wires(refuse_bad_signatures))
            opencode = OpenCode(program, directory / name, None)
            opencode.environ.update(KEYS)
            opencode.use(wires.entries(), "anthropic/m-anthropic")
            if name != "without":
                opencode.install_shim(daemon)
            if name == "unheard":
                opencode.environ["RLMD_SOCKET"] = str(directory / "nobody.sock")
            return Side(stack.enter_context(opencode.serve()), wires)

        yield dict(zip(NAMES, pool.map(begin, NAMES), strict=True))


@pytest.mark.parametrize("provider", PACKAGES)
def test_no_request_differs_from_what_it_is_without_the_shim(provider: str, sides: dict[str, Side]) -> None:
    with ThreadPoolExecutor() as pool:
        told = dict(zip(NAMES, pool.map(lambda name: sides[name].turns(provider, 2), NAMES), strict=True))

    for name, (answers, requests) in told.items():
        assert sides[name].wires.refusals == [], name  # Amazon's, to a request whose signature does not hold
        assert answers == [SAID, SAID], name
        assert requests == told["without"][1], name


def test_the_server_lists_what_it_lists_without_the_shim_and_one_command_of_ours(sides: dict[str, Side]) -> None:
    without = sides["without"]
    until(lambda: all(without.lists().values()))  # they fill up when they are first asked for
    wanted = without.lists()
    for name in NAMES[1:]:
        with suppress(AssertionError):
            until(lambda name=name: others(sides[name].lists()) == wanted, patience=20)  # type: ignore[misc]
        found = sides[name].lists()
        assert others(found) == wanted, name
        assert [command["name"] for command in found["/command"] if command["name"] == OURS] == [OURS]


def others(lists: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Return the lists without what is ours."""
    return {path: [one for one in found if one.get("name") != OURS] for path, found in lists.items()}
