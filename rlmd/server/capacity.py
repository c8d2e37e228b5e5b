"""How much of everything there may be at once, so that nobody can use the daemon up. docs/limits.md explains them.

Those of the core, the state and the notifications are constants of their own modules; that page names all of them.
What wants more is answered with an error that says so.
"""

from __future__ import annotations

import resource
from contextlib import suppress

CONNECTIONS = 1024
"""Connections: each is an agent, or somebody who looks. Fewer where the system allows fewer descriptors."""
DESCRIPTORS = 192
"""File descriptors that are kept for all else: who is refused, the database and who reads it, notification targets."""
LINES = 128
"""Requests of one connection that are handled in one turn; then the others have theirs."""
STUCK = 60.0
"""Seconds in which a client has to read something where replies wait for it, and to finish a line it has begun."""
LINGER = 1.0
"""Seconds that a client gets to read why its connection is closed."""
DOORSTEP = 128
"""Connections that get that second to read that they are refused; others are closed at once."""
LEASES_OF_ONE = 65_536
"""Requests under way of one connection: more than any agent has, and enough for a load test that reports nothing."""
LEASES = 262_144
"""Requests under way of all, about 1 KiB each."""
RELEASED = 1000
"""Leases let go at a time when a connection closes: that takes as long as a few hundred decisions."""
SUBSCRIBERS = 128
"""Connections that listen to events."""
EVENTS_UNREAD = 2**20
"""Bytes of events that wait for one subscriber to read."""
UNREAD = 64 * 2**20
"""Bytes of replies that wait for all to read; beyond that nobody gets another long one."""


def connections() -> int:
    """Tell how many connections there may be, after raising the limit of descriptors as far as the system lets us.

    Where that is low, a quarter of it. It is 256 on macOS where nobody has changed it, and 1,024 in most shells.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS + DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            soft = most
    return CONNECTIONS if soft == resource.RLIM_INFINITY else min(CONNECTIONS, max(soft - DESCRIPTORS, soft // 4))
