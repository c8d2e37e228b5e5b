"""A terminal with OpenCode's screen in it, driven key by key."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING

from opencode_home import PATIENCE, until

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

    from opencode_home import OpenCode

MISSING = "tmux is not here, so OpenCode's screen cannot be driven. To get it: apt-get install tmux"
COLUMNS = 110


def has_terminal() -> bool:
    """Return whether a screen can be driven here."""
    return shutil.which("tmux") is not None


class Screen:
    """OpenCode's screen in a tmux of its own. Used as a context, it is there from start to end."""

    def __init__(self, home: OpenCode, rows: int = 45) -> None:
        self._home = home
        self._rows = rows
        self._socket: Path = home.directory / "tmux"

    def __enter__(self) -> Self:
        size = ("-x", str(COLUMNS), "-y", str(self._rows))
        started = ("-f", "/dev/null", "new-session", "-d", *size, "-c", str(self._home.project))
        self._tmux(*started, *self._home.screen_command(), env={**self._home.environ, "TERM": "xterm-256color"})
        self.wait_for("Ask anything")
        return self

    def __exit__(self, *_: object) -> None:
        self._tmux("kill-server")

    def keys(self, *keys: str) -> None:
        """Press keys, by tmux's names; other words are typed."""
        self._tmux("send-keys", *keys)

    def type(self, words: str, shown: str = "") -> str:
        """Type into the prompt until it stands there, and with it what is to be `shown`.

        A screen that has just come up forgets what is typed before its plugins are there.
        """
        for _ in range(6):
            self.keys("C-u", words)
            try:
                until(lambda: words in self.text and shown in self.text, 15)
            except AssertionError:
                continue
            return self.text
        raise AssertionError(f"{words!r} cannot be typed:\n{self.text}")

    def enter(self, *shown: str) -> str:
        """Press Enter until all that it brings stands there: a busy screen may lose a key."""
        for _ in range(3):
            self.keys("Enter")
            with suppress(AssertionError):
                return self.wait_for(*shown, patience=20)
        return self.wait_for(*shown)

    @property
    def text(self) -> str:
        """What stands on it now."""
        return self._tmux("capture-pane", "-p")

    def wait_for(self, *words: str, patience: float = PATIENCE) -> str:
        """Wait until all these words stand on it."""
        try:
            until(lambda: all(word in self.text for word in words), patience)
        except AssertionError:
            raise AssertionError(f"{words} did not come to stand on the screen:\n{self.text}") from None
        return self.text

    def wait_without(self, word: str) -> None:
        """Wait until this word stands on it no more."""
        until(lambda: word not in self.text)

    def _tmux(self, *words: str, env: dict[str, str] | None = None) -> str:
        command = ["tmux", "-S", str(self._socket), *words]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout
