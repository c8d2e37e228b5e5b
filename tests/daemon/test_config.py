"""What a person may write down, what it comes to, and what is said where it is wrong."""

from __future__ import annotations

import json
import re
from datetime import UTC, date, time
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rlmd.config.policy import Agent, Config, ConfigError, MissingConfigError, Notify, load, parse
from rlmd.config.tables import TABLES, File
from rlmd.core.expression import Expression
from rlmd.core.model import Cooldown, Limit, Pattern, Policy, Provider, ProviderModel

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"
BERLIN = ZoneInfo("Europe/Berlin")
TOKYO = ZoneInfo("Asia/Tokyo")
ENVIRON = {"TZ": "Europe/Berlin"}

MINIMAL = """\
[[provider]]
id = "anthropic"                     # the agent's own provider id
priority = 1                         # 1 is tried first; equal numbers share the load
models = ["claude-sonnet-4-5"]
hourly_limit = 50
daily_limit = 1000

[[provider]]
id = "openrouter"
priority = 2
models = ["claude-sonnet-4-5"]
hourly_limit = 100
daily_limit = 2000
"""

FULL = """\
prefer = "agent"
strategy = "headroom"
failback = "session"
patience = "5s"
time_zone = "Asia/Tokyo"
autostart = false

[[provider]]
id = "anthropic"
enabled = false
account = "team"
models = ["claude-sonnet-4-5"]
hourly_limit = 50
[[provider.limit]]
of = "tokens"
max = 400_000
per = "1m"
model = "claude-sonnet-4-5"
warn_at = [0.95, 0.5]
[[provider.limit]]
of = "requests"
max = 900
per = "5h"
window = "first_use"
[[provider.limit]]
of = "cost"
max = 12.5
per = "month"
time_zone = "local"

[[provider]]
id = "openrouter"
priority = 2
time_zone = "UTC"
daily_limit = 200
[provider.models]
"claude-sonnet-4-5" = "anthropic/claude-sonnet-4.5"
"llama-3-1-70b" = { name = "meta-llama/llama-3.1-70b-instruct", context = 131_072 }

[[fallback]]
model = "claude-sonnet-4-5"
to = ["llama-3-1-70b"]

[cooldown]
default = "2h"
throttle = "20s"
throttle_max = "10m"
overloaded = "5s"
longest = "2w"
[[cooldown.pattern]]
match = 'weekly\\s+cap reached'
kind = "quota"
provider = "anthropic"
for = "6h"
[[cooldown.pattern]]
match = "blip"
kind = "ignore"

[agent]
daemon_timeout = "100ms"
first_byte = "0s"
wait = "10m"
stderr = false

[notify]
targets = ["slack://TokenA/TokenB/TokenC", "env:MY_HOOK", "json://localhost:8080/hook"]
events = ["switched", "auth"]
quiet_hours = "22:00-07:00"

[history]
keep = "30d"
"""

SONNET = {"claude-sonnet-4-5": ProviderModel("claude-sonnet-4-5")}


def read(text: str, **environ: str) -> Config:
    return parse(text, {**ENVIRON, **environ}, source="config.toml")


