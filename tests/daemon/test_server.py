"""Every operation over a real socket: what is asked, what is answered, and what an error leaves as it was."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

import psutil
import pytest
import trio
from house import MODEL, OPENROUTER, SETTINGS, THEIRS, TWO, House, Peer

from rlmd import __version__
from rlmd.server import peer as peers
from rlmd.wire.messages import EVENTS, OPS

BAD = "prefer = 7\n"


def asked(op: str, id_: Any = None, **fields: Any) -> dict[str, Any]:
    return {"op": op, "id": id_, **fields}


def acquiring(id_: Any = None, **fields: Any) -> dict[str, Any]:
    return asked("acquire", id_, **{"provider": "anthropic", "model": MODEL, **fields})


def bad(message: str) -> dict[str, Any]:
    return {"type": "error", "code": "bad_request", "message": message}


# hello, ping


async def test_hello_is_welcomed_with_the_settings_of_the_agent(peer: Peer) -> None:
    assert await peer.ask("hello", client="opencode", version="1.0") == {
        "type": "welcome",
        "server": "rlmd",
        "version": __version__,
        "protocol": 1,
        "pid": os.getpid(),
        "settings": {"daemon_timeout_ms": 150, "first_byte_ms": 180_000, "wait_ms": 120_000, "stderr": True},
    }


async def test_the_settings_are_those_of_the_configuration(house: House, peer: Peer) -> None:
    house.place.configure(f'{TWO}[agent]\ndaemon_timeout = "1s"\nfirst_byte = "0s"\nwait = "1m"\nstderr = false\n')
    await peer.ask("reload")
    welcome = await peer.ask("hello")
    assert welcome["settings"] == {"daemon_timeout_ms": 1000, "first_byte_ms": 0, "wait_ms": 60_000, "stderr": False}


async def test_status_lists_the_agents_that_said_hello_while_they_are_connected(house: House, peer: Peer) -> None:
    agent = await house.peer()
    pid = os.getpid()
    await agent.ask("hello", client="opencode", version="1.0", pid=pid, directory="/home/p/project")
    await peer.ask("hello", client="rlmctl")
    daemon = (await peer.ask("status"))["daemon"]
    assert daemon["agents"] == 1
    assert daemon["clients"] == [
        {
            "client": "opencode",
            "version": "1.0",
            "pid": pid,
            "name": psutil.Process(pid).name(),
            "directory": "/home/p/project",
            "since": "2026-01-12T12:00:00.000Z",
        }
    ]
    await agent.stream.aclose()
    await house.settled()
    assert (await peer.ask("status"))["daemon"]["agents"] == 0


@pytest.mark.parametrize("id_", [0, -1, "", "a", "ä" * 256, 2**53, None])
async def test_a_reply_carries_the_id_of_its_request(peer: Peer, id_: object) -> None:
    await peer.say(asked("ping", id_))
    assert await peer.hear() == {"type": "pong", "id": id_}


# acquire


async def test_a_step_is_told_where_to_go_and_gets_a_lease(peer: Peer) -> None:
    use = await peer.use(session="s", agent="build")
    assert use.pop("lease")
    assert use == {
        "type": "use",
        "provider": "anthropic",
        "model": MODEL,
        "switched": False,
        "reason": "preferred",
        "message": "using anthropic",
    }
    assert await peer.used() == (0, 1)
    assert (await peer.provider())["in_flight"] == 1


async def test_a_title_gets_a_lease_too(peer: Peer) -> None:
    assert "lease" in await peer.use(purpose="aux")


@pytest.mark.parametrize("only_asked", [{"purpose": "turn"}, {"dry_run": True}])
async def test_whoever_only_asks_gets_no_lease_and_nothing_is_counted(peer: Peer, only_asked: dict[str, Any]) -> None:
    use = await peer.use(session="s", **only_asked)
    assert "lease" not in use
    assert await peer.used() == (0, 0)


async def test_another_provider_is_named_as_the_agent_names_its_model(peer: Peer) -> None:
    await peer.refuse(await peer.use())
    use = await peer.use(purpose="turn")
    assert use == {
        "type": "use",
        "provider": "openrouter",
        "model": THEIRS,
        "switched": True,
        "reason": "cooldown",
        "message": "anthropic is cooling down until 12:01:00 (throttle); using openrouter",
    }


@pytest.mark.parametrize("who", [{"provider": "mistral"}, {"model": "opus"}])
async def test_what_is_not_configured_is_passed(peer: Peer, who: dict[str, str]) -> None:
    names = {"provider": "anthropic", "model": MODEL, **who}
    assert await peer.ask("acquire", **names) == {
        "type": "pass",
        "message": f"{names['provider']}/{names['model']} is not in the configuration",
    }


async def test_all_limited_waits_and_says_until_when_and_why(peer: Peer) -> None:
    await peer.refuse(await peer.use(), after=60)
    await peer.refuse(await peer.use(), after=90)
    anthropic = "anthropic is cooling down until 12:01:00 (throttle)"
    openrouter = "openrouter is cooling down until 12:01:30 (throttle)"
    assert await peer.ask("acquire", provider="anthropic", model=MODEL) == {
        "type": "wait",
        "retry_at": "2026-01-12T12:01:00.000Z",
        "retry_after_ms": 60_000,
        "message": f"no provider of sonnet until 12:01:00: {anthropic}; {openrouter}",
        "candidates": [
            {
                "provider": "anthropic",
                "model": MODEL,
                "state": "open",
                "until": "2026-01-12T12:01:00.000Z",
                "reason": "throttle",
                "why": anthropic,
            },
            {
                "provider": "openrouter",
                "model": THEIRS,
                "state": "open",
                "until": "2026-01-12T12:01:30.000Z",
                "reason": "throttle",
                "why": openrouter,
            },
        ],
        "brief": f"anthropic/{MODEL} rests until 12:01:00; openrouter/{THEIRS} rests until 12:01:30",
    }


async def test_where_time_cannot_help_both_times_are_null(peer: Peer) -> None:
    for name in ("anthropic", "openrouter"):
        await peer.ask("disable", provider=name)
    wait = await peer.ask("acquire", provider="anthropic", model=MODEL)
    assert (wait["type"], wait["retry_at"], wait["retry_after_ms"]) == ("wait", None, None)
    assert [(c["state"], c["until"], c["reason"]) for c in wait["candidates"]] == [("disabled", None, "disabled")] * 2


async def test_an_estimate_beyond_the_context_of_a_model_goes_elsewhere(house: House, peer: Peer) -> None:
    short = '[[provider]]\nid = "anthropic"\n[provider.models]\nsonnet = { name = "sonnet", context = 1000 }\n'
    house.place.configure(f"{SETTINGS}{short}{OPENROUTER}")
    await peer.ask("reload")
    assert (await peer.use(estimate=1000))["provider"] == "anthropic"
    elsewhere = await peer.use(estimate=1001)
    assert (elsewhere["provider"], elsewhere["reason"]) == ("openrouter", "limit")


# report, usage


async def test_accepted_counts_and_ok_ends_it(peer: Peer) -> None:
    use = await peer.use()
    assert await peer.report(use, "accepted") == {"type": "recorded", "verdict": {"kind": "ok", "scope": "none"}}
    assert (await peer.used(), (await peer.provider())["in_flight"]) == ((1, 0), 1)
    assert await peer.report(use, "ok") == {"type": "recorded", "verdict": {"kind": "ok", "scope": "none"}}
    assert (await peer.used(), (await peer.provider())["in_flight"]) == ((1, 0), 0)


async def test_a_cancelled_request_counts_and_rests_nothing(peer: Peer) -> None:
    recorded = await peer.report(await peer.use(), "cancelled")
    assert recorded == {"type": "recorded", "verdict": {"kind": "cancelled", "scope": "none"}}
    assert await peer.used() == (1, 0)


async def test_a_refused_request_is_told_where_to_go_on(peer: Peer) -> None:
    assert await peer.refuse(await peer.use(), after=60) == {
        "type": "recorded",
        "verdict": {"kind": "throttle", "scope": "model", "until": "2026-01-12T12:01:00.000Z", "hint_ms": 60_000},
        "next": {
            "type": "use",
            "id": None,
            "provider": "openrouter",
            "model": THEIRS,
            "switched": True,
            "reason": "cooldown",
            "message": "anthropic is cooling down until 12:01:00 (throttle); using openrouter",
        },
    }
    anthropic = await peer.provider()
    assert (await peer.used(), anthropic["error_count"]) == ((0, 0), 1)


async def test_where_nobody_is_left_next_says_how_long_to_wait(peer: Peer) -> None:
    await peer.refuse(await peer.use(), after=60)
    recorded = await peer.refuse(await peer.use(), after=90)
    assert recorded["next"]["type"] == "wait"
    assert recorded["next"]["retry_at"] == "2026-01-12T12:01:00.000Z"


async def test_no_next_for_whoever_wants_none(peer: Peer) -> None:
    assert "next" not in await peer.refuse(await peer.use(), retry=False)


async def test_the_same_lease_reported_twice_counts_once(peer: Peer) -> None:
    done, refused = await peer.use(), await peer.use()
    await peer.report(done)
    first = await peer.refuse(refused)
    assert (await peer.report(done))["duplicate"]
    again = await peer.refuse(refused)
    assert again["duplicate"]
    assert (again["verdict"], again["next"]) == (first["verdict"], first["next"])
    assert (await peer.used(), (await peer.provider())["error_count"]) == ((1, 0), 1)


async def test_also_in_one_chunk(peer: Peer) -> None:
    mine = (await peer.use())["lease"]
    for lease in (mine, "of-a-former-daemon"):
        report = asked("report", provider="anthropic", model=MODEL, lease=lease, outcome="ok")
        await peer.say(report, report)
        assert ["duplicate" in await peer.hear() for _ in range(2)] == [False, True], lease
    assert await peer.used() == (2, 0)


async def test_a_report_needs_no_lease(peer: Peer) -> None:
    names = {"provider": "anthropic", "model": MODEL}
    await peer.report(names, "ok", session="s", started_at="2026-01-12T11:59:59Z")
    recorded = await peer.report(names, "error", status=529, message="Overloaded")
    assert recorded["verdict"] == {"kind": "overloaded", "scope": "server", "until": "2026-01-12T12:00:10.000Z"}
    assert await peer.used() == (1, 0)


async def test_a_report_on_what_is_not_ours_is_recorded_and_has_no_effect(peer: Peer) -> None:
    recorded = await peer.report({"provider": "mistral", "model": "large"}, "error", status=429)
    assert recorded == {"type": "recorded", "verdict": {"kind": "throttle", "scope": "none"}}


async def test_tokens_are_counted_with_the_report_or_after_it_and_once(house: House, peer: Peer) -> None:
    tokens = '[[provider.limit]]\nof = "tokens"\nmax = 1000\nper = "1h"\n'
    house.place.configure(f'{SETTINGS}[[provider]]\nid = "anthropic"\nmodels = ["{MODEL}"]\n{tokens}')
    await peer.ask("reload")
    await peer.report(await peer.use(), usage={"input": 10, "output": 5, "cost": 0.01})
    use = await peer.use(estimate=300)
    await peer.report(use)
    assert await peer.used() == (15, 300)
    usage = {"input": 100, "output": 20, "reasoning": 30, "cache_read": 40, "cache_write": 10}
    assert await peer.ask("usage", lease=use["lease"], usage=usage) == {
        "type": "recorded",
        "verdict": {"kind": "ok", "scope": "none"},
    }
    assert (await peer.ask("usage", lease=use["lease"], usage=usage))["duplicate"]
    assert await peer.used() == (215, 0)
    await peer.ask("usage", provider="anthropic", model=MODEL, session="s", usage={"input": 5})
    assert await peer.used() == (220, 0)


async def test_usage_has_to_say_of_what(peer: Peer) -> None:
    assert await peer.ask("usage", usage={"input": 1}, provider="anthropic") == bad(
        'usage: give the "lease", or the "provider" and the "model".'
    )


# status, explain, log, history


async def test_status_of_a_fresh_daemon(house: House, peer: Peer) -> None:
    status = await peer.ask("status")
    assert list(status) == ["type", "daemon", "providers", "current_provider", "model_mapping", "pins", "text"]
    assert status["daemon"] == {
        "pid": os.getpid(),
        "version": __version__,
        "started_at": "2026-01-12T12:00:00.000Z",
        "socket": str(house.place.paths.socket),
        "durable": True,
        "agents": 0,
        "config": str(house.place.paths.config),
        "config_error": None,
        "clients": [],
        "notify": [],
    }
    assert status["current_provider"] is None
    assert status["model_mapping"] == {MODEL: ["anthropic", "openrouter"]}
    assert status["pins"] == {}
    assert status["text"].startswith("=== Rate Limit Manager Status ===")


async def test_explain_names_every_candidate_in_order_and_why(peer: Peer) -> None:
    await peer.refuse(await peer.use())
    explained = await peer.ask("explain", model=MODEL, session="s")
    limits = [c.pop("limits") for c in explained["candidates"]]
    assert explained == {
        "type": "explained",
        "model": MODEL,
        "decision": "use",
        "retry_at": None,
        "message": "the next request goes to openrouter",
        "candidates": [
            {
                "provider": "anthropic",
                "model": MODEL,
                "state": "open",
                "taken": False,
                "until": "2026-01-12T12:01:00.000Z",
                "why": "anthropic is cooling down until 12:01:00 (throttle)",
            },
            {
                "provider": "openrouter",
                "model": THEIRS,
                "state": "closed",
                "taken": True,
                "until": None,
                "why": "openrouter comes next: priority 2",
            },
        ],
    }
    assert [[limit["max"] for limit in of_one] for of_one in limits] == [[50, 1000], [100]]


async def test_explain_says_when_nobody_can(peer: Peer) -> None:
    await peer.ask("cooldown", provider="anthropic", for_ms=60_000)
    await peer.ask("disable", provider="openrouter")
    explained = await peer.ask("explain", model=MODEL)
    assert (explained["decision"], explained["retry_at"], explained["message"]) == (
        "wait",
        "2026-01-12T12:01:00.000Z",
        "nobody can serve sonnet before 12:01:00",
    )


async def test_explain_says_what_made_the_winner_win_and_the_others_not(peer: Peer) -> None:
    async def why(**fields: Any) -> list[str]:
        return [c["why"] for c in (await peer.ask("explain", model=MODEL, **fields))["candidates"]]

    assert await why() == [
        "anthropic comes first: priority 1",
        "openrouter could serve; an earlier one is taken",
    ]
    await peer.report(await peer.use(session="s"), "error", status=500, session="s")
    await peer.use(session="s")
    assert await why(session="s") == ["openrouter is where this session is", "anthropic failed in this turn"]
    await peer.ask("pin", provider="openrouter")
    assert await why() == ["openrouter is pinned", "anthropic could serve; an earlier one is taken"]


async def test_explaining_a_model_that_nobody_serves_names_those_there_are(peer: Peer) -> None:
    assert await peer.ask("explain", model="opus") == {
        "type": "error",
        "code": "not_found",
        "message": "no provider serves 'opus'; there are: sonnet.",
    }


async def test_the_log_has_the_events_newest_last(peer: Peer) -> None:
    await peer.ask("disable", provider="anthropic")
    await trio.sleep(60)
    await peer.ask("enable", provider="anthropic")
    disabled = {
        "type": "event",
        "event": "state",
        "at": "2026-01-12T12:00:00.000Z",
        "message": "anthropic is disabled by hand",
        "provider": "anthropic",
    }
    enabled = disabled | {"at": "2026-01-12T12:01:00.000Z", "message": "anthropic is enabled by hand"}
    assert await peer.ask("log") == {"type": "log", "events": [disabled, enabled]}
    assert (await peer.ask("log", limit=1))["events"] == [enabled]
    assert (await peer.ask("log", since="2026-01-12T13:00:30+01:00"))["events"] == [enabled]


async def test_usage_over_time(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    async def at_once(function: Any, *arguments: Any, **_: Any) -> Any:
        return function(*arguments)

    async def process(command: Any, *, stdin: bytes, check: bool, **_: Any) -> Any:
        return subprocess.run(command, input=stdin, stdout=subprocess.PIPE, check=check)  # noqa: ASYNC221  (nobody waits)

    # No threads and no processes on virtual time.
    monkeypatch.setattr(trio.to_thread, "run_sync", at_once)
    monkeypatch.setattr(trio, "run_process", process)
    await peer.report(await peer.use())
    reply = await peer.ask("history", since="2026-01-01T00:00:00Z", bucket="day")
    assert [(row["at"], row["provider"], row["requests"]) for row in reply["rows"]] == [
        ("2026-01-12T00:00:00.000Z", "anthropic", 1)
    ]
    # Three million days to come are none to look at.
    assert (await peer.ask("history", until="9999-12-31T23:59:59Z", bucket="day"))["rows"] == reply["rows"]


# reset, cooldown, enable, disable, pin


@pytest.mark.parametrize(
    ("what", "used", "state"),
    [("counters", 0, "open"), ("cooldowns", 1, "closed"), ("all", 0, "closed"), (None, 0, "closed")],
)
@pytest.mark.parametrize("provider", ["anthropic", None])
async def test_reset_forgets_what_it_is_told_to(
    peer: Peer, what: str | None, provider: str | None, used: int, state: str
) -> None:
    await peer.report(await peer.use())
    await peer.refuse(await peer.use())
    given = {name: value for name, value in (("what", what), ("provider", provider)) if value is not None}
    reply = await peer.ask("reset", **given)
    what = {"all": "counters and cooldowns", None: "counters and cooldowns"}.get(what, what)
    whose = provider or "all providers"
    assert reply == {"type": "done", "message": f"{what} of {whose} were reset by hand"}
    anthropic = await peer.provider()
    assert (anthropic["request_count"], anthropic["state"]) == (used, state)
    assert anthropic["error_count"] == used, "counted since the last reset of the counters"


async def test_resetting_one_leaves_the_others(peer: Peer) -> None:
    await peer.report(await peer.use())
    await peer.ask("reset", provider="openrouter")
    assert await peer.used() == (1, 0)


@pytest.mark.parametrize(
    ("op", "fields"), [("reset", {}), ("cooldown", {"for_ms": 1000}), ("enable", {}), ("disable", {}), ("pin", {})]
)
async def test_an_unknown_provider_is_not_found_and_the_known_ones_are_named(
    peer: Peer, op: str, fields: dict[str, Any]
) -> None:
    assert await peer.ask(op, provider="mistral", **fields) == {
        "type": "error",
        "code": "not_found",
        "message": "there is no provider 'mistral'; there are: anthropic, openrouter.",
    }


async def test_a_name_that_is_nearly_right_is_told_the_right_one(peer: Peer) -> None:
    refused = await peer.ask("enable", provider="antropic")
    there = "There are: anthropic, openrouter."
    assert refused["message"] == f"there is no provider 'antropic'; did you mean 'anthropic'? {there}"
    for op, fields in (("explain", {}), ("pin", {"provider": "anthropic"})):
        refused = await peer.ask(op, model="sonet", **fields)
        assert refused["message"] == "no provider serves 'sonet'; did you mean 'sonnet'? There are: sonnet."
    refused = await peer.ask("cooldown", provider="anthropic", model="sonet", for_ms=1000)
    assert refused["message"].startswith("anthropic serves no model 'sonet'; did you mean 'sonnet'?")


@pytest.mark.parametrize("span", [{"for_ms": 90_000}, {"until": "2026-01-12T13:01:30+01:00"}])
async def test_a_provider_can_be_put_to_rest(peer: Peer, span: dict[str, Any]) -> None:
    reply = await peer.ask("cooldown", provider="anthropic", reason="dentist", **span)
    assert reply == {"type": "done", "message": "anthropic rests until 12:01:30 (dentist)"}
    anthropic = await peer.provider()
    assert (anthropic["state"], anthropic["until"], anthropic["reason"]) == (
        "open",
        "2026-01-12T12:01:30.000Z",
        "dentist",
    )


@pytest.mark.parametrize("name", [MODEL, THEIRS])
async def test_one_model_of_it_too_by_either_name(peer: Peer, name: str) -> None:
    await peer.ask("cooldown", provider="openrouter", model=name, for_ms=60_000)
    assert (await peer.provider("openrouter"))["state"] == "open"


async def test_a_model_that_it_does_not_serve_is_not_found(peer: Peer) -> None:
    reply = await peer.ask("cooldown", provider="anthropic", model="opus", for_ms=60_000)
    assert reply["code"] == "not_found"
    assert reply["message"] == "anthropic serves no model 'opus'; there are: sonnet."


@pytest.mark.parametrize(
    "span",
    [{}, {"until": "2026-01-12T11:59:59Z"}, {"until": "2027-02-01T00:00:00Z"}, {"until": "9999-12-31T23:59:59Z"}],
)
async def test_a_rest_ends_in_the_coming_year(peer: Peer, span: dict[str, Any]) -> None:
    assert await peer.ask("cooldown", provider="anthropic", **span) == bad(
        'cooldown: give "for_ms", or "until" as a time in the coming year.'
    )
    assert (await peer.provider())["state"] == "closed"


async def test_a_rest_of_no_length_is_refused_and_changes_nothing(peer: Peer) -> None:
    assert await peer.ask("cooldown", provider="anthropic", for_ms=0) == bad(
        'cooldown: "for_ms" is 0, which is no rest. To end a cooldown: rlmctl reset anthropic --cooldowns'
    )
    assert await peer.ask("cooldown", provider="anthropic", until="2026-01-12T12:00:00Z") == bad(
        'cooldown: give "for_ms", or "until" as a time in the coming year.'
    )
    assert (await peer.provider())["state"] == "closed"


async def test_a_changed_limit_is_told_anew_when_the_configuration_is_read_again(house: House, peer: Peer) -> None:
    for _ in range(3):
        await peer.report(await peer.use())
    house.place.configure(TWO.replace("hourly_limit = 50", "hourly_limit = 2"))
    await peer.ask("reload")
    told = [event["message"] for event in (await peer.ask("log"))["events"] if event["event"] == "exhausted"]
    assert told == ["anthropic has used 3 of 2 requests per 1h, resets 13:00:00"]


async def test_a_changed_configuration_is_the_last_word_on_who_is_enabled(house: House, peer: Peer) -> None:
    await peer.ask("disable", provider="anthropic")
    for text, enabled in ((TWO, False), (TWO.replace("[[provider]]", "[[provider]]\nenabled = false", 1), False)):
        house.place.configure(text)
        await peer.ask("reload")
        assert (await peer.provider())["enabled"] is enabled
    house.place.configure(TWO)
    await peer.ask("reload")
    assert (await peer.provider())["enabled"] is True


async def test_a_disabled_provider_gets_nothing_until_it_is_enabled(peer: Peer) -> None:
    assert await peer.ask("disable", provider="anthropic") == {
        "type": "done",
        "message": "anthropic is disabled by hand",
    }
    anthropic = await peer.provider()
    assert (anthropic["enabled"], anthropic["available"], anthropic["state"]) == (False, False, "disabled")
    use = await peer.use()
    assert (use["provider"], use["reason"]) == ("openrouter", "disabled")
    assert await peer.ask("enable", provider="anthropic") == {"type": "done", "message": "anthropic is enabled by hand"}
    assert (await peer.use())["provider"] == "anthropic"


async def test_a_pinned_provider_comes_first_until_the_choice_is_automatic_again(peer: Peer) -> None:
    assert await peer.ask("pin", provider="openrouter") == {
        "type": "done",
        "message": "openrouter is used first until you say otherwise",
    }
    status = await peer.ask("status")
    assert (status["pins"], status["current_provider"]) == ({"*": "openrouter"}, "openrouter")
    assert (await peer.use())["reason"] == "pinned"
    assert await peer.ask("pin", provider=None) == {
        "type": "done",
        "message": "the choice of the provider is automatic again",
    }
    assert (await peer.use())["provider"] == "anthropic"


async def test_a_pin_may_be_for_one_model(peer: Peer) -> None:
    await peer.ask("pin", provider="openrouter", model=MODEL)
    assert (await peer.ask("status"))["pins"] == {MODEL: "openrouter"}
    reply = await peer.ask("pin", provider=None, model=MODEL)
    assert reply["message"] == "the choice of the provider is automatic again for sonnet"
    assert (await peer.ask("status"))["pins"] == {}


async def test_a_pin_for_a_model_that_nobody_serves_is_not_found(peer: Peer) -> None:
    reply = await peer.ask("pin", provider="openrouter", model="opus")
    assert (reply["code"], reply["message"]) == ("not_found", "no provider serves 'opus'; there are: sonnet.")


# subscribe


async def test_a_subscriber_is_told_what_happens(house: House, peer: Peer) -> None:
    listener = await house.peer()
    assert await listener.ask("subscribe") == {"type": "subscribed", "events": sorted(EVENTS)}
    await peer.refuse(await peer.use(session="s"), session="s")
    await peer.use(session="s")
    cooling = await listener.hear()
    assert cooling == {
        "type": "event",
        "event": "state",
        "at": "2026-01-12T12:00:00.000Z",
        "message": "anthropic/sonnet is cooling down until 12:01:00 (throttle)",
        "provider": "anthropic",
        "model": MODEL,
        "reason": "throttle",
        "until": "2026-01-12T12:01:00.000Z",
        "allowance": {"of": "requests", "basis": "wait", "per": "1m", "used": 0, "model": MODEL},
    }
    switched = await listener.hear()
    assert "id" not in switched
    assert {name: switched[name] for name in ("event", "provider", "to", "model", "session", "reason")} == {
        "event": "switched",
        "provider": "anthropic",
        "to": "openrouter",
        "model": MODEL,
        "session": "s",
        "reason": "cooldown",
    }


async def test_only_of_the_kinds_it_wants(house: House, peer: Peer) -> None:
    listener = await house.peer()
    assert (await listener.ask("subscribe", events=["reset", "config"]))["events"] == ["config", "reset"]
    await peer.ask("disable", provider="anthropic")
    await peer.ask("reset")
    assert (await listener.hear())["event"] == "reset"
    assert (await listener.ask("subscribe", events=[]))["events"] == []
    await peer.ask("reset")
    assert (await listener.ask("ping"))["type"] == "pong", "no event before it"


async def test_an_unknown_kind_is_refused(peer: Peer) -> None:
    reply = await peer.ask("subscribe", events=["weather"])
    assert reply == bad("subscribe: Invalid enum value 'weather' - at `$.events[0]`.")


async def test_on_ones_own_connection_the_reply_comes_before_the_events_it_led_to(peer: Peer) -> None:
    await peer.say(
        asked("subscribe", 1),
        asked("disable", 2, provider="anthropic"),
        asked("enable", 3, provider="anthropic"),
    )
    assert [(await peer.hear()).get("id") for _ in range(5)] == [1, 2, 3, None, None]
    await peer.say(asked("disable", 4, provider="anthropic"))
    assert [(await peer.hear()).get("id") for _ in range(2)] == [4, None]


async def test_who_draws_the_status_is_told_once_of_each_change_since_it_looked(house: House, peer: Peer) -> None:
    painter = await house.peer()
    assert (await painter.ask("subscribe", events=["changed"]))["events"] == ["changed"]

    async def is_told() -> bool:
        with trio.move_on_after(1) as waited:
            told = await painter.hear()
            assert told["event"] == "changed"
        return not waited.cancelled_caught

    await peer.use()
    assert not await is_told()  # it has not looked yet
    await painter.ask("status")
    await peer.ask("status")
    await peer.ask("acquire", provider="anthropic", model=MODEL, dry_run=True)
    assert not await is_told()
    use = await peer.use()
    await peer.report(use)
    assert await is_told()
    assert not await is_told()  # it has not looked again
    await painter.ask("explain", model=MODEL)
    await peer.report(await peer.use())
    assert await is_told()
    for change in (peer.report(use), peer.ask("hello", client="opencode"), peer.ask("disable", provider="anthropic")):
        await painter.ask("status")
        await change
        assert await is_told()
    await painter.ask("status")
    await peer.stream.aclose()
    assert await is_told()
    assert (await painter.ask("log"))["events"][-1]["event"] == "state"


async def test_a_burst_of_events_reaches_a_subscriber_who_reads(house: House, peer: Peer) -> None:
    listener = await house.peer()
    await listener.ask("subscribe")
    await peer.say(*[asked("disable", n, provider="anthropic") for n in range(600)])
    for n in range(600):
        assert (await peer.hear())["id"] == n
        assert (await listener.hear())["event"] == "state"


# reload, shutdown


async def test_reload_puts_the_file_into_force(house: House, peer: Peer) -> None:
    await peer.report(await peer.use())
    house.place.configure(TWO.replace("hourly_limit = 50", "hourly_limit = 1"))
    assert await peer.ask("reload") == {
        "type": "done",
        "message": f"the configuration {house.place.paths.config} is in force: 2 providers",
    }
    assert (await peer.use())["provider"] == "openrouter", "one of now one is used"


async def test_a_bad_file_changes_nothing_and_status_says_so_until_it_is_mended(house: House, peer: Peer) -> None:
    listener = await house.peer()
    await listener.ask("subscribe", events=["config"])
    house.place.configure(BAD)
    reply = await peer.ask("reload")
    assert reply["code"] == "bad_request"
    assert reply["message"].startswith(f"{house.place.paths.config}:1: ")
    assert reply["message"].endswith(" The daemon keeps the configuration it has.")
    assert (await listener.hear())["message"] == reply["message"]
    error = (await peer.ask("status"))["daemon"]["config_error"]
    assert reply["message"] == f"{error} The daemon keeps the configuration it has."
    assert (await peer.use())["provider"] == "anthropic"
    house.place.configure(TWO)
    assert (await peer.ask("reload"))["type"] == "done"
    assert (await listener.hear())["event"] == "config"
    assert (await peer.ask("status"))["daemon"]["config_error"] is None


async def test_a_file_that_is_gone_changes_nothing_either(house: House, peer: Peer) -> None:
    house.place.paths.config.unlink()
    assert (await peer.ask("reload"))["code"] == "bad_request"
    assert (await peer.use())["provider"] == "anthropic"


async def test_shutdown_is_answered_and_the_daemon_ends(house: House, peer: Peer) -> None:
    assert await peer.ask("shutdown") == {"type": "done", "message": "rlmd is stopping"}
    assert await peer.ended()
    with trio.fail_after(1):
        await house.stopped.wait()
    assert not house.place.paths.socket.exists()


# Who may ask, and what is never told


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user for a moment")
async def test_another_user_is_refused(house: House) -> None:
    house.place.root.chmod(0o711)
    house.place.paths.state_dir.chmod(0o711)
    house.place.paths.socket.chmod(0o666)
    os.seteuid(65534)
    try:
        stranger = await house.peer()
    finally:
        os.seteuid(0)
    reply = await stranger.hear()
    assert (reply["code"], reply["message"]) == ("unauthorized", "This rlmd serves its owner only.")
    assert await stranger.ended()


async def test_whoever_cannot_be_named_is_refused(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_: object) -> int:
        raise OSError

    monkeypatch.setattr(peers, "uid", unknown)
    assert (await (await house.peer()).hear())["code"] == "unauthorized"


async def test_nothing_of_a_body_a_header_or_a_key_is_told_or_kept(house: House, peer: Peer) -> None:
    secret = "sk-very-secret"
    listener = await house.peer()
    await listener.ask("subscribe")
    use = await peer.use()
    refusal = {
        "status": 429,
        "headers": {"retry-after": "60", "authorization": f"Bearer {secret}"},
        "body": json.dumps({"error": {"type": "rate_limit_error", "message": f"slow down, {secret}"}}),
        "message": secret,
    }
    told = [await peer.report(use, "error", **refusal), await listener.hear()]
    told += [await peer.ask(op) for op in ("status", "log")] + [await peer.ask("explain", model=MODEL)]
    assert secret not in json.dumps(told)
    await house.end()
    kept = [path for path in house.place.paths.state_dir.iterdir() if path.is_file()]
    assert kept
    assert not any(secret.encode() in path.read_bytes() for path in kept)


async def test_a_test_message_needs_somebody_to_send_it_to(peer: Peer) -> None:
    refused = await peer.ask("notify_test")
    assert (refused["type"], refused["code"]) == ("error", "not_found")
    assert "[notify]" in refused["message"]


# From elsewhere


SHARED = """\
time_zone = "UTC"
[[provider]]
id = "anthropic"
models = ["sonnet"]
account = "plan"
hourly_limit = 50
[[provider.limit]]
of = "requests"
max = 9
per = "1m"
[[provider]]
id = "anthropic-eu"
models = ["sonnet"]
account = "plan"
"""


async def test_what_another_program_counted_is_the_least_there_was(house: House, peer: Peer) -> None:
    house.place.configure(SHARED)
    await peer.ask("reload")
    for _ in range(3):
        await peer.report(await peer.use())
    both = [{"provider": "anthropic", "requests": 20, "errors": 2}, {"provider": "anthropic-eu", "requests": 15}]
    for _ in range(2):
        reply = await peer.ask("adopt", providers=both, current="anthropic-eu")
        assert reply == {
            "type": "adopted",
            "taken": [
                "anthropic: 20 requests in the hour that runs, 2 errors",
                "anthropic-eu: 15 requests in the hour that runs, 0 errors",
            ],
            "left": ["anthropic-eu as the current provider; to put it first: rlmctl use anthropic-eu"],
        }
        anthropic = await peer.provider()
        assert [limit["used"] for limit in anthropic["limits"]] == [35, 3], (
            "of one account; a minute says nothing of them"
        )
        assert anthropic["error_count"] == 2


@pytest.mark.parametrize("zone", ["America/Los_Angeles", "Pacific/Kiritimati"])
@pytest.mark.parametrize(
    ("until", "told"),
    [
        ("0001-01-01T00:00:00+14:00", "anthropic: its cooldown is over since"),
        ("9999-12-31T23:59:59-12:00", "anthropic: a cooldown of more than a year"),
    ],
)
async def test_a_time_that_not_every_zone_has_is_told_too(
    house: House, peer: Peer, zone: str, until: str, told: str
) -> None:
    house.place.configure(SHARED.replace("UTC", zone))
    await peer.ask("reload")
    reply = await peer.ask("adopt", providers=[{"provider": "anthropic", "until": until}])
    assert [left[: len(told)] for left in reply["left"]] == [told]
    assert (await peer.ask("cooldown", provider="anthropic", until=until))["code"] == "bad_request"
    assert (await peer.ask("log", since=until))["type"] == "log"
    use = await peer.use()
    assert (await peer.report(use, started_at=until))["verdict"]["kind"] == "ok"


async def test_an_import_that_is_not_there_is_refused(peer: Peer) -> None:
    await peer.say(b'{"op":"import"}\n')
    assert (await peer.hear())["code"] == "unavailable"


async def test_every_operation_has_been_asked_for_here() -> None:
    with open(__file__, encoding="utf-8") as file:  # noqa: ASYNC230, PTH123  (this file, while nobody waits)
        text = file.read()
    assert [op for op in OPS if f'"{op}"' not in text] == []
