"""A blocking client of the daemon's socket, small enough for anyone's script.

Owns the framing of one connection and says what went wrong on it; knows no operation and no path of its own.
It imports json and socket, because every status line and prompt pays for what is imported here.

    with Client("/path/to/rlmd.sock") as daemon:
        print(daemon.request("status")["text"])
"""

from __future__ import annotations

import json
import socket
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Iterator
    from typing import Any, Self

DEADLINE = 5.0
"""Seconds that a request may take. An answer takes well under one millisecond; a waking disk takes longer."""

GLANCE = 0.01
"""Seconds between attempts to connect where many want to."""


class DaemonUnreachableError(Exception):
    """Nothing answers at the socket. `mend` is the command that changes this."""

    def __init__(self, message: str, mend: str) -> None:
        super().__init__(message)
        self.mend = mend


class DaemonNotRunningError(DaemonUnreachableError):
    """There is no daemon, or no longer one. `absent` means that there was none to begin with."""

    def __init__(self, message: str, *, absent: bool = False) -> None:
        super().__init__(message, "rlmctl start")
        self.absent = absent


class DaemonHangsError(DaemonUnreachableError):
    """There is a daemon, but it does not answer in time."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "rlmctl restart")


class DaemonRefusedError(Exception):
    """The daemon answered with an error, whose message says what to do about it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.mend = "" if code in {"not_found", "bad_request", "unknown_op"} else "rlmctl doctor"


class Client:
    """One connection. A request sends one line and waits for its reply, `deadline` seconds at most."""

    def __init__(self, path: str | os.PathLike[str], deadline: float = DEADLINE) -> None:
        self.path = str(path)
        self.deadline = deadline
        self._sent = 0
        self._rest = b""
        self._events: list[dict[str, Any]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(deadline)
        try:
            self._connect(time.monotonic() + deadline)
        except OSError as error:
            self._socket.close()
            raise self._unreachable(error) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    def fileno(self) -> int:
        """Return the descriptor to wait on for what the daemon sends by itself."""
        return self._socket.fileno()

    def request(self, op: str, **fields: Any) -> dict[str, Any]:
        """Send one request and return its reply without the id. A field that is None is left out.

        Raises `DaemonRefusedError` for an error reply and `DaemonUnreachableError` where none comes.
        """
        self._sent += 1
        given = {name: value for name, value in fields.items() if value is not None}
        line = json.dumps({"op": op, "id": self._sent, **given}) + "\n"
        until = time.monotonic() + self.deadline
        try:
            try:
                self._socket.sendall(line.encode())
            except BrokenPipeError:  # it has hung up: why is what it has said already
                until = time.monotonic() + GLANCE
            while not self._answers(message := self._receive(until)):
                pass
        except OSError as error:
            raise self._unreachable(error) from None
        if message.get("type") == "error":
            raise DaemonRefusedError(message["code"], message["message"])
        del message["id"]
        return message

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield the events pushed after a `subscribe`, for as long as the daemon lives."""
        while (event := self.event()) is not None:
            yield event

    def event(self, within: float | None = None) -> dict[str, Any] | None:
        """Wait for the next event, `within` seconds or for ever; None where none came in that time."""
        if self._events:
            return self._events.pop(0)
        try:
            return self._receive(None if within is None else time.monotonic() + within)
        except TimeoutError:
            return None
        except OSError as error:
            raise self._unreachable(error) from None

    def _connect(self, until: float) -> None:
        """Connect, in turn where many do: a queue that is full says so at once."""
        while True:
            try:
                self._socket.connect(self.path)
            except BlockingIOError:
                if time.monotonic() > until:
                    raise TimeoutError from None
                time.sleep(GLANCE)
            else:
                return

    def _answers(self, message: dict[str, Any]) -> bool:
        """Whether this is the reply awaited. Others are events, or too late to be wanted."""
        if "id" not in message:
            self._events.append(message)
            return False
        return message["id"] in (self._sent, None)

    def _receive(self, until: float | None) -> dict[str, Any]:
        while b"\n" not in self._rest:
            if until is None:
                self._socket.settimeout(None)
            elif (left := until - time.monotonic()) > 0:
                self._socket.settimeout(left)
            else:
                raise TimeoutError
            data = self._socket.recv(65536)
            if not data:
                raise ConnectionResetError
            self._rest += data
        line, self._rest = self._rest.split(b"\n", 1)
        try:
            message = json.loads(line)
        except ValueError:
            message = None
        if not isinstance(message, dict):
            raise DaemonUnreachableError(
                f"What answers at {self.path} is no rlmd: it sent {line[:40]!r}.",
                mend="rlmctl paths",
            )
        return message

    def _unreachable(self, error: OSError) -> DaemonUnreachableError:
        match error:
            case FileNotFoundError() | NotADirectoryError():
                return DaemonNotRunningError(f"The daemon is not running: no socket is at {self.path}.", absent=True)
            case ConnectionRefusedError():
                return DaemonNotRunningError(
                    f"The daemon is not running: a socket is left at {self.path}, but nobody listens there.",
                    absent=True,
                )
            case PermissionError():
                return DaemonUnreachableError(
                    f"The socket {self.path} may not be opened: it or a directory above it is closed to you.",
                    mend="rlmctl doctor",
                )
            case TimeoutError():
                return DaemonHangsError(
                    f"The daemon at {self.path} hangs: it did not answer within {self.deadline:g} s."
                )
            case ConnectionResetError() | BrokenPipeError():
                return DaemonNotRunningError(
                    f"The daemon at {self.path} ended the connection before it answered: it stopped or died."
                )
        return DaemonUnreachableError(f"The socket at {self.path} cannot be used: {error}.", "rlmctl doctor")
