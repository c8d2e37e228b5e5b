"""The real OpenCode 2.x in a home of its own. What it has in common with 1.x is in `opencode_home`."""

# mypy: disable-error-code="explicit-override"
# (typing.override is 3.12's.)

from __future__ import annotations

import base64
import os
from typing import TYPE_CHECKING, Any

import opencode_home
from opencode_home import MODELS, MODULES, Run

if TYPE_CHECKING:
    from pathlib import Path

    from rlmctl.demo.providers import Providers

VERSION = "2.0.15"
"""The OpenCode 2.x that all this was tried with."""
PACKAGE = "@opencode/cli-linux-x64-baseline"
MISSING = (
    f"OpenCode 2 is not here. To get it: npm install {PACKAGE}@{VERSION}, then set OPENCODE2_BIN to "
    f"node_modules/{PACKAGE}/bin/opencode"
)
PASSWORD = "loopback"


def opencode_program() -> str | None:
    """Return the OpenCode 2.x to test with, if there is one."""
    if chosen := os.environ.get("OPENCODE2_BIN"):
        return chosen
    installed = sorted(MODULES.glob("@opencode/cli-*/bin/opencode"))
    return next((str(path) for path in installed if os.access(path, os.X_OK)), None)


class OpenCode(opencode_home.OpenCode):
    """OpenCode 2.x with three providers on loopback, in a project of its own."""

    generation = 2

    def __init__(self, program: str, directory: Path, providers: Providers) -> None:
        super().__init__(program, directory, providers)
        runtime = directory / "run"
        runtime.mkdir(mode=0o700)
        self.environ |= {"XDG_RUNTIME_DIR": str(runtime), "OPENCODE_PASSWORD": PASSWORD}

    def run(self, prompt: str = "hello", *words: str, title: bool = False) -> Run:
        """`opencode run` with a server of its own: without that word it leaves one behind."""
        return super().run(prompt, "--standalone", "--auto", *words, title=title)

    def screen_command(self) -> list[str]:
        """Return the words that start the screen."""
        return [self.program, "--standalone"]

    def serve(self, directory: Path | None = None) -> Server:
        """`opencode serve`."""
        return Server(self, directory)


class Server(opencode_home.Server):
    """One running `opencode serve` of 2.x."""

    def session(self, title: str = "a test", directory: Path | None = None) -> str:
        """Open a session and return its id. One without a title asks a model for one."""
        place: dict[str, Any] = {"location": {"directory": str(directory or self.project)}}
        return str(self._post("/api/session", place | ({"title": title} if title else {}))["data"]["id"])

    def say(self, session: str, prompt: str, model: str | None = None) -> str:
        """Have a prompt answered, by `provider/model` where that is given. Returns the text."""
        if model is not None:
            self.choose(session, model.split("/")[0])
        self.begin(session, prompt)
        self.wait(session)
        last = [message for message in self.messages(session) if message["type"] == "assistant"][-1:]
        parts = [part for message in last for part in message["content"]]
        return "".join(part["text"] for part in parts if part["type"] == "text")

    def begin(self, session: str, prompt: str) -> None:
        """Send a prompt, and wait for nothing."""
        self._post(f"/api/session/{session}/prompt", {"text": prompt})

    def wait(self, session: str) -> None:
        """Wait until a session does nothing more."""
        self._post(f"/api/experimental/session/{session}/wait", {})

    def command(self, session: str, name: str) -> None:
        """Enter a slash command."""
        self._post(f"/api/session/{session}/command", {"name": name, "text": ""})

    def messages(self, session: str) -> list[dict[str, Any]]:
        """Return what is stored of a session, oldest first."""
        found: list[dict[str, Any]] = self.get(f"/api/session/{session}/message")["data"]
        return found[::-1]

    def assert_clean(self, session: str, turns: int = 1) -> None:
        """See to it that a session's history is what it would be if no limit had been met."""
        messages = self.messages(session)
        assert [message["type"] for message in messages].count("user") == turns
        assert [message for message in messages if message["type"] == "synthetic"] == []
        for answer in (message for message in messages if message["type"] == "assistant"):
            assert "error" not in answer
            assert answer["finish"] in {"stop", "tool-calls"}
            kinds = [part["type"] for part in answer["content"]]
            assert kinds.count("text") == (answer["finish"] == "stop"), answer["content"]
            calls = [part for part in answer["content"] if part["type"] == "tool"]
            assert bool(calls) == (answer["finish"] == "tool-calls")
            assert all(call["state"]["status"] == "completed" for call in calls)

    def answered_by(self, session: str) -> list[str]:
        """Return the providers under which a session's answers are stored."""
        answers = [message for message in self.messages(session) if message["type"] == "assistant"]
        return [answer["model"]["providerID"] for answer in answers]

    def children(self, session: str) -> list[str]:
        """Return the ids of a session's sub-agents."""
        told = self.get("/api/session")["data"]
        return [str(one["id"]) for one in told if one.get("parentID") == session]

    def model(self, session: str) -> dict[str, Any]:
        """Return the model that a session is on."""
        found: dict[str, Any] = self.get(f"/api/session/{session}")["data"].get("model", {})
        return found

    def choose(self, session: str, provider: str, **more: str) -> None:
        """Choose a session's model, as a person does."""
        self._post(
            f"/api/session/{session}/model",
            {"model": {"providerID": provider, "id": MODELS[provider], **more}},
        )

    def summarize(self, session: str) -> None:
        """Have a session compacted, as `/compact` does."""
        self._post(f"/api/session/{session}/compact", {})
        self.wait(session)

    def abort(self, session: str) -> None:
        """Stop what a session does, as a person's Escape."""
        self._post(f"/api/session/{session}/interrupt", {})

    def _headers(self) -> dict[str, str]:
        word = base64.b64encode(f"opencode:{PASSWORD}".encode()).decode()
        return {"authorization": f"Basic {word}"}
