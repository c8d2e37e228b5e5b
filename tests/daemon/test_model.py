"""The daemon on its socket against a simple model of it: whatever happens, in any order, both say the same.

A history is a seed. `python -m pytest tests/daemon/test_model.py --histories 20000` tries more of them.
"""

from __future__ import annotations

import random
import shutil
from datetime import datetime
from typing import TYPE_CHECKING, Any

import trio
from house import SETTINGS, House, Peer, Place, virtually
from reference import Decision, Provider, Reference

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

STEPS = 30
WORLDS = [
    [Provider("a", 1, {"1h": 3, "1d": 8}), Provider("b", 2, {"1d": 6}), Provider("c", 3, {})],
    [Provider("a", 1, {"1h": 2, "1d": 9}), Provider("b", 2, {"1d": 6})],
    [Provider("a", 3, {"1h": 3}), Provider("b", 2, {"1h": 2, "1d": 6}), Provider("c", 1, {"1h": 1})],
    [Provider("b", 1, {"1d": 3}), Provider("c", 2, {"1h": 4})],
]
"""What may be in force: each differs from the others in providers, their order, or their limits."""
SCOPE = '{"error":{"type":"rate_limit_error","message":"This request would exceed your organization\'s rate limit"}}'


def written(world: list[Provider]) -> str:
    """The configuration of a world."""
    lines = [SETTINGS.replace("3s", "0s")]
    for p in world:
        lines.append(f'[[provider]]\nid = "{p.name}"\npriority = {p.priority}\nmodels = ["m"]\n')
        for per, most in p.limits.items():
            lines.append(f'[[provider.limit]]\nof = "requests"\nmax = {most}\nper = "{per}"\n')
    return "".join(lines)


class History:
    """One random history, played to both."""

    def __init__(self, house: House, seed: int) -> None:
        self.house = house
        self.rng = random.Random(seed)
        self.world = WORLDS[0]
        self.model = Reference(self.world)
        self.peers: list[Peer] = []
        self.owned: list[list[str]] = []
        """The leases of each peer, in the order in which it got them."""
        self.uses: list[dict[str, Any]] = []
        self.told: list[object] = []
        """What happened, for the reader of a failure."""

    @property
    def now(self) -> float:
        return self.house.now()

    async def begin(self) -> None:
        self.peers = [await self.house.peer() for _ in range(2)]
        self.owned = [[] for _ in self.peers]

    async def ask(self, op: str, **fields: Any) -> Any:
        self.told.append((round(self.now, 3), op, fields))
        self.asker = self.rng.randrange(len(self.peers))
        reply = await self.peers[self.asker].ask(op, **fields)
        self.told.append(reply)
        return reply

    async def step(self) -> None:
        """Do something, and compare what is known then."""
        kinds = [self.acquire] * 8 + [self.report] * 9 + [self.wait] * 4 + [self.order] * 2
        kinds += [self.hang_up, self.reload, self.restart, self.kill, self.step_back]
        await self.rng.choice(kinds)()
        status = await self.ask("status")
        assert seen(status) == rounded(self.model.status(self.now))

    def name(self) -> str:
        return self.rng.choice([p.name for p in self.world])

    async def acquire(self, *, dry_run: bool | None = None) -> None:
        asked = self.rng.choice("abc")
        dry_run = self.rng.random() < 0.2 if dry_run is None else dry_run
        purpose = self.rng.choice(["step", "aux"])
        reply = await self.ask("acquire", provider=asked, model="m", dry_run=dry_run, purpose=purpose)
        if asked not in self.model.providers:
            assert reply["type"] == "pass"
            self.model.lapse(self.now)
            return
        lease = reply.get("lease")
        assert (lease is None) == (dry_run or reply["type"] == "wait")
        same(reply, self.model.acquire(asked, self.now, lease), asked)
        if lease is not None:
            self.owned[self.asker].append(lease)
            self.uses.append(reply)

    async def report(self) -> None:
        rng = self.rng
        use: dict[str, Any] = {"provider": self.name(), "model": "m"}
        if self.uses and rng.random() < 0.85:
            use = self.uses[-1 - min(len(self.uses) - 1, int(rng.expovariate(0.4)))]
        elif rng.random() < 0.3:
            use = {**use, "lease": f"of-another-daemon-{rng.randrange(5)}"}
        name, lease = use["provider"], use.get("lease")
        outcome = rng.choice(["accepted", "ok", "ok", "error", "error", "cancelled", "unsent"])
        fields: dict[str, Any] = {"outcome": outcome, "provider": name, "model": "m", "lease": lease}
        hint: float | None = None
        if outcome == "error":
            hint = rng.choice([None, 1.0, 15.0, 60.0, 900.0, 3000.0])
            fields |= {"status": 400} if hint is None else {"status": 429, "headers": {"retry-after": f"{hint:g}"}}
            fields["body"] = "" if hint is None else SCOPE
        at = self.now
        duplicate = self.model.report(name, outcome, at, lease, hint)
        reply = await self.ask("report", **fields)
        assert reply["type"] == "recorded", reply
        assert reply.get("duplicate", False) == (duplicate == "duplicate")
        if duplicate == "new" and "until" in reply["verdict"] and "next" in reply:
            same(reply["next"], self.model.decide("", at, early=False), None)
        for owned in self.owned:
            if lease in owned and outcome != "accepted":
                owned.remove(lease)

    async def wait(self) -> None:
        self.house.stepped += self.rng.choice([0.5, 1, 5, 14, 20, 61, 300, 905, 2000, 3600, 40_000])
        await self.acquire(dry_run=True)

    async def step_back(self) -> None:
        self.house.stepped -= self.rng.choice([0.2, 3, 70, 1000, 4000, 90_000])
        await self.acquire(dry_run=True)

    async def order(self) -> None:
        rng, name, model = self.rng, self.name(), self.model
        match rng.choice(["enable", "disable", "cooldown", "pin", "reset"]):
            case "enable":
                await self.ask("enable", provider=name)
                model.enabled[name] = True
            case "disable":
                await self.ask("disable", provider=name)
                model.enabled[name] = False
            case "cooldown":
                span = rng.choice([0, 10, 600, 3600])
                reply = await self.ask("cooldown", provider=name, for_ms=span * 1000)
                assert reply["type"] == ("done" if span else "error")
                if span:
                    model.rest(name, self.now + span, self.now)
            case "pin":
                who, what = rng.choice([name, name, None]), rng.choice([None, "m"])
                await self.ask("pin", provider=who, model=what)
                model.pin(who, what, self.now)
            case _:
                what, whose = rng.choice(["counters", "cooldowns", "all"]), rng.choice([name, None])
                await self.ask("reset", what=what, provider=whose)
                model.reset(what, whose, self.now)

    async def hang_up(self) -> None:
        n = self.rng.randrange(len(self.peers))
        self.told.append((self.now, "hang up", n))
        await self.peers[n].stream.aclose()
        self.house._peers.remove(self.peers[n])
        await self.house.settled()
        self.model.hang_up(self.owned[n], self.now)
        self.peers[n], self.owned[n] = await self.house.peer(), []

    async def reload(self) -> None:
        self.world = self.rng.choice(WORLDS)
        self.house.place.configure(written(self.world))
        assert (await self.ask("reload"))["type"] == "done"
        self.model.reload(self.world, self.now)

    async def restart(self) -> None:
        self.told.append((self.now, "restart"))
        for owned in self.owned:
            self.model.hang_up(owned, self.now)
        await self.house.restart()
        self.model.restart(self.now)
        await self.begin()

    async def kill(self) -> None:
        self.told.append((self.now, "kill"))
        await self.house.kill()
        self.model.restart(self.now)
        await self.begin()


