"""Many days on a clock of their own, or some minutes of real load: nothing may grow that is not used up again.

    python tests/daemon/soak.py days --minutes 60
    python tests/daemon/soak.py load --minutes 10

Both print a table as they go; the second ends with kill -9 and compares what was acknowledged with what is counted.
"""

# ruff: noqa: T201  (what it prints is its result)

from __future__ import annotations

import argparse
import gc
import os
import random
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections import OrderedDict, deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from rlmd.config import policy
from rlmd.core import commands
from rlmd.core.ledger import Ledger
from rlmd.core.model import Effects, Usage, Use
from rlmd.core.requests import Acquire, Report
from rlmd.notify.notifier import Notifier
from rlmd.server.outbox import Outbox
from rlmd.store.database import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rlmd.core.model import Outcome

DAY = 86_400.0
NOON = 1_768_219_200.0
KEEP = 3 * DAY
"""How long history is kept here: what is older is pruned, so that the file has its final size after some days."""
CONFIG = """\
time_zone = "Europe/Berlin"
[[provider]]
id = "a"
priority = 1
models = ["m", "n"]
hourly_limit = {hourly}
daily_limit = 1500
[[provider.limit]]
of = "tokens"
max = 400_000
per = "10m"
[[provider]]
id = "b"
priority = 2
models = ["m", "n"]
[[provider.limit]]
of = "requests"
max = 300
per = "5h"
window = "first_use"
[[provider]]
id = "c"
priority = 2
models = ["m"]
"""
NOTIFY = """\
[notify]
targets = ["json://localhost:9/hook"]
events = ["switched", "exhausted", "recovered", "warning", "all_limited", "auth"]
"""
ERRORS: tuple[tuple[int, dict[str, str], str], ...] = (
    (429, {"retry-after": "30"}, ""),
    (429, {}, '{"error":{"type":"rate_limit_error"}}'),
    (529, {}, '{"type":"error","error":{"type":"overloaded_error"}}'),
    (500, {}, ""),
    (401, {}, ""),
    (400, {}, '{"error":{"message":"prompt is too long"}}'),
)


