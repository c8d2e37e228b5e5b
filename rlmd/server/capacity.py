"""Bounds of the server, so that no client can use the daemon up. docs/limits.md explains them.

The bounds of the core, the state and the notifications are constants of their own modules; that page names all of them.
A request beyond a bound gets an error that says so.
"""

from __future__ import annotations

import resource
from contextlib import suppress

CONNECTIONS = 1024
"""Connections of agents and of `rlmctl`. Fewer where the system allows fewer descriptors."""
DESCRIPTORS = 192
"""File descriptors kept for all else: refused connections, the database and its readers, notification targets."""
LINES = 128
"""Requests of one connection that are handled in one turn; then other connections have theirs."""
STUCK = 60.0
"""Seconds in which a client has to read some of its waiting replies, and to finish a line that it has begun."""
LINGER = 1.0
"""Seconds that a client gets to read why its connection is closed."""
DOORSTEP = 128
"""Refused connections that get these seconds to read the refusal; more are closed at once."""
LEASES_OF_ONE = 65_536
"""Leases of one connection: more than any agent has, and enough for a load test that reports nothing."""
LEASES = 262_144
"""Leases of all connections, about 1 KiB each."""
RELEASED = 1000
"""Leases released at a time when a connection closes: as long as a few hundred decisions."""
SUBSCRIBERS = 128
"""Connections that subscribe to events."""
EVENTS_UNREAD = 2**20
"""Bytes of events that wait for one subscriber to read."""
UNREAD = 64 * 2**20
"""Bytes of unread replies of all connections; beyond that no connection gets another long reply."""


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
