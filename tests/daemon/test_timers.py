"""What ends is announced at its second; nothing wakes without a reason, and nothing is decided by a timer."""

from __future__ import annotations

import pytest
import trio
from house import MODEL, NOON, SETTINGS, TWO, House, Peer, Place

from rlmd.core.leases import LEASE
from rlmd.core.ledger import Ledger
from rlmd.daemon import PRUNE_FIRST
from rlmd.server.timers import LONGEST_SLEEP, Timers

HOUR = 3600.0


def next_wake() -> float:
    """Seconds until something happens by itself."""
    return trio.lowlevel.current_statistics().seconds_to_next_deadline


async def listening(house: House, *events: str) -> Peer:
    listener = await house.peer()
    await listener.ask("subscribe", events=[*events])
    return listener


async def test_the_reset_of_an_hour_is_announced_at_its_second(house: House, peer: Peer) -> None:
    listener = await listening(house, "reset")
    await trio.sleep(1234)
    await peer.report(await peer.use())
    event = await listener.hear(within=HOUR)
    assert house.now() == NOON + HOUR
    assert event == {
        "type": "event",
        "event": "reset",
        "at": "2026-01-12T13:00:00.000Z",
        "message": "anthropic: a new window of 50 requests per 1h begins",
        "provider": "anthropic",
    }
    assert await peer.used() == (0, 0)


async def test_a_provider_that_had_used_its_hour_up_is_announced_as_back(house: House, peer: Peer) -> None:
    house.place.configure(TWO.replace("hourly_limit = 50", "hourly_limit = 1"))
    await peer.ask("reload")
    listener = await listening(house, "reset", "recovered", "exhausted")
    await peer.report(await peer.use())
    events = [await listener.hear(within=HOUR + 1) for _ in range(3)]
    assert [(e["event"], e["at"]) for e in events] == [
        ("exhausted", "2026-01-12T12:00:00.000Z"),
        ("reset", "2026-01-12T13:00:00.000Z"),
        ("recovered", "2026-01-12T13:00:00.000Z"),
    ]


async def test_the_end_of_a_cooldown_is_announced_at_its_second(house: House, peer: Peer) -> None:
    listener = await listening(house, "recovered")
    await peer.ask("cooldown", provider="anthropic", for_ms=90_250)
    event = await listener.hear(within=100)
    assert house.now() == NOON + 90.25
    assert (event["at"], event["provider"]) == ("2026-01-12T12:01:30.250Z", "anthropic")


async def test_an_earlier_end_is_not_missed_while_a_later_one_is_awaited(house: House, peer: Peer) -> None:
    listener = await listening(house, "recovered")
    await peer.ask("cooldown", provider="anthropic", for_ms=25_000)
    await trio.sleep(1)
    await peer.ask("cooldown", provider="openrouter", for_ms=5_000)
    assert [((await listener.hear(within=30))["provider"], house.now()) for _ in range(2)] == [
        ("openrouter", NOON + 6),
        ("anthropic", NOON + 25),
    ]


async def test_a_cooldown_ended_by_hand_is_not_announced(house: House, peer: Peer) -> None:
    listener = await listening(house, "recovered")
    await peer.ask("cooldown", provider="anthropic", for_ms=5_000)
    await peer.ask("reset", what="cooldowns")
    with pytest.raises(trio.TooSlowError):
        await listener.hear(within=60)


async def test_a_machine_that_slept_is_noticed_within_thirty_seconds(house: House, peer: Peer) -> None:
    listener = await listening(house, "recovered")
    await peer.ask("cooldown", provider="anthropic", for_ms=3_600_000)
    await trio.sleep(10)
    house.stepped += HOUR
    await listener.hear(within=LONGEST_SLEEP)
    assert trio.current_time() == LONGEST_SLEEP


async def test_a_clock_that_steps_back_postpones_it(house: House, peer: Peer) -> None:
    listener = await listening(house, "recovered")
    await peer.ask("cooldown", provider="anthropic", for_ms=60_000)
    await trio.sleep(50)
    house.stepped -= HOUR
    await listener.hear(within=HOUR + 100)
    assert house.now() == NOON + 60


async def test_nothing_wakes_while_nothing_is_pending(house: House, peer: Peer) -> None:
    await peer.ask("ping")
    await house.settled()
    assert next_wake() == PRUNE_FIRST
    await trio.sleep(PRUNE_FIRST)
    await house.settled()
    assert next_wake() == HOUR, "old rows are looked for once an hour"
    await peer.ask("cooldown", provider="anthropic", for_ms=20_000)
    await house.settled()
    assert next_wake() == 20
    await trio.sleep(20)
    await house.settled()
    assert next_wake() == HOUR - 20


async def test_it_sleeps_thirty_seconds_at_most(house: House, peer: Peer) -> None:
    await peer.ask("cooldown", provider="anthropic", for_ms=3_600_000)
    await house.settled()
    assert next_wake() == LONGEST_SLEEP


async def test_a_failure_to_announce_is_logged_and_tried_again(
    house: House, peer: Peer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    listener = await listening(house, "recovered")

    def broken(*_: object) -> None:
        raise ZeroDivisionError("there it is")

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "roll", broken)
        await peer.ask("cooldown", provider="anthropic", for_ms=5_000)
        await trio.sleep(6)
    assert "there it is" in caplog.text
    assert (await listener.hear(within=2 * LONGEST_SLEEP))["provider"] == "anthropic"


async def test_every_decision_is_the_same_without_timers(
    place: Place, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def rest(_: Timers) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(Timers, "run", rest)
    place.configure(f'{SETTINGS}[[provider]]\nid = "anthropic"\nmodels = ["{MODEL}"]\nhourly_limit = 2\n')
    house = House(place, nursery)
    house.begin()
    peer = await house.peer()
    await peer.use()
    await trio.sleep(LEASE)
    await peer.use(dry_run=True)
    assert await peer.used() == (1, 0), "a lease whose time is up"
    await peer.refuse(await peer.use(), after=60)
    assert (await peer.ask("acquire", provider="anthropic", model=MODEL))["type"] == "wait"
    await trio.sleep(60)
    probe = await peer.use()
    assert probe["reason"] == "probe", "a cooldown that is over"
    await peer.report(probe)
    full = await peer.ask("acquire", provider="anthropic", model=MODEL)
    assert (full["type"], full["retry_at"]) == ("wait", "2026-01-12T13:00:00.000Z")
    await trio.sleep(NOON + HOUR - house.now())
    assert (await peer.use())["reason"] == "preferred", "a new hour"
    await house.end()