def complaint(text: str, **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(text, **environ)
    return str(caught.value)


def test_two_providers_need_no_more_than_twelve_lines() -> None:
    assert read(MINIMAL) == Config(
        policy=Policy(
            providers=(
                Provider(
                    id="anthropic",
                    priority=1,
                    models=SONNET,
                    account="anthropic",
                    limits=(
                        Limit("requests", 50, "1h", "calendar", BERLIN),
                        Limit("requests", 1000, "1d", "calendar", BERLIN),
                    ),
                ),
                Provider(
                    id="openrouter",
                    priority=2,
                    models=SONNET,
                    account="openrouter",
                    limits=(
                        Limit("requests", 100, "1h", "calendar", BERLIN),
                        Limit("requests", 2000, "1d", "calendar", BERLIN),
                    ),
                ),
            ),
            prefer="priority",
            strategy="priority",
            failback="turn",
            patience=3.0,
            cooldown=Cooldown(),
            zone=BERLIN,
        ),
        agent=Agent(daemon_timeout=0.15, first_byte=180.0, wait=120.0, stderr=True),
        notify=Notify(
            targets=(),
            events=("switched", "exhausted", "recovered", "warning", "all_limited", "auth"),
            quiet_hours=None,
        ),
        history_keep=90 * 86_400.0,
        autostart=True,
        warnings=(),
    )


def test_everything_that_can_be_said() -> None:
    assert read(FULL, MY_HOOK="json://hook") == Config(
        policy=Policy(
            providers=(
                Provider(
                    id="anthropic",
                    priority=1,
                    models=SONNET,
                    account="team",
                    enabled=False,
                    limits=(
                        Limit("requests", 50, "1h", "calendar", TOKYO),
                        Limit("tokens", 400_000, "1m", "rolling", UTC, "claude-sonnet-4-5", (0.5, 0.95)),
                        Limit("requests", 900, "5h", "first_use", UTC),
                        Limit("cost", 12.5, "month", "calendar", BERLIN),
                    ),
                ),
                Provider(
                    id="openrouter",
                    priority=2,
                    models={
                        "claude-sonnet-4-5": ProviderModel("anthropic/claude-sonnet-4.5"),
                        "llama-3-1-70b": ProviderModel("meta-llama/llama-3.1-70b-instruct", 131_072),
                    },
                    account="openrouter",
                    limits=(Limit("requests", 200, "1d", "calendar", ZoneInfo("UTC")),),
                ),
            ),
            fallback={"claude-sonnet-4-5": ("llama-3-1-70b",)},
            prefer="agent",
            strategy="headroom",
            failback="session",
            patience=5.0,
            cooldown=Cooldown(
                default=7200.0,
                throttle=20.0,
                throttle_max=600.0,
                overloaded=5.0,
                longest=14 * 86_400.0,
                patterns=(
                    Pattern(Expression(r"weekly\s+cap reached"), "quota", "anthropic", 21_600.0),
                    Pattern(Expression("blip"), "ignore"),
                ),
            ),
            zone=TOKYO,
        ),
        agent=Agent(daemon_timeout=0.1, first_byte=0.0, wait=600.0, stderr=False),
        notify=Notify(
            targets=("slack://TokenA/TokenB/TokenC", "json://localhost:8080/hook", "json://hook"),
            events=("switched", "auth"),
            quiet_hours=(time(22), time(7)),
        ),
        history_keep=30 * 86_400.0,
        autostart=False,
        warnings=(),
    )


def test_a_policy_holds_plain_values_only() -> None:
    policy = read(FULL, MY_HOOK="json://hook").policy
    kinds = {type(getattr(policy.cooldown, name)) for name in ("default", "throttle", "longest")}
    pattern = policy.cooldown.patterns[0]
    assert kinds | {type(policy.patience), type(pattern.lasts)} == {float}
    assert {type(pattern.match.text), *(type(limit.per) for limit in policy.providers[0].limits)} == {str}


@pytest.mark.parametrize(
    ("per", "normal", "window"),
    [
        ("1h", "1h", "calendar"),
        ("60m", "1h", "calendar"),
        ("1d", "1d", "calendar"),
        ("24h", "1d", "calendar"),
        ("7d", "1w", "calendar"),
        ("month", "month", "calendar"),
        ("1m", "1m", "rolling"),
        ("90s", "90s", "rolling"),
        ("5h", "5h", "rolling"),
        ("2w", "2w", "rolling"),
    ],
)
def test_the_length_of_a_window_counts_and_not_its_spelling(per: str, normal: str, window: str) -> None:
    text = f'[[provider]]\nid = "a"\nmodels = ["m"]\n[[provider.limit]]\nof = "requests"\nmax = 1\nper = "{per}"\n'
    (limit,) = read(text).policy.providers[0].limits
    assert (limit.per, limit.window) == (normal, window)


def test_a_counter_without_a_calendar_survives_a_journey() -> None:
    text = f'{A}[[provider.limit]]\nof = "requests"\nmax = 1\nper = "5h"\n'
    assert read(text).policy.providers == read(text, TZ="Asia/Tokyo").policy.providers


A = '[[provider]]\nid = "a"\nmodels = ["m", "n"]\n'
LIMIT = f'{A}[[provider.limit]]\nof = "tokens"\nmax = 3\n'
MODELS = '[[provider]]\nid = "a"\n[provider.models]\nm = "x"\n'
SYNTAX = "https://github.com/google/re2/wiki/Syntax"
PATTERN = f'{A}[[cooldown.pattern]]\nkind = "quota"\n'

COMPLAINTS = {
    "no TOML": (
        "prefer = \n",
        "config.toml:1:10: This is no valid TOML: Invalid value. Check the quotes, brackets and equals signs there.",
    ),
    "no TOML at its end": (
        "prefer",
        (
            "config.toml: This is no valid TOML: Expected '=' after a key in a key/value pair. "
            "Check the quotes, brackets and equals signs there."
        ),
    ),
    "unknown key": (
        'patience = "3s"\npatienc = "3s"',
        "config.toml:2: patienc is no key that rlmd knows. Did you mean patience?",
    ),
    "unknown key of a provider": (
        f"{A}hourly_limt = 50",
        "config.toml:4: provider[0].hourly_limt is no key that rlmd knows. Did you mean hourly_limit?",
    ),
    "camelCase": (
        f"{A}hourlyLimit = 50",
        "config.toml:4: provider[0].hourlyLimit is no key that rlmd knows. Did you mean hourly_limit?",
    ),
    "a slip that is a key elsewhere": (
        '[[provider]]\nid = "a"\nmodel = ["m"]',
        "config.toml:3: provider[0].model is no key that rlmd knows. Did you mean models?",
    ),
    "unknown table": (
        f"{A}limits = []",
        "config.toml:4: provider[0].limits is no key that rlmd knows. Did you mean [[provider.limit]]?",
    ),
    "nothing near": (
        "[history]\nqqq = 1",
        "config.toml:2: history.qqq is no key that rlmd knows. Known here: keep.",
    ),
    "a key with spaces": (
        '[history]\n"q q" = 1',
        'config.toml:2: history."q q" is no key that rlmd knows. Known here: keep.',
    ),
    "key of the top in a table": (
        f'{A}patience = "2s"',
        (
            "config.toml:4: provider[0].patience belongs to the top of the file, above the first header. "
            "TOML puts a key into the table whose header stands above it."
        ),
    ),
    "key of another table": (
        '[agent]\nquiet_hours = "22:00-07:00"',
        (
            "config.toml:2: agent.quiet_hours belongs below [notify]. "
            "TOML puts a key into the table whose header stands above it."
        ),
    ),
    "table in a table": (
        f'{A}[provider.cooldown]\ndefault = "1h"',
        "config.toml:4: provider[0].cooldown is a table of its own. Write its header as [cooldown].",
    ),
    "single brackets": (
        '[provider]\nid = "a"',
        "config.toml:1: provider is a list of tables: its header is [[provider]].",
    ),
    "double brackets": (
        '[[agent]]\nwait = "1m"',
        "config.toml:1: agent is one table: its header is [agent].",
    ),
    "wrong type": (
        "[[provider]]\nid = 3\nmodels = []",
        "config.toml:2: provider[0].id must be a string in quotes, not a whole number.",
    ),
    "wrong type in a list": (
        '[[provider]]\nid = "a"\nmodels = [\n  "m",\n  1]',
        "config.toml:3: provider[0].models[1] must be a string in quotes, not a whole number.",
    ),
    "date": (
        "autostart = 2026-01-12",
        "config.toml:1: autostart must be true or false, not date.",
    ),
    "wrong word": (
        'prefer = "agnt"',
        'config.toml:1: prefer must be one of "priority", "agent", not "agnt". Did you mean "agent"?',
    ),
    "duration in other words": (
        'patience = "3 seconds"',
        'config.toml:1: patience must be a duration: "3 seconds" is no number with a unit (did you mean "3s"?).',
    ),
    "span in other words": (
        f'{LIMIT}per = "1 hour"',
        (
            "config.toml:7: provider[0].limit[0].per must be a whole number of seconds or more, "
            'such as "5h", or "month". Did you mean "1h"?'
        ),
    ),
    "missing id": (
        '\n[[provider]]\nmodels = ["m"]',
        'config.toml:2: provider[0] has no id. Add one: id = "anthropic"',
    ),
    "missing models": (
        f'{A}[[provider]]\nid = "b"',
        'config.toml:4: provider[1] has no models. Add one: models = ["claude-sonnet-4-5"]',
    ),
    "empty id": (
        '[[provider]]\nid = ""\nmodels = ["m"]',
        "config.toml:2: provider[0].id must not be empty.",
    ),
    "duplicate provider": (
        f'{A}[[provider]]\nid = "a"\nmodels = ["n"]',
        'config.toml:5: provider[1].id is "a" again, as in config.toml:2: provider[0].id. Make one table of the two.',
    ),
    "empty models": (
        '[[provider]]\nid = "a"\nmodels = []',
        'config.toml:3: provider[0].models is empty. Name at least one, such as "claude-sonnet-4-5".',
    ),
    "model twice": (
        '[[provider]]\nid = "a"\nmodels = ["m", "m"]',
        "config.toml:3: provider[0].models[1] is there twice. Leave one of the two out.",
    ),
    "one name of two models": (
        f'{MODELS}n = {{ name = "x" }}',
        'config.toml:5: provider[0].models.n is "x", and so is "m". Leave one of the two out.',
    ),
    "model without a name": (
        f'{MODELS}"" = "y"',
        'config.toml:5: provider[0].models."" has no name. Write the model\'s name before the equals sign.',
    ),
    "empty name of a model": (
        f'{MODELS}n = ""',
        "config.toml:5: provider[0].models.n must not be empty.",
    ),
    "unknown key of a model": (
        f'{MODELS}n = {{ name = "y", contxt = 5 }}',
        "config.toml:5: provider[0].models.n.contxt is no key that rlmd knows. Did you mean context?",
    ),
    "window of a model": (
        f'{MODELS}n = {{ name = "y", context = 0 }}',
        "config.toml:5: provider[0].models.n.context must be at least 1.",
    ),
    "provider's key after its models": (
        f"{MODELS}hourly_limit = 50",
        (
            "config.toml:5: provider[0].models.hourly_limit is no model: TOML puts keys written after "
            "[provider.models] into that table. Move it up, above [provider.models]."
        ),
    ),
    "key of the top after models": (
        f'{MODELS}failback = "idle"',
        (
            "config.toml:5: provider[0].models.failback is no model: TOML puts keys written after [provider.models] "
            "into that table. Move it to the top of the file, above the first header."
        ),
    ),
    "misspelled key after models": (
        f"{MODELS}hourly_limt = 50",
        (
            "config.toml:5: provider[0].models.hourly_limt must be this provider's name of the model in quotes, "
            "or a table of its name and context. If it is no model, move it: TOML puts keys written after "
            "[provider.models] into that table."
        ),
    ),
    "no request an hour": (
        f"{A}hourly_limit = 0",
        (
            "config.toml:4: provider[0].hourly_limit must be at least 1. "
            "To keep a provider out of use, write enabled = false."
        ),
    ),
    "fraction of a request": (
        f"{A}daily_limit = 5.5",
        "config.toml:4: provider[0].daily_limit must be a whole number, not one with a fraction.",
    ),
    "true as a number": (
        f"{A}hourly_limit = true",
        "config.toml:4: provider[0].hourly_limit must be a whole number, not true or false.",
    ),
    "more than can be counted": (
        f"{A}hourly_limit = {10**30}",
        "config.toml:4: provider[0].hourly_limit must be at most 9007199254740991.",
    ),
    "priority from zero": (
        f"{A}priority = 0",
        "config.toml:4: provider[0].priority must be at least 1.",
    ),
    "limit of nothing": (
        f'{A}[[provider.limit]]\nof = "tokens"\nmax = 0\nper = "1h"',
        "config.toml:6: provider[0].limit[0].max must be more than 0.",
    ),
    "limit in quotes": (
        f'{A}[[provider.limit]]\nof = "tokens"\nmax = "3"\nper = "1h"',
        "config.toml:6: provider[0].limit[0].max must be a number, not a string in quotes.",
    ),
    "fraction as a name": (
        "[[provider]]\nid = 1.5\nmodels = []",
        "config.toml:2: provider[0].id must be a string in quotes, not a number.",
    ),
    "limit that is no number": (
        f'{A}[[provider.limit]]\nof = "tokens"\nmax = nan\nper = "1h"',
        "config.toml:6: provider[0].limit[0].max must be more than 0.",
    ),
    "limit without end": (
        f'{A}[[provider.limit]]\nof = "cost"\nmax = inf\nper = "1h"',
        "config.toml:6: provider[0].limit[0].max must be at most 9007199254740991.",
    ),
    "fraction of a token": (
        f'{A}[[provider.limit]]\nof = "tokens"\nmax = 2.5\nper = "1h"',
        "config.toml:6: provider[0].limit[0].max must be a whole number of tokens.",
    ),
    "limit of what": (
        f'{A}[[provider.limit]]\nof = "token"\nmax = 3\nper = "1h"',
        (
            "config.toml:5: provider[0].limit[0].of must be one of "
            '"requests", "tokens", "input_tokens", "output_tokens", "cost", not "token". Did you mean "tokens"?'
        ),
    ),
    "limit per what": (
        f'{LIMIT}per = "1.5s"',
        'config.toml:7: provider[0].limit[0].per must be a whole number of seconds or more, such as "5h", or "month".',
    ),
    "limit without a span": (
        f"{A}{LIMIT[len(A) :]}",
        'config.toml:4: provider[0].limit[0] has no per. Add one: per = "1h"',
    ),
    "calendar of five hours": (
        f'{LIMIT}per = "5h"\nwindow = "calendar"',
        (
            'config.toml:8: provider[0].limit[0].window cannot be "calendar" with per = "5h": '
            'the calendar has "1h", "1d", "1w" and "month". Write "rolling" or "first_use".'
        ),
    ),
    "rolling month": (
        f'{LIMIT}per = "month"\nwindow = "rolling"',
        (
            'config.toml:8: provider[0].limit[0].window cannot be "rolling" with per = "month": months differ. '
            'Write per = "30d".'
        ),
    ),
    "unknown window": (
        f'{LIMIT}per = "1h"\nwindow = "sliding"',
        'config.toml:8: provider[0].limit[0].window must be one of "calendar", "rolling", "first_use", not "sliding".',
    ),
    "limit of a model that is not there": (
        f'{LIMIT}per = "1h"\nmodel = "mm"',
        'config.toml:8: provider[0].limit[0].model is "mm", which this provider does not serve. Did you mean "m"?',
    ),
    "share beyond the whole": (
        f'{LIMIT}per = "1h"\nwarn_at = [0.5, 80]',
        "config.toml:8: provider[0].limit[0].warn_at[1] must be at most 1.",
    ),
    "limit twice": (
        f'{A}hourly_limit = 5\n[[provider.limit]]\nof = "requests"\nmax = 3\nper = "60m"',
        "config.toml:5: provider[0].limit[0] limits the same as hourly_limit. Leave one of the two out.",
    ),
    "table limit twice": (
        f'{LIMIT}per = "1h"\n[[provider.limit]]\nof = "tokens"\nmax = 4\nper = "60m"',
        "config.toml:8: provider[0].limit[1] limits the same as limit[0]. Leave one of the two out.",
    ),
    "time zone": (
        f'{A}time_zone = "europe/berlin"',
        'config.toml:4: provider[0].time_zone is "europe/berlin", which is no time zone. Did you mean "Europe/Berlin"?',
    ),
    "time zone as a number": (
        "time_zone = 2",
        'config.toml:1: time_zone must be a time zone in quotes, such as "Europe/Berlin", or "local".',
    ),
    "duration without quotes": (
        "patience = 3",
        'config.toml:1: patience must be a duration in quotes with its unit, such as "90s" or "1h30m".',
    ),
    "no duration": (
        '[cooldown]\ndefault = "3 parsecs"',
        (
            'config.toml:2: cooldown.default must be a duration: "3 parsecs" is no number with a unit, '
            'such as "90s" or "1h30m".'
        ),
    ),
    "duration of nothing": (
        '[agent]\ndaemon_timeout = "0s"',
        'config.toml:2: agent.daemon_timeout must be at least "1ms".',
    ),
    "duration beyond a timer": (
        '[agent]\nwait = "25d"',
        'config.toml:2: agent.wait must be at most "24d".',
    ),
    "throttle": (
        '[cooldown]\nthrottle = "1h"',
        "config.toml:1: cooldown.throttle_max is shorter than throttle, which doubles up to it. Make it longer.",
    ),
    "fallback to nobody": (
        f'{A}[[fallback]]\nmodel = "m"\nto = ["n", "llama"]',
        'config.toml:6: fallback[0].to[1] is "llama", which no provider serves. There is m, n.',
    ),
    "fallback of nobody": (
        '[[fallback]]\nmodel = "m"\nto = ["n"]',
        'config.toml:2: fallback[0].model is "m", which no provider serves. Add a provider first.',
    ),
    "fallback twice": (
        f'{A}[[fallback]]\nmodel = "m"\nto = ["n"]\n[[fallback]]\nmodel = "m"\nto = ["n"]',
        'config.toml:8: fallback[1].model is "m" again. Put all into one table.',
    ),
    "fallback to one twice": (
        f'{A}[[fallback]]\nmodel = "m"\nto = ["n", "n"]',
        "config.toml:6: fallback[0].to names a model twice. Leave one of the two out.",
    ),
    "fallback to none": (
        f'{A}[[fallback]]\nmodel = "m"\nto = []',
        "config.toml:6: fallback[0].to must not be empty.",
    ),
    "circle": (
        f'{A}[[fallback]]\nmodel = "m"\nto = ["n"]\n[[fallback]]\nmodel = "n"\nto = ["m"]',
        "config.toml:6: fallback[0].to leads in a circle: m → n → m. Leave one of them out.",
    ),
    "regular expression": (
        f'{PATTERN}match = "("',
        f"config.toml:6: cooldown.pattern[0].match is no regular expression of RE2 ({SYNTAX}): missing ): (.",
    ),
    "regular expression of everything": (
        f'{PATTERN}match = "x*"',
        "config.toml:6: cooldown.pattern[0].match would match every error. Say more of the text that it is meant for.",
    ),
    "regular expression as a number": (
        f"{PATTERN}match = 429",
        "config.toml:6: cooldown.pattern[0].match must be a string in quotes, not a whole number.",
    ),
    "regular expression that backtracks": (
        f"{PATTERN}match = '(cap|limit) reached(?! soon)'",
        (
            f'config.toml:6: cooldown.pattern[0].match has "(?!", a lookahead, and RE2 has nothing like it ({SYNTAX}). '
            "Match the text itself; an exception to it goes into a pattern of its own above this one, since the first "
            "that matches decides."
        ),
    ),
    "regular expressions that are too large together": (
        f"{PATTERN}match = 'cap.{{700}}'\n[[cooldown.pattern]]\nkind = \"quota\"\nmatch = 'cap.{{700}}'",
        (
            "config.toml:9: cooldown.pattern[1].match makes the patterns too large together. "
            "Repeat less, or leave one out."
        ),
    ),
    "more patterns than there may be": (
        A + '[[cooldown.pattern]]\nkind = "quota"\nmatch = "cap"\n' * 65,
        (
            "config.toml:196: cooldown.pattern[64] is one too many: there may be 64. "
            'Join some of one kind with "|" between them.'
        ),
    ),
    "pattern of no provider": (
        f'{PATTERN}match = "x"\nprovider = "b"',
        'config.toml:7: cooldown.pattern[0].provider is "b", which is no provider here. There is a.',
    ),
    "quiet hours": (
        '[notify]\nquiet_hours = "10 pm to 7"',
        'config.toml:2: notify.quiet_hours must be two times, such as "22:00-07:00".',
    ),
    "quiet hours of nothing": (
        '[notify]\nquiet_hours = "22:00-22:00"',
        'config.toml:2: notify.quiet_hours must be two different local times, such as "22:00-07:00".',
    ),
    "unknown event": (
        '[notify]\nevents = ["switchd"]',
        (
            'config.toml:2: notify.events[0] must be one of "switched", "exhausted", "recovered", "warning", '
            '"all_limited", "reset", "auth", "config", "state". Did you mean "switched"?'
        ),
    ),
}


@pytest.mark.parametrize(("text", "message"), COMPLAINTS.values(), ids=COMPLAINTS)
def test_a_mistake_is_told_with_its_place_and_its_mend(text: str, message: str) -> None:
    assert complaint(text) == message


@pytest.mark.parametrize("key", ["api_key", "apiKey", "token", "authToken", "password", "client-secret", "key"])
@pytest.mark.parametrize("table", [A, MODELS, "", "[notify]\n"])
def test_a_key_of_a_provider_has_no_place_and_is_not_repeated(table: str, key: str) -> None:
    path = {A: "provider[0].", MODELS: "provider[0].models.", "": "", "[notify]\n": "notify."}[table]
    assert complaint(f'{table}{key} = "sk-ant-1234"') == (
        f"config.toml:{table.count(chr(10)) + 1}: {path}{key} has no place here: "
        "rlmd needs no key, token or password, the agent keeps them. Remove it."
    )


def test_an_address_is_not_repeated() -> None:
    assert complaint('[notify]\ntargets = ["json://ok", "slack-T0/B0/secret"]') == (
        'config.toml:2: notify.targets[1] is no address. Write an Apprise one, "scheme://…", or "env:NAME" '
        "where a variable holds it."
    )
    assert "secret" not in complaint('[notify]\nevents = ["slack://secret"]')
    assert complaint('[notify]\n"slack://hush" = true').startswith('config.toml:2: notify."slack://…" is no key')
    assert "TokenA" not in repr(read(FULL))


class TestTheVariableOfProviders:
    def test_it_replaces_those_of_the_file_in_either_spelling(self) -> None:
        expected = Provider(
            id="b",
            priority=2,
            models=SONNET,
            account="b",
            limits=(
                Limit("requests", 5, "1h", "calendar", BERLIN),
                Limit("requests", 9, "1d", "calendar", BERLIN),
            ),
        )
        camel = {"id": "b", "models": [*SONNET], "hourlyLimit": 5, "dailyLimit": 9, "priority": 2}
        snake = {"id": "b", "models": [*SONNET], "hourly_limit": 5, "daily_limit": 9, "priority": 2}
        for item in (camel, snake):
            config = read(f'patience = "9s"\n{MINIMAL}', RLMD_PROVIDERS=json.dumps([item]))
            assert config.policy.providers == (expected,)
            assert config.policy.patience == 9

    def test_an_empty_one_counts_as_not_set(self) -> None:
        assert read(MINIMAL, RLMD_PROVIDERS="") == read(MINIMAL)

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            (
                "[x]",
                (
                    "RLMD_PROVIDERS is no valid JSON: JSON is malformed: invalid character (byte 1). Write "
                    '[{"id": "anthropic", "models": ["claude-sonnet-4-5"], "hourlyLimit": 50}] or the like.'
                ),
            ),
            (
                "{}",
                (
                    "RLMD_PROVIDERS must be a list. Write "
                    '[{"id": "anthropic", "models": ["claude-sonnet-4-5"], "hourlyLimit": 50}] or the like.'
                ),
            ),
            ("[1]", "RLMD_PROVIDERS[0] must be a table, not a whole number."),
            (
                '[{"id": "a"}]',
                'RLMD_PROVIDERS[0] has no models. Add one: "models": ["claude-sonnet-4-5"]',
            ),
            (
                '[{"id": "a", "models": ["m"], "hourlyLimit": 0}]',
                "RLMD_PROVIDERS[0].hourlyLimit must be at least 1.",
            ),
            (
                '[{"id": "a", "models": ["m"], "hourly_limit": "5"}]',
                "RLMD_PROVIDERS[0].hourly_limit must be a whole number, not a string in quotes.",
            ),
            (
                '[{"id": "a", "models": ["m"], "hourlyLimt": 5}]',
                "RLMD_PROVIDERS[0].hourlyLimt is no key that rlmd knows. Did you mean hourlyLimit?",
            ),
            (
                '[{"id": "a", "models": ["m"], "enabled": true}]',
                (
                    "RLMD_PROVIDERS[0].enabled is no key that rlmd knows. "
                    "Known here: id, models, priority, hourlyLimit, dailyLimit."
                ),
            ),
            (
                '[{"id": "a", "models": ["m"], "hourlyLimit": 5, "hourly_limit": 6}]',
                "RLMD_PROVIDERS[0] has both hourlyLimit and hourly_limit. Leave one out.",
            ),
            (
                '[{"id": "a", "models": ["m"], "apiKey": "sk-1"}]',
                (
                    "RLMD_PROVIDERS[0].apiKey has no place here: "
                    "rlmd needs no key, token or password, the agent keeps them. Remove it."
                ),
            ),
            (
                '[{"id": "a", "models": ["m"]}, {"id": "a", "models": ["m"]}]',
                'RLMD_PROVIDERS[1].id is "a" again, as in RLMD_PROVIDERS[0].id. Make one table of the two.',
            ),
        ],
    )
    def test_a_mistake_in_it_names_it(self, value: str, message: str) -> None:
        assert complaint(MINIMAL, RLMD_PROVIDERS=value) == message

    def test_a_nest_without_end_is_a_mistake_too(self) -> None:
        assert complaint("", RLMD_PROVIDERS="[" * 100_000).startswith("RLMD_PROVIDERS is no valid JSON: ")

    def test_it_stands_in_for_a_missing_file(self, tmp_path: Path) -> None:
        config = load(tmp_path / "none.toml", {**ENVIRON, "RLMD_PROVIDERS": '[{"id": "b", "models": ["m"]}]'})
        assert [provider.id for provider in config.policy.providers] == ["b"]


