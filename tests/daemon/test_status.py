"""The status as people and scripts know it: the text to the letter, the JSON field by field."""

from __future__ import annotations

import pytest
import trio
from house import MODEL, SETTINGS, THEIRS, House, Peer

CONTRACT = """\
patience = "0s"
time_zone = "America/New_York"
[[provider]]
id = "anthropic"
models = ["claude-sonnet-4-5"]
hourly_limit = 50
[[provider]]
id = "openrouter"
priority = 2
models = ["claude-sonnet-4-5"]
hourly_limit = 100
"""


async def text(peer: Peer) -> str:
    found = (await peer.ask("status"))["text"]
    assert isinstance(found, str)
    return found


async def configured(house: House, peer: Peer, provider: str, settings: str = SETTINGS) -> None:
    house.place.configure(f'{settings}[[provider]]\nid = "a"\nmodels = ["{MODEL}"]\n{provider}')
    assert (await peer.ask("reload"))["type"] == "done"


async def count(peer: Peer, provider: str, requests: int, model: str = MODEL) -> None:
    for _ in range(requests):
        await peer.report({"provider": provider, "model": model})


async def test_the_text_is_the_contracts(house: House, peer: Peer) -> None:
    house.place.configure(CONTRACT)
    await peer.ask("reload")
    await count(peer, "anthropic", 50, "claude-sonnet-4-5")
    until = "2026-01-12T17:30:00-05:00"
    await peer.ask("cooldown", provider="anthropic", until=until, reason="throttle")
    await count(peer, "openrouter", 23, "claude-sonnet-4-5")
    assert await text(peer) == (
        "=== Rate Limit Manager Status ===\n"
        "\n"
        "anthropic: ✗ Unavailable\n"
        "  Models: claude-sonnet-4-5\n"
        "  Requests: 50/50\n"
        "  Cooldown until: 1/12/2026, 5:30:00 PM\n"
        "\n"
        "openrouter: ✓ Available\n"
        "  Models: claude-sonnet-4-5\n"
        "  Requests: 23/100\n"
        "\n"
        "Current Provider: openrouter"
    )


async def test_of_a_fresh_daemon(peer: Peer) -> None:
    assert await text(peer) == (
        "=== Rate Limit Manager Status ===\n"
        "\n"
        "anthropic: ✓ Available\n"
        "  Models: sonnet\n"
        "  Requests: 0/50\n"
        "\n"
        "openrouter: ✓ Available\n"
        "  Models: sonnet\n"
        "  Requests: 0/100\n"
        "\n"
        "Current Provider: none"
    )


async def test_without_providers(house: House, peer: Peer) -> None:
    house.place.configure("")
    await peer.ask("reload")
    assert await text(peer) == "=== Rate Limit Manager Status ===\n\nCurrent Provider: none"


async def test_a_provider_at_its_limit_shows_the_reset(house: House, peer: Peer) -> None:
    await configured(house, peer, "hourly_limit = 2\n")
    await count(peer, "a", 2)
    assert "a: ✗ Unavailable\n  Models: sonnet\n  Requests: 2/2\n  Cooldown until: 1/12/2026, 1:00:00 PM\n" in (
        await text(peer)
    )


@pytest.mark.parametrize(
    ("limits", "shown"),
    [
        ("", "3"),
        ("daily_limit = 1000\n", "3/1000"),
        ("daily_limit = 1000\nhourly_limit = 50\n", "3/50"),
        ('[[provider.limit]]\nof = "tokens"\nmax = 9\nper = "1h"\n', "3"),
        ('[[provider.limit]]\nof = "requests"\nmax = 9\nper = "90s"\n', "3/9"),
    ],
)
async def test_requests_are_those_of_the_hour_or_else_of_the_first_limit_on_them(
    house: House, peer: Peer, limits: str, shown: str
) -> None:
    await configured(house, peer, limits)
    await count(peer, "a", 3)
    assert f"  Requests: {shown}\n" in await text(peer)
    assert (await peer.provider("a"))["request_count"] == 3


async def test_a_disabled_provider_has_no_time_to_show(peer: Peer) -> None:
    await peer.ask("disable", provider="anthropic")
    assert "anthropic: ✗ Unavailable\n  Models: sonnet\n  Requests: 0/50\n\n" in await text(peer)


