"""A machine without a network, or asleep: what agents are told over a real socket, and what is left afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio
from house import MODEL

if TYPE_CHECKING:
    from house import House, Peer

REFUSED = "Error: ConnectionRefused Unable to connect. Is the computer able to access the url?"
NAMES = ("anthropic", "openrouter")


async def fail(peer: Peer, use: dict[str, Any], **more: Any) -> dict[str, Any]:
    recorded: dict[str, Any] = await peer.report(use, "error", message=REFUSED, **more)
    return recorded


async def test_after_an_hour_without_a_network_the_first_request_is_let_through_and_all_is_as_before(
    peer: Peer,
) -> None:
    for n in range(60):
        use = await peer.use(session=f"s{n}")
        recorded = await fail(peer, use, session=f"s{n}")
        assert recorded["verdict"]["kind"] == "unreachable"
        assert "retry_at" not in (recorded.get("next") or {}), "nobody is told to wait"
        await trio.sleep(60)
    await peer.report(await peer.use(session="back"), "accepted")
    assert [(await peer.provider(name))["state"] for name in NAMES] == ["closed", "closed"]
    assert not [event for event in (await peer.ask("log"))["events"] if event["event"] == "all_limited"]


async def test_explain_says_that_who_does_not_answer_is_tried(peer: Peer) -> None:
    for n in range(8):
        await fail(peer, await peer.use(session=f"s{n}"), session=f"s{n}")
    explained = await peer.ask("explain", model=MODEL)
    assert explained["decision"] == "use"
    first, second = explained["candidates"]
    assert (first["taken"], first["why"]) == (
        True,
        "anthropic is tried although it is cooling down until 12:00:10 (unreachable): nobody answers",
    )
    assert (second["taken"], second["state"]) == (False, "open")


async def test_what_died_while_the_machine_slept_rests_nobody(house: House, peer: Peer) -> None:
    uses = [await peer.use(session=f"s{n}") for n in range(6)]
    house.stepped += 3600
    for n, use in enumerate(uses):
        recorded = await fail(peer, use, session=f"s{n}", started_at="2026-01-12T12:00:00Z")
        assert recorded.get("next") is None
    assert (await peer.provider())["state"] == "closed"
    await fail(peer, await peer.use(session="awake"), session="awake")
    assert (await peer.use(session="awake"))["provider"] == "openrouter", "what began since then counts"


async def test_a_clock_that_a_time_server_sets_is_no_sleep(house: House, peer: Peer) -> None:
    use = await peer.use(session="s")
    house.stepped += 29
    assert (await fail(peer, use, session="s"))["next"]["provider"] == "openrouter"
