"""history --html: one page that needs nothing else, with the numbers of history --json; looked at in a real browser."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from chromium import Chromium, find_chromium

from ctl.person import MODEL
from rlmctl.show.html import page

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ctl.person import Daemon, Place

NOON = datetime(2026, 1, 12, 12, tzinfo=UTC)
SINCE = NOON - timedelta(days=2)


def row(hours: int, provider: str, requests: int, **errors: int) -> dict[str, Any]:
    """What a provider did in an hour, so many before noon."""
    stamp = (NOON - timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    amounts = {"requests": requests, "tokens": requests * 1234, "cost": requests / 64, "switches": len(errors)}
    return {"at": stamp, "provider": provider, "model": f"{provider}/m", "errors": errors, **amounts}


ROWS = [
    row(40, "anthropic", 3),
    row(30, "anthropic", 50, throttle=2, quota=1),
    row(30, "openrouter", 25),
    row(2, "</script><b>", 7, overloaded=1),
    row(1, "openrouter", 2000),
]
USAGE = {"type": "history", "bucket": "hour", "rows": ROWS, "kept_going": 2, "not_waited_ms": 5_400_000}
EVENTS = [
    {
        "event": "exhausted",
        "at": (NOON - timedelta(hours=30)).isoformat(),
        "until": (NOON - timedelta(hours=28)).isoformat(),
        "provider": "anthropic",
        "message": "anthropic has used 50 of 50",
    }
]


def embedded(text: str, name: str = "history") -> Any:
    found = re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', text, re.DOTALL)
    assert found
    return json.loads(found[1])


def test_the_page_holds_the_reply_as_it_is_and_names_no_host() -> None:
    text = page(USAGE, EVENTS, SINCE, NOON)
    assert embedded(text) == USAGE
    assert "://" not in text
    assert not re.search(r"(src|href)=(?!\"data:)|@import|url\(", text)
    assert "<b>" not in text
    assert "Kept going 2 times in this time; 1 h 30 min not waited." in text


def test_where_the_clock_was_moved_by_half_an_hour_no_two_hours_share_a_place() -> None:
    hours = [row(0, "a", 1) | {"at": (NOON - timedelta(hours=left)).isoformat()} for left in (5, 4, 2.5, 1.5, 0.5)]
    drawing = embedded(page(USAGE | {"rows": hours}, [], NOON - timedelta(hours=5), NOON), "drawing")
    assert drawing["places"] == [0, 1, 3, 4, 5]


def test_without_a_script_the_numbers_are_there() -> None:
    text = page(USAGE, EVENTS, SINCE, NOON)
    before = text[: text.index("<script")]
    for number in ("2,085", "2,572,890", "$32.5781", "<small>openrouter/m</small>", "2 throttle, 1 quota"):
        assert number in before, number


def test_a_page_of_nothing_says_so() -> None:
    text = page(USAGE | {"rows": [], "kept_going": 0}, [], SINCE, NOON)
    assert "<h2>Nothing in this time</h2>" in text
    assert "Kept going" not in text


def test_it_is_written_where_it_is_wanted(limited: Daemon) -> None:
    file = limited.root / "page.html"
    run = limited.ctl("history", "--html", str(file))
    assert (run.returncode, run.stdout, run.stderr) == (0, "", f"wrote {file}: open it in a browser\n")
    assert embedded(file.read_text("utf-8")) == limited.ctl_json("history")
    assert embedded(file.read_text("utf-8"))["rows"][0]["model"] == MODEL


def test_a_file_that_cannot_be_written_is_one_sentence(limited: Daemon) -> None:
    run = limited.ctl("history", "--html", str(limited.root / "nowhere" / "page.html"))
    assert (run.returncode, run.stdout) == (1, "")
    assert "page.html cannot be written: No such file or directory.\n  mend: " in run.stderr


def test_without_a_daemon(place: Place) -> None:
    run = place.ctl("history", "--html", str(place.root / "page.html"))
    assert (run.returncode, run.stderr.splitlines()[-1]) == (3, "  mend: rlmctl start")
    assert not (place.root / "page.html").exists()


# In a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    program = find_chromium()
    if program is None:
        pytest.skip("Chromium is not here. To get it: apt install chromium; CHROMIUM_BIN may name it")
    with Chromium(program) as chromium:
        yield chromium


@pytest.fixture(params=["hour", "day"])
def usage(request: pytest.FixtureRequest) -> dict[str, Any]:
    days = [one | {"at": f"{one['at'][:10]}T00:00:00.000Z"} for one in ROWS]
    return USAGE | {"bucket": request.param, "rows": days if request.param == "day" else ROWS}


@pytest.fixture
def file(usage: dict[str, Any], tmp_path: Path) -> Path:
    file = tmp_path / "page.html"
    file.write_text(page(usage, EVENTS, SINCE, NOON), "utf-8")
    return file


def test_it_asks_nobody_for_anything_and_nothing_goes_wrong(browser: Chromium, file: Path) -> None:
    browser.show(file, 1000)
    browser.until(lambda: bool(browser.run("document.querySelectorAll('.bar').length")))
    assert browser.requests == [file.as_uri()]
    assert browser.errors == []


TABLE = """[...document.querySelectorAll('details tbody tr')].map(tr => ({
    provider: tr.querySelector('.where').firstChild.data, model: tr.querySelector('small').textContent,
    numbers: [...tr.querySelectorAll('.n')].map(td => Number(td.firstChild.data.replace(/[$,]/g, ''))),
}))"""
TOTALS = """Object.fromEntries([...document.querySelectorAll('figcaption')].filter(c => c.querySelector('span')).map(
    c => [c.parentElement.id, Number(c.querySelector('span').textContent.replace(/[$,]/g, ''))]))"""


def test_its_numbers_are_those_of_the_json(browser: Chromium, file: Path, usage: dict[str, Any]) -> None:
    browser.show(file, 1000)
    rows = usage["rows"]
    told = [
        {
            "provider": one["provider"],
            "model": one["model"],
            "numbers": [one["requests"], one["tokens"], one["cost"], one["switches"], sum(one["errors"].values())],
        }
        for one in reversed(rows)
    ]
    shown = browser.run(TABLE)
    for one, there in zip(told, shown, strict=True):
        assert there["numbers"] == pytest.approx(one["numbers"], abs=0.00006)
        assert {**there, "numbers": 0} == {**one, "numbers": 0}
    assert browser.run(TOTALS) == pytest.approx(
        {
            **{name: sum(one[name] for one in rows) for name in ("requests", "tokens", "cost", "switches")},
            "errors": sum(sum(one["errors"].values()) for one in rows),
        },
        abs=0.005,  # the tables have it exactly,
    )


BARS = """[...document.querySelectorAll('#requests .bar')].map(bar => [
    bar.getBoundingClientRect().height, bar.getBoundingClientRect().x, getComputedStyle(bar).fill])"""


def test_bars_are_as_high_as_their_numbers_and_lie_in_time(browser: Chromium, file: Path) -> None:
    browser.show(file, 1000)
    bars = browser.run(BARS)
    heights = [height for height, _, _ in bars]
    highest = max(heights)
    assert highest > 80
    in_order = sorted(one["requests"] for one in ROWS)
    assert sorted(heights) == pytest.approx([max(0.5, highest * n / in_order[-1]) for n in in_order], abs=0.6)
    assert [x for _, x, _ in bars] == sorted(x for _, x, _ in bars)
    assert len({fill for _, _, fill in bars}) == 3


@pytest.mark.parametrize("width", [375, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_a_desk_in_light_and_dark(browser: Chromium, file: Path, width: int, scheme: str) -> None:
    browser.show(file, width, scheme=scheme)
    assert browser.run("document.documentElement.scrollWidth") == width
    assert (
        browser.run("Math.max(...[...document.querySelectorAll('main *')].map(e => e.getBoundingClientRect().right))")
        <= width
    )
    for chart in ("requests", "tokens", "cost", "errors", "switches"):
        assert browser.run(f"document.querySelectorAll('#{chart} .bar').length"), chart
    assert browser.run("document.querySelectorAll('#cooldowns .band').length") == 1
    assert browser.run("parseFloat(getComputedStyle(document.querySelector('#requests text')).fontSize)") >= 11
    ink, page_ = (browser.run(f"getComputedStyle(document.body).{name}") for name in ("color", "backgroundColor"))
    bright = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in (ink, page_)]
    assert (bright[0] > bright[1]) == (scheme == "dark")
    assert abs(bright[0] - bright[1]) > 500


def test_a_finger_on_a_bar_is_told_what_it_is(browser: Chromium, file: Path) -> None:
    browser.show(file, 375)
    x, y = browser.run(
        "(() => { const box = [...document.querySelectorAll('#requests .bar')].at(-1).getBoundingClientRect();"
        " return [box.x + box.width / 2, box.y + 5] })()"
    )
    browser.ask("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    browser.until(lambda: not browser.run("document.getElementById('tip').hidden"))
    told = browser.run("document.getElementById('tip').textContent")
    assert "openrouter2,000" in told
    assert "12 Jan" in told
