"""limits suggest: what refusals show, told with its grounds, as TOML that holds once it is pasted."""

from __future__ import annotations

import json
import tomllib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from ctl.person import MODEL
from rlmctl.insight.suggestions import Suggestion, suggest

if TYPE_CHECKING:
    from ctl.person import Daemon

BARE = f'[[provider]]\nid = "anthropic"\nmodels = ["{MODEL}"]\n'


@pytest.fixture
def bare(daemon: Daemon) -> Daemon:
    """A person who has written no limit down."""
    daemon.write_config(BARE)
    assert daemon.ctl("reload").returncode == 0
    return daemon


def serve(daemon: Daemon, times: int, headers: dict[str, str] | None = None) -> None:
    with daemon.connect() as agent:
        for _ in range(times):
            use = agent.request("acquire", provider="anthropic", model=MODEL)
            told = {"lease": use["lease"], "outcome": "ok", "headers": headers}
            agent.request("report", provider="anthropic", model=MODEL, **told)


def refuse(daemon: Daemon, after: int | None = None, text: str = "slow down") -> None:
    with daemon.connect() as agent:
        use = agent.request("acquire", provider="anthropic", model=MODEL)
        headers = {} if after is None else {"retry-after": str(after)}
        body = json.dumps({"error": {"type": "rate_limit_error", "message": text}})
        error = {"lease": use["lease"], "outcome": "error", "status": 429, "headers": headers, "body": body}
        agent.request("report", provider="anthropic", model=MODEL, **error)


def test_where_nothing_was_refused_there_is_nothing_to_go_by(daemon: Daemon) -> None:
    run = daemon.ctl("limits", "suggest")
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout == "Nothing to go by: no provider has refused a request or stated a limit in the last 90d.\n"
    assert daemon.ctl_json("limits", "suggest")["suggestions"] == []


def test_a_refusal_for_most_of_an_hour_after_so_many_requests_is_an_hourly_limit(bare: Daemon) -> None:
    serve(bare, 12)
    refuse(bare, after=3500)
    run = bare.ctl("limits", "suggest")
    assert (run.returncode, run.stderr) == (0, "")
    first, why = run.stdout.splitlines()[:2]
    assert first == "anthropic: 12 requests per hour"
    assert why.startswith("    1 refusal, the last on ")
    assert why.endswith(": 12 requests had been counted in the hour before; one refusal is a guess")
    told = bare.ctl_json("limits", "suggest")
    limit = tomllib.loads(told["toml"])["provider"]["limit"]
    assert [(one["of"], one["max"], one["per"]) for one in limit] == [("requests", 12, "1h")]


def test_what_is_pasted_holds_and_is_not_suggested_again(bare: Daemon) -> None:
    serve(bare, 5)
    refuse(bare)
    bare.write_config(BARE + bare.ctl_json("limits", "suggest")["toml"])
    assert bare.ctl("reload").returncode == 0
    configured = bare.status()["providers"][0]["limits"]
    assert [(one["of"], one["max"], one["per"], one["window"]) for one in configured] == [
        ("requests", 5, "1m", "rolling")
    ]
    run = bare.ctl("limits", "suggest")
    assert "    the configuration says 5 already" in run.stdout
    assert "To paste" not in run.stdout


def test_a_limit_that_is_configured_too_high_is_named(daemon: Daemon) -> None:
    serve(daemon, 7)
    refuse(daemon, after=3000)
    run = daemon.ctl("limits", "suggest", "--provider", "anthropic")
    assert "    the configuration says 50, which is never reached" in run.stdout
    assert daemon.ctl_json("limits", "suggest", "--provider", "openrouter")["suggestions"] == []


def test_what_the_provider_says_itself_is_believed(bare: Daemon) -> None:
    headers = {
        "anthropic-ratelimit-requests-limit": "50",
        "anthropic-ratelimit-requests-remaining": "49",
        "anthropic-ratelimit-requests-reset": (datetime.now(UTC) + timedelta(hours=1)).isoformat(),
    }
    serve(bare, 1, headers)
    refuse(bare, text="This request would exceed your organization's rate limit of 30,000 input tokens per minute")
    found = {s["of"]: s for s in bare.ctl_json("limits", "suggest")["suggestions"]}
    assert (found["requests"]["max"], found["requests"]["per"], found["requests"]["basis"]) == (50, "1m", "stated")
    assert (found["input_tokens"]["max"], found["input_tokens"]["refusals"]) == (30_000, 1)