def stamp(text: str | None) -> float | None:
    return None if text is None else datetime.fromisoformat(text).timestamp()


def near(at: float | None) -> float | None:
    return None if at is None else round(at, 1)


def same(reply: dict[str, Any], decision: Decision, asked: str | None) -> None:
    """Hold an answer against what the model decided."""
    assert reply.get("provider") == decision.provider, decision
    if decision.provider is None:
        assert reply["type"] == "wait"
        assert near(stamp(reply["retry_at"])) == near(decision.retry_at)
    elif asked is not None:
        assert (reply["reason"], reply["switched"]) == (decision.reason, decision.provider != asked)


def seen(status: Any) -> dict[str, Any]:
    """What a status says, in the model's words."""
    return {
        "current": status["current_provider"],
        "pins": status["pins"],
        "providers": {
            p["id"]: {
                "enabled": p["enabled"],
                "available": p["available"],
                "until": near(stamp(p["until"])),
                "errors": p["error_count"],
                "requests": p["request_count"],
                "in_flight": p["in_flight"],
                "used": {limit["per"]: (limit["used"], limit["reserved"]) for limit in p["limits"]},
                "resets_at": {limit["per"]: near(stamp(limit["resets_at"])) for limit in p["limits"]},
            }
            for p in status["providers"]
        },
    }


def rounded(status: Any) -> Any:
    for p in status["providers"].values():
        p["until"] = near(p["until"])
        p["resets_at"] = {per: near(at) for per, at in p["resets_at"].items()}
    return status


async def play(root: Path, seed: int) -> None:
    place = Place(root)
    place.configure(written(WORLDS[0]))
    async with trio.open_nursery() as nursery:
        house = House(place, nursery)
        house.begin()
        history = History(house, seed)
        await history.begin()
        try:
            for _ in range(STEPS):
                await history.step()
        except BaseException:
            print(f"history {seed}:", *history.told, sep="\n")  # noqa: T201  (pytest shows it with the failure)
            raise
        await house.end()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Share the histories out among a few tests, so that they may run side by side."""
    wanted = metafunc.config.getoption("histories")
    metafunc.parametrize("share", [range(n, wanted, SHARES) for n in range(SHARES)], ids=str)


SHARES = 8


def test_any_history_is_what_the_model_says(share: range, place: Place) -> None:
    for seed in share:
        root = place.root / str(seed)
        root.mkdir()
        virtually(play, root, seed)
        shutil.rmtree(root)
