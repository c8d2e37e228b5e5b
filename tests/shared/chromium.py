"""A headless Chromium, steered over a pipe: no port, no library, no profile, nothing it asks of any host."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import Self

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)


def find_chromium() -> str | None:
    """Return the program; `CHROMIUM_BIN` names it where it has another name."""
    names = (os.environ.get("CHROMIUM_BIN"), "chromium", "chromium-browser", "google-chrome", "chrome")
    return next((found for name in names if name and (found := shutil.which(name))), None)


class Chromium:
    """One browser with one page."""

    def __init__(self, program: str) -> None:
        self._home = tempfile.TemporaryDirectory(prefix="rlmd-chromium-", ignore_cleanup_errors=True)
        theirs, self._write = os.pipe()
        self._read, ours = os.pipe()
        # Chromium reads at 3 and writes at 4. Both are moved out of each other's way first.
        command = ["bash", "-c", f'exec 3<&{theirs} 4>&{ours}; exec "$@"', "-", program, *FLAGS]
        self._process = subprocess.Popen(
            [*command, f"--user-data-dir={self._home.name}", "about:blank"],
            pass_fds=(theirs, ours),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"HOME": self._home.name},
        )
        os.close(theirs)
        os.close(ours)
        self._rest = b""
        self._sent = 0
        self._session: str | None = None
        self.requests: list[str] = []
        """Addresses that the page had looked up or tried to."""
        self.errors: list[str] = []
        """What went wrong in its scripts, and what its policy kept out."""

    def __enter__(self) -> Self:
        target = next(one for one in self.ask("Target.getTargets")["targetInfos"] if one["type"] == "page")
        attached = self.ask("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.ask(f"{domain}.enable")
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._write)
        os.close(self._read)
        self._process.terminate()
        self._process.wait()
        self._home.cleanup()

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """Send one command and return its result."""
        self._sent += 1
        message = {"id": self._sent, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        for heard in self._messages():
            if heard.get("id") == self._sent:
                assert "error" not in heard, heard
                result: dict[str, Any] = heard["result"]
                return result
        raise AssertionError("Chromium went away")

    def show(self, file: Path, width: int, height: int = 900, scheme: str = "light") -> None:
        """Open a file on a screen of this size, dark or light."""
        mobile = width < 500
        size = {"width": width, "height": height, "deviceScaleFactor": 2 if mobile else 1, "mobile": mobile}
        self.ask("Emulation.setDeviceMetricsOverride", **size)
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.requests.clear()
        self.errors.clear()
        self.ask("Page.navigate", url=file.as_uri())
        self.until(lambda: self.run("document.readyState") == "complete")

    def run(self, script: str) -> Any:
        """Evaluate an expression in the page."""
        result = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def until(self, true: Callable[[], bool]) -> None:
        """Wait for two frames at a time until something is true."""
        for _ in range(300):
            if true():
                return
            self.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")
        raise AssertionError("the page does not get there")

    def picture(self, file: Path, height: float | None = None) -> None:
        """Write a picture of the page: its upper part, or all of it."""
        size = self.ask("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": height or size["height"], "scale": 1}
        taken = self.ask("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(taken["data"]))

    def _messages(self) -> Iterator[dict[str, Any]]:
        while data := os.read(self._read, 65536):
            *whole, self._rest = (self._rest + data).split(b"\0")
            for line in whole:
                message = json.loads(line)
                self._note(message)
                yield message

    def _note(self, message: dict[str, Any]) -> None:
        params = message.get("params", {})
        match message.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
            case "Runtime.exceptionThrown":
                self.errors.append(params["exceptionDetails"]["text"])
            case "Log.entryAdded" if params["entry"]["level"] == "error":
                self.errors.append(params["entry"]["text"])
