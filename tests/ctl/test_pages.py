"""The README and the pages: what they point to is there, and their pictures need nobody."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md")])
PICTURES = sorted([*ROOT.glob("docs/*.svg"), *ROOT.glob("docs/*.png")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_points_to_is_there(page: Path) -> None:
    text = page.read_text("utf-8")
    named = re.findall(r"\]\(([^)#\s]+)", text) + re.findall(r'(?:src|srcset|href)="([^"]+)"', text)
    assert [name for name in named if "://" not in name and not (page.parent / name).exists()] == []


def test_every_picture_is_shown_somewhere() -> None:
    text = "".join(page.read_text("utf-8") for page in PAGES)
    assert [picture.name for picture in PICTURES if picture.name not in text] == []


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: str(picture.name))
def test_a_picture_is_small_and_needs_nobody(picture: Path) -> None:
    content = picture.read_bytes()
    assert len(content) < 100_000
    if picture.suffix == ".svg":
        assert not re.search(rb"url\([^#]|href|@import|src:|<script", content)
