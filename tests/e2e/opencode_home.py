"""A real OpenCode in a home of its own and a real daemon, for tests that let them work together.

Nothing here reads or touches what belongs to the person who runs the tests, and nothing leaves the loopback.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rlmctl.agents import opencode
from rlmctl.demo.opencode_home import OpenCodeHome, provider
from rlmd.client.connection import Client, DaemonUnreachableError
from rlmd.paths import Paths, resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Self

    from rlmctl.demo.providers import Providers

VERSION = "1.18.33"
"""The OpenCode that all this was tried with."""
MISSING = (
    f"OpenCode is not here. To get it: npm install opencode-ai@{VERSION}, then set OPENCODE_BIN to "
    "node_modules/opencode-<platform>/bin/opencode"
)
MODULES = Path(__file__).parents[1] / "shim" / "node_modules"
PATIENCE = 60.0

WIRES = {"A": "anthropic", "B": "openai", "C": "anthropic"}
MODELS = {"A": "m1", "B": "m2", "C": "m3"}


def opencode_program() -> str | None:
    """Return the OpenCode to test with, if there is one."""
    if chosen := os.environ.get("OPENCODE_BIN") or shutil.which("opencode"):
        return chosen
    installed = sorted(MODULES.glob("opencode-*/bin/opencode"), key=lambda path: len(path.parts[-3]))
    return next((str(path) for path in installed if os.access(path, os.X_OK)), None)


def until(question: Callable[[], bool], patience: float = PATIENCE) -> None:
    """Wait until the answer is true."""
    end = time.monotonic() + patience
    while not question():
        if time.monotonic() > end:
            raise AssertionError(f"still not so after {patience} s")
        time.sleep(0.02)


def configuration(*providers: str, top: str = "", agent: str = "", **limits: int) -> str:
    """Return a configuration with these providers, best first; a limit is hourly, of requests.

    The shim waits for the daemon even where the machine is too busy for both.
    """
    text = top + "\n"
    for priority, name in enumerate(providers, 1):
        text += f'[[provider]]\nid = "{name}"\npriority = {priority}\n'
        text += f"hourly_limit = {limits.get(name, 100)}\n"
        text += f'[provider.models]\n"the-model" = "{MODELS[name]}"\n'
    return text + f'[agent]\ndaemon_timeout = "5s"\n{agent}\n'


class Daemon:
    """A daemon of its own, in a directory whose name is short enough for a socket."""

    def __init__(self, directory: Path, config: str) -> None:
        variables = {"RLMD_CONFIG": "config.toml", "RLMD_STATE_DIR": "state", "RLMD_SOCKET": "rlmd.sock"}
        self.environ = {name: str(directory / file) for name, file in variables.items()}
        self.paths: Paths = resolve(self.environ)
        self.paths.config.write_text(config)
        self.paths.config.chmod(0o600)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        log_file = self.paths.config.parent / "daemon.log"
        with log_file.open("ab") as log:
            process = self.process = subprocess.Popen(
                [sys.executable, "-m", "rlmd"],
                env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **self.environ},
                stdout=log,
                stderr=log,
            )
        until(lambda: self.answers() or process.poll() is not None)
        assert process.poll() is None, log_file.read_text()

    def answers(self) -> bool:
        """Whether it does so now."""
        try:
            self.ask("ping")
        except DaemonUnreachableError:
            return False
        return True

    def ask(self, op: str, **fields: Any) -> dict[str, Any]:
        """Ask it one thing."""
        with Client(self.paths.socket) as client:
            return client.request(op, **fields)

    def provider(self, name: str) -> dict[str, Any]:
        """Return what its status says about a provider."""
        status = self.ask("status")
        found: dict[str, Any] = next(one for one in status["providers"] if one["id"] == name)
        return found

    def counted(self) -> dict[str, tuple[int, int]]:
        """Return for each provider its requests of this hour and its errors."""
        status = self.ask("status")
        return {one["id"]: (_used(one), one["error_count"]) for one in status["providers"]}

    def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        """End it at once, without a word; a daemon that was stopped too."""
        if self.process is not None:
            self.process.send_signal(how)
            self.process.send_signal(signal.SIGCONT)
            self.process.wait()
            self.process = None

    def stop(self) -> None:
        """Let it hang: its socket takes connections, and nobody answers."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)


