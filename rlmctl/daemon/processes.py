"""The agents that run on this machine for this person, as the system lists them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Set as AbstractSet

    from psutil import Process


class Agent(NamedTuple):
    """One agent's process."""

    pid: int
    directory: str | None
    since: float
    """Epoch seconds."""


def unconnected(name: str, connected: AbstractSet[int], socket: Path) -> Iterator[Agent]:
    """Give the processes of this name that are not connected to the daemon, nor is one above or below them.

    Those of another home, or that were told another socket, have another daemon.
    """
    from psutil import Error, process_iter

    family = {pid for one in connected for pid in _family(one)}
    for process in process_iter(["pid", "name", "uids"]):
        try:
            called = process.info["name"].strip(".").partition(".")[0]  # npm's are called opencode.exe
            ours = called == name and process.info["uids"].real == os.getuid()
            if not ours or process.pid in family or not _is_of_here(process, socket):
                continue
            yield Agent(process.pid, process.cwd() or None, process.create_time())
        except Error:
            continue  # it has ended, or may not be looked at


def _is_of_here(process: Process, socket: Path) -> bool:
    environ = process.environ()
    return environ.get("HOME") == str(Path.home()) and environ.get("RLMD_SOCKET", str(socket)) == str(socket)


def _family(pid: int) -> set[int]:
    """Return a process with those above and below it: an agent may be a launcher, a screen and a server."""
    from psutil import Error, Process

    try:
        process = Process(pid)
        return {pid, *(p.pid for p in process.parents()), *(p.pid for p in process.children(recursive=True))}
    except Error:
        return {pid}