def test_a_span_that_is_none_is_wrong_usage(daemon: Daemon) -> None:
    run = daemon.ctl("limits", "suggest", "--since", "1 month")
    assert run.returncode == 2
    assert run.stderr.endswith("  mend: rlmctl limits suggest --since 30d\n")


# What the daemon tells, as `suggest` reads it


def refusal(at: str, used: int | None, per: str | None = "1h", **more: Any) -> dict[str, Any]:
    told = {"of": "requests", "basis": "wait", "per": per, "used": used, **more}
    allowance = {name: value for name, value in told.items() if value is not None}
    return {
        "event": "exhausted",
        "at": at,
        "until": "2026-01-12T13:00:00.000Z",
        "provider": "a",
        "allowance": allowance,
    }


def found(events: list[dict[str, Any]], *limits: dict[str, Any], rows: Any = (), models: int = 1) -> list[Suggestion]:
    provider = {"id": "a", "models": ["m", "n"][:models], "limits": list(limits)}
    return suggest(events, {"providers": [provider]}, rows)


def test_refusals_that_agree_are_one_limit_and_the_lowest_is_taken() -> None:
    (one,) = found([refusal("2026-01-12T10:50:00Z", 52), refusal("2026-01-12T12:50:00Z", 50)])
    assert (one.max, one.counted, one.refusals, one.window) == (50, [52, 50], 2, None)


def test_refusals_that_do_not_agree_are_no_limit_on_requests() -> None:
    (one,) = found([refusal("2026-01-12T10:50:00Z", 90), refusal("2026-01-12T12:50:00Z", 20)])
    assert one.max is None
    assert one.why.endswith("after 20 to 90 requests in the hour before: that is no limit on requests")


def test_a_window_that_began_anew_between_two_refusals_is_counted_from_the_first() -> None:
    (one,) = found([refusal(f"2026-01-12T12:{minute}:00Z", used) for minute, used in ((10, 20), (20, 40), (30, 61))])
    assert (one.max, one.counted) == (20, [20, 20, 21])
    assert one.why.endswith(": 20 to 21 requests had been counted since the refusal before")


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"used": None, "per": None}, "a did not say of which span, nor how long to wait"),
        ({"used": None, "of": "tokens"}, "it is one on tokens, and a does not say how many"),
        ({"used": 0}, "nothing had been counted here in the hour before, so others use that key too"),
    ],
)
def test_where_no_limit_can_be_named_it_says_why(told: dict[str, Any], why: str) -> None:
    (one,) = found([refusal("2026-01-12T12:50:00Z", **told)])
    assert one.max is None
    assert one.why.endswith(why)


def test_a_window_that_was_not_watched_whole_is_counted_by_the_hours_of_the_history() -> None:
    rows = [
        {"at": f"2026-01-12T{hour:02}:00:00Z", "provider": name, "model": "m", "requests": 10}
        for hour in (7, 8, 9, 12)
        for name in ("a", "b")
    ]
    event = refusal("2026-01-12T12:50:00Z", None, "5h")
    (one,) = found([event], rows=rows)
    assert (one.max, one.per, one.window) == (30, "5h", "first_use")


def test_hours_that_begin_at_half_past_are_counted_where_the_window_holds_a_part_of_them() -> None:
    rows = [
        {"at": f"2026-01-12T{hour:02}:30:00Z", "provider": "a", "model": "m", "requests": 10} for hour in (6, 7, 8, 12)
    ]
    (one,) = found([refusal("2026-01-12T13:10:00Z", None, "5h")], rows=rows)
    assert one.max == 20 + 10


def test_a_window_that_ends_at_any_minute_is_no_calendar_hour() -> None:
    event = refusal("2026-01-12T12:10:00Z", 40)
    (one,) = found([event | {"until": "2026-01-12T12:31:00.000Z"}])
    assert one.window == "rolling"


def test_a_limit_of_one_model_names_it_where_there_are_others() -> None:
    event = refusal("2026-01-12T12:50:00Z", 40, model="m")
    assert [one.model for models in (1, 2) for one in found([event], models=models)] == [None, "m"]


def test_providers_that_have_left_the_configuration_are_passed_over() -> None:
    assert found([refusal("2026-01-12T12:50:00Z", 40) | {"provider": "gone"}]) == []