@pytest.mark.parametrize(
    ("until", "shown"),
    [
        ("2026-01-13T00:00:00Z", "1/13/2026, 12:00:00 AM"),
        ("2026-01-13T00:05:09Z", "1/13/2026, 12:05:09 AM"),
        ("2026-01-13T11:59:59Z", "1/13/2026, 11:59:59 AM"),
        ("2026-01-13T12:00:00Z", "1/13/2026, 12:00:00 PM"),
        ("2026-11-30T23:59:59Z", "11/30/2026, 11:59:59 PM"),
    ],
)
async def test_times_are_written_as_that_plugin_wrote_them(peer: Peer, until: str, shown: str) -> None:
    await peer.ask("cooldown", provider="anthropic", until=until)
    assert f"  Cooldown until: {shown}\n" in await text(peer)


async def test_every_field_of_a_provider(peer: Peer) -> None:
    await peer.report(await peer.use())
    await peer.use()
    await peer.refuse(await peer.use(), after=60)
    assert await peer.provider() == {
        "id": "anthropic",
        "priority": 1,
        "enabled": True,
        "available": False,
        "state": "open",
        "until": "2026-01-12T12:01:00.000Z",
        "reason": "throttle",
        "models": [MODEL],
        "request_count": 1,
        "error_count": 1,
        "in_flight": 1,
        "limits": [
            {
                "of": "requests",
                "per": "1h",
                "window": "calendar",
                "max": 50,
                "used": 1,
                "reserved": 1,
                "resets_at": "2026-01-12T13:00:00.000Z",
                "source": "config",
            },
            {
                "of": "requests",
                "per": "1d",
                "window": "calendar",
                "max": 1000,
                "used": 1,
                "reserved": 1,
                "resets_at": "2026-01-13T00:00:00.000Z",
                "source": "config",
            },
        ],
        "account": "anthropic",
        "blocked": [],
    }


async def test_what_the_provider_itself_says_is_shown_beside_our_own_count(peer: Peer) -> None:
    left = {
        "x-ratelimit-limit-requests": "10",
        "x-ratelimit-remaining-requests": "4",
        "x-ratelimit-reset-requests": "90s",
    }
    await peer.report(await peer.use(), headers=left)
    assert (await peer.provider())["limits"][-1] == {
        "of": "requests",
        "per": None,
        "window": None,
        "max": 10,
        "used": 6,
        "reserved": 0,
        "resets_at": "2026-01-12T12:01:30.000Z",
        "source": "provider",
        "model": MODEL,
    }
    await trio.sleep(90)
    assert [limit["source"] for limit in (await peer.provider())["limits"]] == ["config", "config"]


async def test_the_states_of_a_provider(house: House, peer: Peer) -> None:
    await configured(house, peer, "hourly_limit = 2\n")

    async def state() -> tuple[str, bool, str | None]:
        a = await peer.provider("a")
        return a["state"], a["available"], a["reason"]

    assert await state() == ("closed", True, None)
    await peer.report({"provider": "a", "model": MODEL}, "error", status=429, headers={"retry-after": "60"})
    assert await state() == ("open", False, "throttle")
    await trio.sleep(60)
    assert await state() == ("closed", True, None), "the next request is let through"
    probe = await peer.use(provider="a")
    assert await state() == ("half_open", False, "throttle")
    await peer.report(probe)
    assert await state() == ("closed", True, None)
    await count(peer, "a", 1)
    assert await state() == ("exhausted", False, "limit")
    await peer.ask("disable", provider="a")
    assert await state() == ("disabled", False, "disabled")


async def test_a_model_that_rests_alone_is_named_while_its_provider_is_available(house: House, peer: Peer) -> None:
    house.place.configure(f'{SETTINGS}[[provider]]\nid = "a"\n[provider.models]\nsonnet = "{THEIRS}"\nopus = "o"\n')
    await peer.ask("reload")
    await peer.ask("cooldown", provider="a", model="opus", for_ms=60_000)
    a = await peer.provider("a")
    assert (a["available"], a["state"], a["models"]) == (True, "closed", ["sonnet", "opus"])
    assert a["blocked"] == [
        {"model": "opus", "state": "open", "until": "2026-01-12T12:01:00.000Z", "reason": "by hand"}
    ]


async def test_the_mapping_names_the_providers_of_each_model_best_first(house: House, peer: Peer) -> None:
    house.place.configure(
        '[[provider]]\nid = "b"\npriority = 2\nmodels = ["sonnet", "opus"]\n'
        '[[provider]]\nid = "a"\npriority = 2\nmodels = ["sonnet"]\n'
        '[[provider]]\nid = "z"\npriority = 1\nmodels = ["sonnet", "haiku"]\n'
        '[[fallback]]\nmodel = "opus"\nto = ["haiku"]\n'
    )
    await peer.ask("reload")
    assert (await peer.ask("status"))["model_mapping"] == {
        "haiku": ["z"],
        "opus": ["b"],
        "sonnet": ["z", "a", "b"],
    }