class TestWarnings:
    def test_no_provider_is_allowed_and_remarked(self) -> None:
        assert read("").warnings == (
            (
                "config.toml: There is no provider, so nothing is routed. "
                "Add a [[provider]] (docs/configuration.md), then: rlmctl reload"
            ),
        )

    def test_the_webhook_of_the_environment_is_one_more_target(self) -> None:
        hook = "https://hooks.slack.com/services/T/B/x"
        assert read(f'[notify]\ntargets = ["json://x"]\n{A}', SLACK_WEBHOOK=hook).notify.targets == ("json://x", hook)

    def test_a_variable_that_holds_no_address_is_no_reason_to_stop(self) -> None:
        text = f'{A}[notify]\ntargets = [\n  "env:ONE", "env:TWO"]\n'
        config = read(text, TWO="T0/B0/secret", SLACK_WEBHOOK="hooks")
        assert config.notify.targets == ()
        assert config.warnings == (
            "SLACK_WEBHOOK is a variable that holds no address, so nobody is notified there.",
            "config.toml:5: notify.targets[0] is a variable that is not set, so nobody is notified there.",
            "config.toml:5: notify.targets[1] is a variable that holds no address, so nobody is notified there.",
        )


class TestTheFile:
    def test_a_missing_one_is_told_with_the_way_to_one(self, tmp_path: Path) -> None:
        path = tmp_path / "config.toml"
        with pytest.raises(MissingConfigError) as caught:
            load(path, ENVIRON)
        assert str(caught.value) == f"There is no configuration at {path}. Write one with: rlmctl setup"
        path.touch()
        with pytest.raises(MissingConfigError):
            load(path / "below", ENVIRON)

    def test_it_reads_as_its_text_does(self, tmp_path: Path) -> None:
        path = tmp_path / "config.toml"
        path.write_bytes(b"\xef\xbb\xbf" + MINIMAL.replace("\n", "\r\n").encode())
        assert load(path, ENVIRON) == read(MINIMAL)

    def test_a_mistake_names_it(self, tmp_path: Path) -> None:
        path = tmp_path / "config.toml"
        path.write_text(f"{A}priority = 0", "utf-8")
        with pytest.raises(ConfigError) as caught:
            load(path, ENVIRON)
        assert str(caught.value) == f"{path}:4: provider[0].priority must be at least 1."

    def test_what_is_no_file_or_no_text(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError) as caught:
            load(tmp_path, ENVIRON)
        assert str(caught.value) == f"{tmp_path}: The file cannot be read: Is a directory."
        path = tmp_path / "config.toml"
        path.write_bytes(b'prefer = "\xff"')
        with pytest.raises(ConfigError) as caught:
            load(path, ENVIRON)
        assert str(caught.value) == f"{path}: The file is no UTF-8 text (byte 10). Save it in that encoding."

    def test_addresses_that_others_can_read_are_remarked(self, tmp_path: Path) -> None:
        path = tmp_path / "my config.toml"
        path.write_text(f'{A}[notify]\ntargets = ["json://x", "env:HOOK"]', "utf-8")
        path.chmod(0o640)
        environ = {**ENVIRON, "HOOK": "json://y"}
        assert load(path, environ).warnings == (
            (
                f"{path}: It holds notification addresses, which are secrets, and others may read it. "
                f"Run: chmod 600 '{path}'"
            ),
        )
        path.chmod(0o600)
        assert load(path, environ).warnings == ()
        path.write_text(f'{A}[notify]\ntargets = ["env:HOOK"]', "utf-8")
        path.chmod(0o644)
        assert load(path, environ).warnings == ()


