"""The commands that carry state from one place to another: export, import."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlmctl.commands import add_json, print_json, say
from rlmctl.daemon.connection import connect, places
from rlmctl.errors import FAILED, FINE, WRONG, CommandError
from rlmd.client.connection import DaemonRefusedError, DaemonUnreachableError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from rlmctl.agents.opencode.predecessor_state import Reading
    from rlmd.paths import Paths

TRIES = 20
"""Times that the daemon is asked to take an import over: a checkpoint or a query may be in its way for a moment."""


def add_export(parser: ArgumentParser) -> None:
    """Declare the arguments of `export`."""
    add_json(parser, "the only form there is, and the default")
    parser.epilog = "Whether the daemon runs or not. No notification addresses and no configuration are in it."


def export(args: Namespace) -> int:
    """Print the whole state as JSON."""
    del args
    import sqlite3

    from rlmd.store.migrations import StoreError
    from rlmd.store.transfer import export as lines

    paths = places()
    if not paths.database.exists():
        raise CommandError(f"There is no state at {paths.database} yet.", "rlmctl start")
    try:
        with connect(paths) as daemon:
            if not daemon.request("status")["daemon"]["durable"]:
                say("rlmctl: the disk fails: what the daemon has in memory only is not in this export")
    except (DaemonUnreachableError, DaemonRefusedError):
        pass  # the file says what there is
    try:
        left_out: list[str] = []
        sys.stdout.writelines(lines(paths.database, left_out))
        _tell_left_out(left_out)
    except (StoreError, sqlite3.Error) as error:
        raise CommandError(f"The state in {paths.database} cannot be exported: {error}", "rlmctl doctor") from None
    return FINE


def add_import(parser: ArgumentParser) -> None:
    """Declare the arguments of `import`."""
    parser.add_argument("file", metavar="FILE", help="an export, or a rate-limit-state.json; - for stdin")
    add_json(parser)
    parser.epilog = (
        "An export replaces the whole state; the one before is kept beside it.\n"
        "Of the file of the rate-limit-manager plugin, .opencode/rate-limit-state.json, counts\n"
        "and cooldowns are added to what is there; its limits are printed for the configuration."
    )


def import_(args: Namespace) -> int:
    """Take over a state."""
    document, age = _read(args.file)
    if isinstance(document, dict) and "tables" not in document and isinstance(document.get("providers"), dict):
        return _adopt(document, age, as_json=args.json)
    message = _replace(document, args.file)
    if args.json:
        print_json({"type": "done", "message": message})
    else:
        print(message)
    return FINE


def _read(name: str) -> tuple[Any, float]:
    """Return what a file holds, and how many seconds ago it was written."""
    import msgspec

    try:
        if name == "-":
            return msgspec.json.decode(sys.stdin.buffer.read()), 0.0
        file = Path(name)
        return msgspec.json.decode(file.read_bytes()), time.time() - file.stat().st_mtime
    except OSError as error:
        raise CommandError(f"{name} cannot be read: {error.strerror}.", code=WRONG) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CommandError(f"{name} is no JSON: {error}.", "rlmctl export > FILE", WRONG) from None


def _replace(document: Any, name: str) -> str:
    """Replace the whole state by an export; say what has been done."""
    import os
    import sqlite3

    from rlmd.store.recovery import import_path
    from rlmd.store.transfer import DocumentError, build

    paths = places()
    fresh = import_path(paths.database)
    os.umask(0o077)
    try:
        paths.state_dir.mkdir(parents=True, exist_ok=True)
        fresh.unlink(missing_ok=True)
        _tell_left_out(build(document, fresh))
        return _hand_over(paths)
    except DocumentError as error:
        raise CommandError(f"{name} cannot be imported: {error}. Nothing was changed.", code=FAILED) from None
    except (OSError, sqlite3.Error) as error:
        raise CommandError(f"Nothing was imported: {error}.", "rlmctl doctor") from None
    finally:
        fresh.unlink(missing_ok=True)


def _tell_left_out(rows: list[str]) -> None:
    for row in rows:
        say(f"rlmctl: one row makes no sense and is left out, {row}")


def _hand_over(paths: Paths) -> str:
    """Have the daemon take it over; where there is none, do what it would."""
    from rlmd.client.connection import DaemonNotRunningError

    try:
        with connect(paths, deadline=60) as daemon:
            for _ in range(TRIES):
                try:
                    return str(daemon.request("import")["message"])
                except DaemonRefusedError as error:
                    if error.code != "unavailable":
                        raise
                    refused = error
                    time.sleep(0.1)
            raise refused
    except DaemonNotRunningError:
        return _put_in_place(paths)


def _put_in_place(paths: Paths) -> str:
    from rlmd.server.listener import AlreadyRunningError, UnusablePlaceError, lock
    from rlmd.store.database import Store
    from rlmd.store.migrations import StoreError

    try:
        lock(paths.state_dir / "rlmd.lock")  # as long as this process lives
        store = Store(paths.database)
        try:
            kept = store.replace()
        finally:
            store.close()
    except (AlreadyRunningError, UnusablePlaceError, StoreError) as error:
        raise CommandError(f"Nothing was imported: {error}") from None
    return f"the state is replaced; the one before is kept in {kept}"


def _adopt(document: dict[str, Any], age: float, *, as_json: bool) -> int:
    """Add what the other plugin counted; print what was taken, what was not, and its limits."""
    from rlmctl.agents.opencode.predecessor_state import limits, read

    reading: Reading = read(document, age)
    with connect() as daemon:
        reply = daemon.request("adopt", providers=reading.providers, current=reading.current)
        toml, told = limits(document, daemon.request("status"))
    left = [*reading.left, *reply["left"], *told]
    if as_json:
        print_json({**reply, "left": left, "toml": toml})
        return FINE
    for title, sentences in (("taken", reply["taken"]), ("not taken", left)):
        print(f"{title}: nothing" if not sentences else f"{title}:")
        for sentence in sentences:
            print(f"  {sentence}")
    if toml:
        print(
            f"\n# Its limits are not taken by themselves. To have them, write into {places().config}:\n{toml}", end=""
        )
    return FINE
