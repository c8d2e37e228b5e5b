"""`rlmctl simulate`: what it prints, that it says the same twice, and what it says to mistakes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from ctl.person import Place

HIDDEN = ("--hours", "4", "--rate", "5/m", "--real", "anthropic=20/h", "--real", "openrouter=3/m,no-hint")


@pytest.fixture
def tried(place: Place) -> Place:
    place.write_config()
    return place


def test_a_table_of_hours_and_providers_a_picture_then_the_limits_that_were_hit(tried: Place) -> None:
    run = tried.ctl("simulate", *HIDDEN)
    assert (run.returncode, run.stderr) == (0, "")
    lines = run.stdout.splitlines()
    assert " ".join(lines[0].split()) == "hour provider served refused probes in flight failed left"
    assert lines[1].split()[:5] == ["Mon", "00:00", "anthropic", "20", "1"]
    assert lines[9].split()[:4] == ["together", "anthropic", "80", "4"]
    picture = lines.index("anthropic  80 requests, at most 20 in an hour")
    assert lines[picture + 1].rstrip() == "▇▇▇▇▇ ▇▇▇▇▇ ▇▇▇▇▇ ▇▇▇▇▇"
    assert lines[picture + 2].strip() == "━" * 24
    assert lines[picture + 3].split() == ["\N{MULTIPLICATION SIGN}"] * 4
    assert "00:00       02:00" in run.stdout
    assert [line for line in lines[picture:] if line.endswith(" unfinished at the end")]
    assert "anthropic, 20 requests per 1h: refused, unforeseen, 4 times" in lines
    assert "openrouter, 100 requests per 1h: as configured, foreseen, 4 times" in lines
    assert lines[-1] == "seed 1: the same arguments give the same result"
    assert max(len(line.rstrip()) for line in lines) <= 80


def test_all_of_it_as_json(tried: Place) -> None:
    result = tried.ctl_json("simulate", *HIDDEN)
    ends = ("served", "given_up", "failed", "unfinished")
    assert result["requests"] == sum(result[end] for end in ends) > 1000
    assert [hour["at"] for hour in result["hours"]][:2] == ["2026-01-12T00:00:00.000Z", "2026-01-12T01:00:00.000Z"]
    anthropic, openrouter = result["providers"]
    assert (anthropic["id"], anthropic["served"], anthropic["refused"]) == ("anthropic", 80, 4)
    assert openrouter["refused_probe"] > 0
    assert sum(hour["providers"][0]["served"] for hour in result["hours"]) == 80
    assert result["hits"][0].keys() == {"at", "provider", "limit", "until", "by", "in_flight"}
    assert result["waited"].keys() == {"requests", "mean_ms", "longest_ms"}


def test_the_same_arguments_give_the_same_result(tried: Place) -> None:
    first, again, other = (tried.ctl("simulate", *HIDDEN, "--json", "--seed", seed).stdout for seed in ("5", "5", "6"))
    assert first == again != other


def test_another_file_and_its_time_zone(place: Place, root: Path) -> None:
    (root / "other.toml").write_text('time_zone = "Asia/Tokyo"\n[[provider]]\nid = "a"\nmodels = ["m", "n"]\n')
    for more in ((), ("--model", "n")):
        result = place.ctl_json("simulate", "--config", str(root / "other.toml"), "--hours", "1", *more)
        assert result["hours"][0]["at"] == "2026-01-11T15:00:00.000Z"
        assert result["served"] > 0


def test_the_providers_of_the_environment(place: Place) -> None:
    providers = '[{"id": "a", "models": ["m"], "hourlyLimit": 10}, {"id": "b", "models": ["m"], "priority": 2}]'
    run = place.ctl("simulate", "--hours", "1", "--json", RLMD_PROVIDERS=providers)
    a, b = json.loads(run.stdout)["providers"]
    assert (a["id"], a["served"], b["id"]) == ("a", 10, "b")


def test_an_outage_and_who_waits(tried: Place) -> None:
    outages = ("--outage", "anthropic=30m+20m", "--outage", "openrouter=30m+15m", "--tokens", "100", "--turn", "5")
    run = tried.ctl("simulate", "--hours", "1", "--rate", "1/m", *outages)
    assert run.returncode == 0
    assert "\nhad to wait: " in run.stdout
    result = tried.ctl_json("simulate", "--hours", "1", "--rate", "1/m", *outages)
    assert all(row["failed"] for row in result["providers"])
    assert result["waited"]["longest_ms"] >= result["waited"]["mean_ms"] > 0


def real(tried: Place, *limits: str) -> Any:
    options = [word for limit in limits for word in ("--real", f"anthropic={limit}")]
    result = tried.ctl_json("simulate", "--hours", "2", "--rate", "100/h", "--duration", "5s", *options)
    row = result["providers"][0]
    return row["served"], row["refused"] > 0, row["refused_probe"] > 0


def test_what_a_provider_really_does(tried: Place) -> None:
    assert real(tried, "unlimited") == real(tried, "60/h") == real(tried) == (100, False, False)
    # A long rest is tried after an hour: that is the refused probe.
    assert real(tried, "30/5h:first_use") == real(tried, "30/month") == (30, True, True)
    assert real(tried, "unlimited", "20/h", "429") == (40, True, False)
    assert real(tried, "20/h", "no-hint") == real(tried, "20/h,no-hint") == (40, True, True)
    assert real(tried, "20/h,529,no-hint")[2]
    assert real(tried, "90000input_tokens/h")[1]


def test_a_limit_on_cost_is_not_simulated_and_that_is_said(place: Place) -> None:
    place.write_config('[[provider]]\nid = "a"\nmodels = ["m"]\nlimit = [{of = "cost", max = 5, per = "1d"}]\n')
    run = place.ctl("simulate", "--hours", "1")
    assert (run.returncode, run.stderr) == (0, "warning: Limits on cost are not simulated.\n")


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ("--rate 120", 'argument --rate: "120" is no rate: write 120/h, 10/s or 2/m'),
        ("--rate 0/h", 'argument --rate: "0/h" is no rate: write 120/h, 10/s or 2/m'),
        ("--rate 5/0h", 'argument --rate: "0h" is no time at all: write 10s'),
        ("--hours day", 'argument --hours: "day" is no number of hours up to a year: write 24 or 0.5'),
        ("--hours nan", 'argument --hours: "nan" is no number of hours up to a year: write 24 or 0.5'),
        ("--sessions 0", 'argument --sessions: "0" is no whole number from 1 to 10,000'),
        ("--tokens many", 'argument --tokens: "many" is no number of tokens: write 8000 or 8000+500'),
        ("--duration 10", 'argument --duration: "10" is no number with a unit (did you mean "10s"?)'),
        ("--outage anthropic=3h", 'argument --outage: "anthropic=3h" is no outage: write anthropic=3h+20m'),
        (
            "--real anthropic",
            'argument --real: "anthropic" says nothing of a provider: write anthropic=40/h,no-hint',
        ),
        (
            "--real anthropic=lots",
            'argument --real: "lots" is no limit: write 40/h, 400000tokens/m, 45/5h:first_use, unlimited or no-hint',
        ),
        (
            "--real anthropic=4/5h:calendar",
            'argument --real: "4/5h:calendar" cannot be: calendar has 1h, 1d, 1w and month, and month is calendar',
        ),
    ],
)
def test_a_mistake_in_an_option_is_told_in_a_sentence_with_the_mend(tried: Place, wrong: str, sentence: str) -> None:
    run = tried.ctl("simulate", *wrong.split())
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.splitlines()[-2:] == [f"rlmctl: {sentence}.", "  mend: rlmctl simulate --help"]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("--real a=4/h", "There is no provider 'a'.\n  mend: name one of anthropic, openrouter"),
        (
            "--real antropic=4/h",
            "There is no provider 'antropic'. Did you mean 'anthropic'?\n  mend: name one of anthropic, openrouter",
        ),
        ("--outage a=4h+1h", "There is no provider 'a'.\n  mend: name one of anthropic, openrouter"),
        ("--model gpt", "No provider serves the model 'gpt'.\n  mend: --model with one of claude-sonnet-4-5"),
        (
            "--rate 500/s",
            "That would be more than 10,000,000 requests.\n  mend: a smaller --rate or fewer --hours",
        ),
    ],
)
def test_what_does_not_fit_the_configuration(tried: Place, wrong: str, told: str) -> None:
    run = tried.ctl("simulate", *wrong.split())
    assert (run.returncode, run.stdout, run.stderr) == (2, "", f"rlmctl: {told}\n")


def test_without_a_configuration_or_a_provider_in_it(place: Place) -> None:
    run = place.ctl("simulate")
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.endswith("Write one with: rlmctl setup\n")
    place.write_config("")
    run = place.ctl("simulate")
    assert (run.returncode, run.stderr) == (2, "rlmctl: The configuration names no provider.\n  mend: rlmctl setup\n")