class Days:
    """The ledger, the outbox, the notifier and the file of a daemon, day after day, without its socket."""

    def __init__(self, root: Path, seed: int = 1) -> None:
        self.now = NOON
        self.rng = random.Random(seed)
        self.path = root / "state.db"
        self.store = Store(self.path)
        cut = self.store._db.execute
        self.outbox = Outbox(
            self.store, lambda: self.now, Effects, lambda _: cut("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        )
        self.ledger = Ledger("soak")
        self.notifier = Notifier(self.store, lambda: self.now, _nowhere)
        self.outbox.listen(self.notifier.take)
        self.leases: deque[Use] = deque()
        self.requests = 0
        self.reload()

    def reload(self) -> None:
        text = CONFIG.format(hourly=self.rng.choice([100, 150, 200])) + NOTIFY
        fresh = policy.parse(text, {}, source="soak")
        self.outbox.add(self.ledger.configure(fresh.policy, self.now))
        self.notifier.configure(fresh.notify, fresh.policy.zone)

    def day(self, requests: int) -> None:
        """A day of work: so many requests, and all else that happens."""
        end = self.now + DAY
        while self.now < end:
            self.pass_time(self.rng.expovariate(requests / DAY))
            self.act()
        self.outbox.settle()
        self.outbox.fold()
        while self.outbox.prune(self.now, KEEP):
            pass

    def pass_time(self, seconds: float) -> None:
        until = self.now + seconds
        while (deadline := self.ledger.next_deadline()) is not None and deadline <= until:
            self.now = max(self.now, deadline)
            self.settle(self.ledger.roll(self.now))
        self.now = until

    def act(self) -> None:
        rng, now, ledger = self.rng, self.now, self.ledger
        draw = rng.random()
        if draw < 0.97:
            self.request()
        elif draw < 0.98 and self.leases:
            gone = [self.leases.popleft().lease or "" for _ in range(min(3, len(self.leases)))]
            self.settle(ledger.release(gone, now))
        elif draw < 0.985:
            self.settle(commands.rest(ledger.state, "b", None, now + 600, f"reason {rng.random()}", now))
        elif draw < 0.99:
            self.settle(commands.pin(ledger.state, rng.choice(["a", "c", None]), None, now))
        elif draw < 0.993:
            self.settle(commands.reset(ledger.state, "all", None, now))
        elif draw < 0.996:
            self.reload()
        else:
            # A clock that is set back a little, and one that somebody sets forward.
            self.now += rng.choice([-5.0, -60.0, 90.0])
            self.settle(ledger.roll(self.now))

    def request(self) -> None:
        rng, now = self.rng, self.now
        self.requests += 1
        session = f"session {rng.randrange(10**9)}" if rng.random() < 0.3 else f"session {rng.randrange(20)}"
        step = self.ledger.acquire(Acquire("a", rng.choice("mn"), session, estimate=rng.choice([None, 3000])), now)
        use = step.reply
        self.settle(step)
        if isinstance(use, Use):
            self.leases.append(use)
        while len(self.leases) > 5:
            self.report(self.leases.popleft())

    def report(self, use: Use) -> None:
        rng, now = self.rng, self.now
        outcomes: list[Outcome | None] = ["ok", "error", "cancelled", None]
        outcome = rng.choices(outcomes, [90, 6, 2, 2])[0]
        if outcome is None:
            return  # nobody ever reports it
        status, headers, body = rng.choice(ERRORS) if outcome == "error" else (200, left(rng), "")
        lease = use.lease if rng.random() < 0.9 else None
        used = Usage(input=2000, output=300, cost=0.01) if outcome == "ok" else None
        self.settle(
            self.ledger.report(
                Report(use.provider, use.model, outcome, lease, status=status, headers=headers, body=body, usage=used),
                now,
                rand=rng.random(),
                receipt=self.outbox.receipt(lease) if lease not in self.ledger.leases and lease else None,
            )
        )

    def settle(self, step: Effects) -> None:
        self.outbox.add(step)
        if not self.outbox.settle():
            raise AssertionError("the state could not be written")
        self.outbox.tidy()

    def rows(self) -> dict[str, int]:
        """How much the file holds."""
        tables = ("fact", "receipt", "event", "usage", "journal", "letter", "told")
        return {t: self.store._db.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in tables}

    def sizes(self) -> dict[str, int]:
        """The size of every container that is reachable from what lives as long as the daemon."""
        found: dict[str, int] = {}
        for name, root in (
            ("ledger", self.ledger),
            ("outbox", self.outbox),
            ("store", self.store),
            ("notifier", self.notifier),
        ):
            for path, size in containers(root, name, set()):
                found[path] = found.get(path, 0) + size
        return found

    def close(self) -> None:
        self.store.close()


def left(rng: random.Random, most: int = 500) -> dict[str, str]:
    """What some providers say with each answer; once in a while of a window that nobody has heard of."""
    name = "requests" if rng.random() < 0.99 else f"requests-{rng.randrange(10**9)}"
    return {
        f"x-ratelimit-limit-{name}": str(most),
        f"x-ratelimit-remaining-{name}": str(rng.randrange(most // 5, most)),
        f"x-ratelimit-reset-{name}": "10m",
    }


def containers(value: Any, path: str, seen: set[int]) -> Iterator[tuple[str, int]]:
    """Every container below a value, by the way to it; what is inside a container is told by its type alone."""
    if id(value) in seen or isinstance(value, str | bytes | int | float | type(None)) or callable(value):
        return
    seen.add(id(value))
    if isinstance(value, dict | OrderedDict):
        yield path, len(value)
        for inner in list(value.values()):
            yield from containers(inner, f"{path}[]", seen)
    elif isinstance(value, list | set | frozenset | tuple | deque):
        yield path, len(value)
        for inner in list(value):
            yield from containers(inner, f"{path}[]", seen)
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            yield from containers(getattr(value, name), f"{path}.{name}", seen)
    elif type(value).__module__.startswith("rlmd"):
        for name, inner in vars(value).items():
            yield from containers(inner, f"{path}.{name}", seen)


async def _nowhere(_: str, __: str, ___: str) -> str | None:
    """Nobody takes a message here."""
    return "it cannot be reached"


def objects() -> int:
    """How many objects there are that may hold others."""
    gc.collect()
    return len(gc.get_objects())


def resident() -> float:
    """Memory of this process in MiB, where the system tells."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except OSError:
        return 0.0


def days(minutes: float, requests: int) -> None:
    """Go through days for so long, and print what there is of everything every now and then."""
    with tempfile.TemporaryDirectory(prefix="rlmd-soak-") as root:
        soak = Days(Path(root))
        until = time.monotonic() + minutes * 60
        number = 0
        print("| day | requests | objects | resident, MiB | largest containers | rows | file, MiB |")
        print("|---|---|---|---|---|---|---|")
        while time.monotonic() < until:
            soak.day(requests)
            number += 1
            if number in {5, 10, 20, 50} or number % 100 == 0:
                largest = sorted(soak.sizes().items(), key=lambda item: -item[1])[:3]
                words = ", ".join(f"{name} {size:,}" for name, size in largest)
                size = soak.path.stat().st_size / 2**20
                print(
                    f"| {number} | {soak.requests:,} | {objects():,} | {resident():.1f} | {words} "
                    f"| {sum(soak.rows().values()):,} | {size:.1f} |",
                    flush=True,
                )
        print(f"{number} days, {soak.requests:,} requests")
        soak.close()


class Load:
    """Clients of a real daemon that do all that clients do, each in a thread; `counted` is what it has acknowledged."""

    def __init__(self, path: str, until: float) -> None:
        self.path = path
        self.until = until
        self.counted = 0
        self.asked = 0
        self.lock = threading.Lock()

    def client(self, seed: int) -> None:
        rng = random.Random(seed)
        while time.monotonic() < self.until:
            with socket.socket(socket.AF_UNIX) as peer:
                peer.settimeout(20)
                peer.connect(self.path)
                self.converse(peer, rng)

    def converse(self, peer: socket.socket, rng: random.Random) -> None:
        file = peer.makefile("rwb")

        def ask(op: str, **fields: Any) -> Any:
            file.write(msgspec.json.encode({"op": op, "id": 1, **fields}) + b"\n")
            file.flush()
            while True:
                reply = msgspec.json.decode(file.readline())
                if reply["type"] != "event":
                    assert reply["type"] != "error", reply
                    return reply

        ask("hello", client="soak", version="1", pid=os.getpid())
        if rng.random() < 0.3:
            ask("subscribe")
        for _ in range(rng.randrange(1, 200)):
            if time.monotonic() > self.until:
                return
            session = f"s{rng.randrange(50_000)}"
            use = ask("acquire", provider="a", model="m", session=session)
            given = {k: use[k] for k in ("provider", "model", "lease") if k in use}
            outcome = rng.choices(["ok", "error", "cancelled"], [90, 8, 2])[0]
            if outcome == "error":
                ask("report", **given, outcome="error", status=400, body="x" * rng.randrange(10, 3000))
            else:
                ask("report", **given, outcome="accepted", headers=left(rng, 10**9))
                ask("report", **given, outcome=outcome, usage={"input": 100, "output": 10})
                with self.lock:
                    self.counted += 1
            with self.lock:
                self.asked += 1
            if rng.random() < 0.002:
                ask(rng.choice(["status", "log", "history", "ping"]))
            time.sleep(rng.expovariate(50))


REAL = """\
[[provider]]
id = "a"
models = ["m"]
[[provider.limit]]
of = "requests"
max = 100_000_000
per = "month"
"""


def load(minutes: float, clients: int) -> None:
    """Load a daemon of its own, and print its memory and descriptors every half a minute."""
    import psutil
    from house import Place, Process

    root = Path(tempfile.mkdtemp(prefix="rlmd-soak-"))
    place = Place(root)
    place.configure(REAL)
    process = Process(place).begin()
    it = psutil.Process(process.popen.pid)
    begun = time.monotonic()
    load = Load(str(place.paths.socket), begun + minutes * 60)
    threads = [threading.Thread(target=load.client, args=(n,)) for n in range(clients)]
    for thread in threads:
        thread.start()
    print("| after | requests | resident, MiB | descriptors | log, MiB |")
    print("|---|---|---|---|---|")
    try:
        while time.monotonic() < load.until:
            time.sleep(min(30.0, max(0.0, load.until - time.monotonic())))
            wal = place.paths.database.with_name("state.db-wal")
            print(
                f"| {time.monotonic() - begun:.0f} s | {load.asked:,} | {it.memory_info().rss / 2**20:.1f} "
                f"| {it.num_fds()} | {wal.stat().st_size / 2**20:.1f} |",
                flush=True,
            )
        for thread in threads:
            thread.join()
        process.kill()
        process.begin()
        counted = process.ask("status")["providers"][0]["limits"][0]["used"]
        print(f"{counted:,} counted after kill -9; {load.counted:,} acknowledged")
        if counted != load.counted:
            sys.exit(1)
    finally:
        process.close()
        shutil.rmtree(root)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["days", "load"])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--requests", type=int, default=2000, help="requests a day (days)")
    parser.add_argument("--clients", type=int, default=16, help="clients (load)")
    chosen = parser.parse_args()
    if chosen.what == "days":
        days(chosen.minutes, chosen.requests)
    else:
        load(chosen.minutes, chosen.clients)


if __name__ == "__main__":
    main()