def _used(provider: dict[str, Any]) -> int:
    limits = (one for one in provider["limits"] if one["source"] == "config" and one["of"] == "requests")
    return int(next(limits)["used"])


def _append_to(heard: list[dict[str, Any]], response: Iterable[bytes]) -> None:
    with suppress(OSError, ValueError):  # its end comes in the middle of a read
        heard.extend(json.loads(line[5:]) for line in response if line.startswith(b"data:"))


def _of(message: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [part for part in message["parts"] if part["type"] == kind]


class Run(NamedTuple):
    """What one `opencode run` left."""

    code: int
    out: str
    err: str
    seconds: float


class OpenCode:
    """OpenCode in a project of its own, with three providers on loopback, or with those that a test gives it."""

    generation = 1

    def __init__(self, program: str, directory: Path, providers: Providers | None, *, version: str = VERSION) -> None:
        home = self._home = OpenCodeHome(directory, program, {}, version)
        self.program, self.directory, self.project, self.config = program, directory, home.project, home.config
        self.environ = home.environment
        if providers is not None:
            self.configure(providers, default="A")

    def use(self, table: dict[str, Any], model: str) -> None:
        """Write opencode.json with these entries of providers and this model by default."""
        self._home.configure(table, model)

    def configure(self, providers: Providers, default: str, **more: Any) -> None:
        """Write opencode.json: which provider a turn is meant for, and anything else."""
        table = {name: provider(wire, providers.url(name), [MODELS[name]]) for name, wire in WIRES.items()}
        for name, entry in table.items():
            entry["options"]["apiKey"] = f"key-{name}"
            entry["models"][MODELS[name]]["reasoning"] = True
        self._home.configure(table, f"{default}/{MODELS[default]}", **more)

    def install_shim(self, daemon: Daemon) -> None:
        """Put the shim in its place as `rlmctl install opencode` does."""
        self.daemon = daemon
        opencode.install(daemon.paths, environ={**self.environ, "OPENCODE_BIN": self.program})

    def run(self, prompt: str = "hello", *words: str, title: bool = False) -> Run:
        """`opencode run`. A session that has a title asks no model for one."""
        given = () if title else ("--title", "a test")
        began = time.monotonic()
        done = self._home.run(prompt, *words, *given, limit=PATIENCE)
        return Run(done.returncode, done.stdout.strip(), done.stderr.strip(), time.monotonic() - began)

    def command(self, name: str) -> Run:
        """`opencode run --command`."""
        return self.run("", "--command", name)

    def screen_command(self) -> list[str]:
        """Return the words that start the screen."""
        return [self.program]

    def serve(self, directory: Path | None = None) -> Server:
        """`opencode serve`: a process that lives on from turn to turn, as the screen's does."""
        return Server(self, directory)


class Server:
    """One running `opencode serve`."""

    def __init__(self, home: OpenCode, directory: Path | None = None) -> None:
        self.project = home.project
        self._log = (home.directory / "serve.log").open("w+")
        self._process = subprocess.Popen(
            [home.program, "serve", "--port", "0"],
            cwd=directory or home.project,
            env=home.environ,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        self._path = Path(self._log.name)
        try:
            until(lambda: "http://" in self._path.read_text())
        except AssertionError:
            self.__exit__()  # nobody else can: there will be no server to leave
            raise
        self._url = "http://" + self._path.read_text().split("http://")[1].split()[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
        self._log.close()

    @property
    def log(self) -> str:
        """What it wrote so far."""
        return self._path.read_text()

    def session(self, title: str = "a test") -> str:
        """Open a session and return its id. One without a title asks a model for one."""
        return str(self._post("/session", {"title": title} if title else {})["id"])

    def say(self, session: str, prompt: str, model: str | None = None) -> str:
        """Have a prompt answered, by another `provider/model` than the default one if given. Returns the text."""
        body: dict[str, Any] = {"parts": [{"type": "text", "text": prompt}]}
        if model is not None:
            body["model"] = dict(zip(("providerID", "modelID"), model.split("/", 1), strict=True))
        answer = self._post(f"/session/{session}/message", body)
        return "".join(part["text"] for part in answer["parts"] if part["type"] == "text")

    def command(self, session: str, name: str) -> None:
        """Enter a slash command."""
        self._post(f"/session/{session}/command", {"command": name, "arguments": ""})

    def get(self, path: str) -> Any:
        """Ask for something of the HTTP API."""
        request = urllib.request.Request(self._url + path, headers=self._headers())
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            return json.load(response)

    def messages(self, session: str) -> list[dict[str, Any]]:
        """Return what is stored of a session."""
        found: list[dict[str, Any]] = self.get(f"/session/{session}/message")
        return found

    def assert_clean(self, session: str, turns: int = 1) -> None:
        """See to it that a session's history is what it would be if no limit had been met.

        Every turn has one message of the person; every answer belongs to one, has ended well and says or does
        something that no other one did.
        """
        messages = self.messages(session)
        users = [message["info"]["id"] for message in messages if message["info"]["role"] == "user"]
        answers = [message for message in messages if message["info"]["role"] == "assistant"]
        assert len(users) == turns
        assert {answer["info"]["parentID"] for answer in answers} == set(users)
        said = []
        for answer in answers:
            assert "error" not in answer["info"]
            assert answer["info"]["finish"] in {"stop", "tool-calls"}
            assert answer["info"]["time"]["completed"]
            calls, texts = _of(answer, "tool"), [part for part in _of(answer, "text") if part["text"]]
            assert len(texts) == (answer["info"]["finish"] == "stop"), texts
            assert bool(calls) == (answer["info"]["finish"] == "tool-calls")
            assert all(call["state"]["status"] == "completed" for call in calls)
            said += [(answer["info"]["parentID"], text["text"]) for text in texts]
            said += [(answer["info"]["parentID"], str(call["state"]["input"])) for call in calls]
        assert len(said) == len(set(said))

    def answered_by(self, session: str) -> list[str]:
        """Return the providers under which a session's answers are stored."""
        told = [message["info"] for message in self.messages(session)]
        return [info["providerID"] for info in told if info["role"] == "assistant"]

    def children(self, session: str) -> list[str]:
        """Return the ids of a session's sub-agents."""
        return [str(child["id"]) for child in self.get(f"/session/{session}/children")]

    def texts(self, session: str) -> list[str]:
        """Return every text that a session shows."""
        return [part["text"] for message in self.messages(session) for part in _of(message, "text")]

    def summarize(self, session: str) -> None:
        """Have a session compacted, as `/compact` does."""
        self._post(f"/session/{session}/summarize", {"providerID": "A", "modelID": MODELS["A"]})

    @contextmanager
    def events(self) -> Iterator[list[dict[str, Any]]]:
        """Collect what it tells its clients while a `with` block lasts."""
        heard: list[dict[str, Any]] = []
        response = urllib.request.urlopen(f"{self._url}/event", timeout=PATIENCE)
        threading.Thread(target=_append_to, args=(heard, response), daemon=True).start()
        until(lambda: bool(heard))
        yield heard

    def abort(self, session: str) -> None:
        """Stop what a session does, as a person's Escape."""
        self._post(f"/session/{session}/abort", {})

    def _headers(self) -> dict[str, str]:
        """Return what lets a client in."""
        return {}

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        headers = {"content-type": "application/json", **self._headers()}
        request = urllib.request.Request(self._url + path, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            answer = json.loads(response.read() or b"{}")
            return answer if isinstance(answer, dict) else {}
