"""One daemon at one place: the directory, the lock, the socket's name. Never a moment without a socket."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from rlmd.address import check_socket

if TYPE_CHECKING:
    from pathlib import Path

    from rlmd.paths import Paths

BACKLOG = 1024
"""Connections that may wait to be accepted. Beyond that number a non-blocking connect, such as an agent's, fails."""
LOOKS, GLANCE = 20, 0.01
"""Times, and seconds apart, that a second daemon looks for the name of the daemon that holds the lock."""


class AlreadyRunningError(Exception):
    """Another daemon serves this place. Nothing is wrong."""


class UnusablePlaceError(Exception):
    """A directory or socket path cannot be used; the message says why and what mends it."""


class Listener(NamedTuple):
    """A listening socket and the file that names it; None where a service manager owns the name."""

    socket: socket.socket
    path: Path | None
    inode: int

    def close(self) -> None:
        """Stop listening, and remove the socket's file if it is still ours."""
        if self.path is not None:
            with suppress(OSError):
                if self.path.lstat().st_ino == self.inode:
                    self.path.unlink()
        self.socket.close()


def own_directory(path: Path, variable: str, *, private: bool, written: bool = True) -> None:
    """Make the directory if it is missing. It has to be ours, and no other user may write to it.

    `private` also closes it to readers. `written`: something has to be made in it. `variable` is what names another
    one. Raises `UnusablePlaceError`.
    """
    elsewhere = f"or name a directory of your own in {variable}"
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileExistsError:
        raise UnusablePlaceError(f"{path} is no directory. Move that file away, {elsewhere}.") from None
    except OSError as error:
        raise UnusablePlaceError(
            f"The directory {path} cannot be used: {error.strerror}. Mend it (see ls -ld {path}), {elsewhere}."
        ) from None
    try:
        found = os.fstat(descriptor)
        if found.st_uid != os.geteuid():
            raise UnusablePlaceError(
                f"The directory {path} belongs to another user (uid {found.st_uid}). Take it with chown, {elsewhere}."
            )
        mode = stat.S_IMODE(found.st_mode)
        if not private and mode & 0o022:
            raise UnusablePlaceError(f"Others may write to {path}. Close it with: chmod go-w {path}; {elsewhere}.")
        if private and mode & 0o077:
            with suppress(OSError):  # a read-only disk
                os.fchmod(descriptor, 0o700)
        if not os.access(path, os.R_OK | os.X_OK | (os.W_OK if written else 0)):
            raise UnusablePlaceError(f"The directory {path} cannot be written. Open it with: chmod 700 {path}")
    finally:
        os.close(descriptor)


def lock(path: Path) -> int:
    """Take the lock file at this path for as long as the process lives; the file is never removed.

    Raises `AlreadyRunningError`, which names the process that holds it, and `UnusablePlaceError`.
    """
    try:
        descriptor = _lock_file(path)
    except OSError as error:
        raise UnusablePlaceError(f"The lock {path} cannot be taken: {error.strerror}. Move it away.") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = _holder(descriptor)
        os.close(descriptor)
        raise AlreadyRunningError(f"rlmd is already running (pid {holder}); `rlmctl status` shows it.") from None
    with suppress(OSError):  # a full or read-only disk: the lock holds, only without its owner's number
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
    return descriptor


def _lock_file(path: Path) -> int:
    flags = os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(path, flags | os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        return os.open(path, flags | os.O_RDONLY)


def _holder(descriptor: int) -> str:
    """Name the process that holds a lock. The process writes its number a moment after it has taken the lock."""
    for _ in range(LOOKS):
        written = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
        if written.isdigit() and _lives(int(written)):
            break
        time.sleep(GLANCE)
    return written or "unknown"


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def claim(paths: Paths, *, handed_over: bool = False) -> None:
    """Become the one daemon of this state and this socket until the process ends.

    A state that cannot be written is no obstacle where no socket has to be made beside it.
    Raises `AlreadyRunningError`, `UnusablePlaceError`, `PathTooLongError`.
    """
    check_socket(paths.socket)
    beside = paths.socket.parent == paths.state_dir
    own_directory(paths.state_dir, "RLMD_STATE_DIR", private=True, written=beside and not handed_over)
    if not beside:
        own_directory(paths.socket.parent, "RLMD_SOCKET", private=False)
    # The socket has a lock of its own, because a daemon of another state may have been given its path.
    for path in dict.fromkeys((paths.state_dir / "rlmd.lock", paths.socket.with_name(f"{paths.socket.name}.lock"))):
        lock(path)


def listen(path: Path) -> Listener:
    """Bind beside the name and rename over it: a client that connects meets the old socket or the new one.

    Call it under the lock of `claim`. Raises `UnusablePlaceError`.
    """
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise UnusablePlaceError(f"{path} is there and is no socket. Move it away, or name another in RLMD_SOCKET.")
    beside = path.with_name(f".{os.getpid()}")
    unix = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        beside.unlink(missing_ok=True)
        unix.bind(str(beside))
        unix.listen(BACKLOG)
        beside.rename(path)
        return Listener(unix, path, path.lstat().st_ino)
    except OSError as error:
        unix.close()
        with suppress(OSError):
            beside.unlink()
        raise UnusablePlaceError(f"The socket {path} cannot be made: {error}. Name another in RLMD_SOCKET.") from error
    finally:
        os.umask(mask)
