"""Which form of the shim each version of OpenCode gets: the one table, and what is made of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlmctl.agents.opencode.versions import WAYS, NotServedError, Version, choose, parse, tried

DOCS = Path(__file__).parents[2] / "docs" / "opencode.md"


def version(text: str) -> Version:
    found = parse(text)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("prints", "read"),
    [
        ("1.18.34\n", Version(1, 18, 34)),
        ("opencode v2.0.15\n", Version(2, 0, 15)),
        ("2.0.0-beta.3\n", Version(2, 0, 0, released=False)),
        ("local\n", None),
        ("0.0.0-dev-202609011200\n", None),
        ("", None),
    ],
)
def test_a_version_is_read_as_opencode_prints_it(prints: str, read: Version | None) -> None:
    assert parse(prints) == read


@pytest.mark.parametrize(
    ("here", "form"),
    [
        ("", "object"),
        ("1.1.65", "function"),
        ("1.3.2", "function"),
        ("1.14.33", "function"),
        ("1.14.34-beta.1", "function"),
        ("1.14.34", "object"),
        ("1.18.34", "object"),
        ("2.0.0-beta.1", "object"),
        ("2.0.15", "object"),
        ("3.1.0", "object"),
        ("1.14.34 2.0.15", "object"),
        ("1.18.34 1.3.2", "function"),
    ],
)
def test_the_form_is_one_that_all_programs_load(here: str, form: str) -> None:
    assert choose([version(name) for name in here.split()]) == form


@pytest.mark.parametrize("name", ["0.15.0", "1.0.185", "1.1.27", "1.1.53-rc.1"])
def test_a_version_that_shows_no_plugin_its_requests_is_refused(name: str) -> None:
    with pytest.raises(NotServedError, match="is too old") as refused:
        choose([version(name), version("1.18.34")])
    assert refused.value.mend == "opencode upgrade"


def test_an_old_version_beside_2_is_refused_for_no_form_serves_both() -> None:
    with pytest.raises(NotServedError, match=r"2\.0\.15 and 1\.3\.2 are both here") as refused:
        choose([version("1.3.2"), version("2.0.15")])
    assert refused.value.mend == "opencode upgrade  (to 1.14.34 or later)"


def test_no_more_is_said_than_was_tried() -> None:
    assert tried(version("1.18.34")) == "1.18.34, which the shim was tried with"
    assert tried(version("2.7.0")) == "2.7.0; the shim was tried with 2.0.15"
    assert tried(version("2.0.15-beta.1")) == "2.0.15 (before its release); the shim was tried with 2.0.15"


def test_the_page_has_the_table() -> None:
    page = DOCS.read_text(encoding="utf-8")
    names = {"function": "`rlmd-function.ts`", "object": "`rlmd.ts`"}
    for way in WAYS:
        assert f"| {way.since.name} and later | {names[way.forms[0]]} | {', '.join(way.tried)} |" in page
