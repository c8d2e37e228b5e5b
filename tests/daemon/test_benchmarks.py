"""What the benchmarks measure with, and how they write down what they find. No figure is judged here."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from benchmarks import __main__ as command
from benchmarks import load, table
from benchmarks.latency import ASK, LEASE, TELL

if TYPE_CHECKING:
    from house import Place, Process

ROOT = Path(__file__).parents[2]
IN_C = pytest.param("c", marks=pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler"))
TWO = '[[provider]]\nid = "anthropic"\nmodels = ["claude-sonnet-4-5"]\n'


@pytest.fixture(params=[IN_C, "python"])
def client(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "python":
        monkeypatch.setattr(load, "_program", lambda: [sys.executable, "-m", "benchmarks.load"])
        monkeypatch.chdir(ROOT)


@pytest.mark.usefixtures("client")
@pytest.mark.parametrize(("connections", "depth", "rate"), [(1, 1, 0.0), (2, 3, 0.0), (1, 1, 500.0)])
def test_each_report_has_the_lease_of_an_acquire(
    process: Process, place: Place, connections: int, depth: int, rate: float
) -> None:
    place.paths.config.write_text(TWO)
    process.begin()
    lines = (ASK,) * depth + (TELL,) * depth
    found = load.apply(load.Load(lines, 120, connections, depth, rate, LEASE), place.paths.socket, None)
    assert sum(line.count for line in found.lines) == found.all.count == 114  # the first twentieth is not counted
    assert 0 < found.all.p50 <= found.all.p90 <= found.all.p99 <= found.all.p999
    status = process.ask("status")["providers"][0]
    # Where one of two connections is ahead at the end, some of its acquires have no report.
    assert 60 - connections * depth <= status["request_count"] <= 60 + connections * depth


@pytest.mark.usefixtures("client")
def test_an_error_ends_the_load_and_is_told(process: Process, place: Place) -> None:
    process.begin()
    with pytest.raises(load.LoadError, match="unknown_op"):
        load.apply(load.Load(('{"op":"nothing","id":{n}}',), 10), place.paths.socket, None)


def row(**facts: object) -> table.Row:
    return table.Row(part="latency", what="acquire", **facts)  # type: ignore[arg-type]  # the tests give what fits


@pytest.mark.parametrize(
    ("facts", "met"),
    [
        ({"ours": 2.0}, None),
        ({"ours": 2.0, "most": 2.0}, True),
        ({"ours": 2.1, "most": 2.0}, False),
        ({"ours": 9.0, "theirs": 6.0, "ratio": 1.5, "most": 2.0}, True),
        ({"ours": 9.0, "theirs": 3.0, "ratio": 3.0, "most": 2.0}, False),
        ({"ours": 9.0, "theirs": 3.0, "ratio": 0.1, "least": 0.2}, False),
        ({"most": 2.0, "note": "there is none"}, None),
        ({"failed": True, "note": "it broke"}, False),
    ],
)
def test_a_figure_is_judged_by_its_ratio_where_it_has_one(facts: dict[str, object], met: bool | None) -> None:
    assert row(**facts).met is met


def test_the_table_is_written_where_the_page_has_a_place_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "performance.md"
    page.write_text(f"before\n{command.BEGIN}\nold\n{command.END}\nafter\n")
    monkeypatch.setattr(command, "PAGE", page)
    rows = [row(ours=25.0, beside="yardstick", theirs=20.0, ratio=1.25, most=1.3), row(note="why not")]
    text = table.markdown(table.report(rows, 0.5, short=False), {"latency": "Time to an answer"})
    for _ in range(2):
        command._write(text)
        assert page.read_text() == f"before\n{command.BEGIN}\n\n{text}\n{command.END}\nafter\n"
    assert "| acquire | 25.0 µs | yardstick | 20.0 µs | 1.25 | ≤ 1.3 | yes |" in text
    assert "| acquire | not measured: why not |" in text
