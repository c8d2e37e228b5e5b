"""Makes the database of a released schema, with that release's own daemon, and notes what that said of it.

    python tests/data/state/make.py NUMBER COMMIT

`state-NUMBER.db` is what a kill leaves, its log put back into the file by SQLite alone, so that what is in the journal
stays there. `state-NUMBER.json` holds the time and the replies. Made once for each schema and never again: of the
commits 933aea2 (1), 0591f83 (2), 43ddab8 (3) and 765ab5e (4).
"""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
CONFIG = """
time_zone = "UTC"
patience = "0s"
[[provider]]
id = "anthropic"
models = ["sonnet"]
hourly_limit = 50
daily_limit = 1000
[[provider.limit]]
of = "tokens"
max = 100_000
per = "5h"
window = "first_use"
[[provider.limit]]
of = "cost"
max = 10
per = "1d"
window = "rolling"
[[provider]]
id = "openrouter"
priority = 2
models = { "sonnet" = "anthropic/sonnet" }
[[provider]]
id = "groq"
priority = 3
models = ["sonnet", "llama"]
[notify]
targets = ["json://localhost:1/"]
"""
"""Nobody listens at the target: what is told waits in the state."""
THREE_DAYS = 259_200


def main(number: str, commit: str) -> None:
    """Make one."""
    with tempfile.TemporaryDirectory() as home:
        place = Path(home)
        archive = subprocess.run(["git", "archive", commit, "rlmd"], stdout=subprocess.PIPE, check=True).stdout
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            tar.extractall(place, filter="data")
        (place / "config.toml").write_text(CONFIG)
        environ = {"PATH": os.defpath, "HOME": home, "TZ": "UTC", "RLMD_STATE_DIR": f"{home}/state"}
        environ["RLMD_CONFIG"] = f"{home}/config.toml"
        with subprocess.Popen([sys.executable, "-m", "rlmd"], env=environ, cwd=home) as daemon:
            said = converse(place / "state" / "rlmd.sock")
            daemon.send_signal(signal.SIGKILL)
        database = place / "state" / "state.db"
        with closing(sqlite3.connect(database)) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (HERE / f"state-{number}.db").write_bytes(database.read_bytes())
        (HERE / f"state-{number}.json").write_text(json.dumps(said, indent=1) + "\n")


def converse(path: Path) -> dict[str, Any]:
    """Have something of everything in the state; return what the daemon then says of it."""
    with socket.socket(socket.AF_UNIX) as peer:
        while peer.connect_ex(str(path)):
            time.sleep(0.05)
        lines = peer.makefile("rwb")

        def ask(op: str, **fields: Any) -> dict[str, Any]:
            lines.write(json.dumps({"op": op, **fields}).encode() + b"\n")
            lines.flush()
            reply: dict[str, Any] = json.loads(lines.readline())
            assert reply["type"] != "error", reply
            return reply

        def once(outcome: str, session: str = "s", **fields: Any) -> None:
            use = ask("acquire", provider="anthropic", model="sonnet", session=session)
            given = {name: use[name] for name in ("provider", "model", "lease")}
            ask("report", outcome=outcome, session=session, **given, **fields)
            leases.append(given)

        leases: list[dict[str, str]] = []
        resets = datetime.fromtimestamp(int(time.time()) + THREE_DAYS, UTC).isoformat()
        own = {"limit": "40000", "remaining": "31000", "reset": resets}
        once("ok", headers={f"anthropic-ratelimit-tokens-{name}": value for name, value in own.items()})
        for _ in range(220):  # more than any release has left in its journal
            once("ok", usage={"input": 120, "output": 30, "cost": 0.0125})
        once(
            "error", status=429, headers={"retry-after": str(THREE_DAYS)}, body='{"error":{"type":"rate_limit_error"}}'
        )
        for _ in range(7):
            once("ok", usage={"input": 10, "cost": 0.25})
        ask("disable", provider="groq")
        ask("pin", provider="openrouter", model="sonnet")
        time.sleep(1)  # letters are written
        log = ask("log", limit=10_000)["events"]
        status = ask("status")
        return {
            "at": time.time(),
            "leases": leases[::20],
            "events": log,
            **{name: status[name] for name in ("providers", "current_provider", "pins")},
        }


if __name__ == "__main__":
    main(*sys.argv[1:])
