"""The least that a server with a state can be: trio, a SQLite file in WAL mode, and one answer.

    python benchmarks/bare.py SOCKET DATABASE

It reads no configuration and decides nothing.
"""

from __future__ import annotations

import sqlite3
import sys

import trio

ANSWER = b'{"type":"use","id":1,"provider":"anthropic","model":"claude-sonnet-4-5","lease":"1"}\n'


async def converse(stream: trio.SocketStream) -> None:
    """Answer one client until it goes."""
    async with stream:
        while await stream.receive_some(65536):
            await stream.send_all(ANSWER)


async def main(path: str, database: str) -> None:
    """Open the file and serve for ever."""
    with sqlite3.connect(database, isolation_level=None) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=NORMAL")
        db.execute("CREATE TABLE IF NOT EXISTS fact (key TEXT PRIMARY KEY, row BLOB NOT NULL)")
        db.execute("SELECT * FROM fact").fetchall()
        listener = trio.socket.socket(trio.socket.AF_UNIX)
        await listener.bind(path)
        listener.listen(128)
        await trio.serve_listeners(converse, [trio.SocketListener(listener)])


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2])