def page_rows() -> dict[str, dict[str, str]]:
    """Return the page's tables of keys: heading to key to default."""
    rows: dict[str, dict[str, str]] = {}
    heading = ""
    for line in PAGE.read_text("utf-8").splitlines():
        if line.startswith("## "):
            heading = line.removeprefix("## ").strip("`")
        elif row := re.match(r"\| `(\w+)` \| [^|]+ \| ([^|]+) \|", line):
            rows.setdefault(heading, {})[row[1]] = row[2]
    return rows


class TestThePage:
    def test_it_has_every_key_and_no_other(self) -> None:
        rows = page_rows()
        top = set(rows.pop("At the top of the file"))
        tables = {key[0] for key in TABLES if key}
        assert top == set(File.__struct_encode_fields__) - tables
        provider = {*TABLES["provider",].__struct_encode_fields__, *TABLES["provider", "models", "*"].__struct_fields__}
        assert set(rows.pop("[[provider]]")) == provider
        for heading, keys in rows.items():
            assert set(keys) == set(TABLES[tuple(heading.strip("[]").split("."))].__struct_encode_fields__)
        assert {heading.strip("[]").split(".")[0] for heading in rows} | {"provider"} == tables

    def test_its_examples_parse_and_the_full_one_says_the_defaults(self) -> None:
        *examples, full = re.findall(r"^```toml\n(.*?)^```", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
        for text in examples:
            assert not read(text).warnings
        least = '[[provider]]\nid = "anthropic"\nmodels = ["claude-sonnet-4-5"]\n'
        assert read(full) == read(f'{least}[[provider.limit]]\nof = "tokens"\nmax = 400_000\nper = "1m"\n')

    def test_the_defaults_of_its_tables_are_those_of_its_full_example(self) -> None:
        full = PAGE.read_text("utf-8").rpartition("```toml\n")[2]
        for keys in page_rows().values():
            for key, default in keys.items():
                if default.startswith("`") and default != "`id`":
                    assert f"\n{key} = {default.strip('`')}\n" in f"\n{full}"

    def test_its_json_example_parses(self) -> None:
        (written,) = re.findall(r"`(\[\{.*\}\])`", PAGE.read_text("utf-8"))
        assert len(read("", RLMD_PROVIDERS=written).policy.providers) == 1


def outcome(text: str, **environ: str) -> str | None:
    """Return what is said against a text, or None where it is taken."""
    try:
        read(text, **environ)
    except ConfigError as error:
        return str(error)
    return None


def toml(value: Any) -> str:
    """Return a value as an inline TOML one."""
    match value:
        case bool():
            return str(value).lower()
        case dict():
            return f"{{{', '.join(f'{json.dumps(key)} = {toml(item)}' for key, item in value.items())}}}"
        case list():
            return f"[{', '.join(map(toml, value))}]"
        case str():
            return json.dumps(value).replace("\x7f", "\\u007f")
    return str(value)


KEYS = st.sampled_from(sorted({key for table in TABLES.values() for key in table.__struct_encode_fields__}))
SCALARS = (
    st.booleans()
    | st.integers()
    | st.floats()
    | st.dates(min_value=date(1000, 1, 1))
    | st.text("aé€\"'\\\n\x7f-:(", max_size=6)
    | st.sampled_from(["m", "a", "1h", "5h", "month", "local", "UTC", "tokens", "quota", "calendar", "json://x"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text("ab -.", max_size=3), inner, max_size=4),
    max_leaves=12,
)
LIMITS = st.fixed_dictionaries({"of": SCALARS, "max": SCALARS, "per": SCALARS}, optional={"window": SCALARS})
PROVIDERS = st.fixed_dictionaries(
    {"id": SCALARS, "models": st.lists(SCALARS, max_size=3) | st.dictionaries(KEYS, VALUES, max_size=2)},
    optional={"limit": st.lists(LIMITS, max_size=2), "time_zone": SCALARS, "hourly_limit": SCALARS},
)
FILES = st.dictionaries(KEYS, VALUES, max_size=5) | st.fixed_dictionaries({"provider": st.lists(PROVIDERS)})


@settings(deadline=None)
@given(FILES)
@example({"provider": [{"id": "a", "models": {"m": {"name": "x", "context": -1}}}]})
@example({"x` - at `$.agent[0]": 1})
@example({"notify": {"quiet_hours": "T-"}})
def test_whatever_is_written_is_read_or_refused_in_words(tables: dict[str, Any]) -> None:
    text = "\n".join(f"{json.dumps(key)} = {toml(value)}" for key, value in tables.items())
    said = outcome(text)
    assert said is None or (said.startswith("config.toml") and "no valid TOML" not in said)


@settings(deadline=None)
@given(st.text(), st.text())
def test_no_text_at_all_does_more_than_be_refused(text: str, providers: str) -> None:
    assert outcome(text) != ""
    assert outcome(text, RLMD_PROVIDERS=providers) != ""
