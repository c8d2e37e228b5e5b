"""The machine's own time zone, wherever the machine says it."""

from __future__ import annotations

import shutil
from datetime import datetime
from importlib.resources import files
from typing import TYPE_CHECKING

import pytest

from rlmd.config import zones

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def berlin(tmp_path: Path) -> Path:
    """A zone file that lies in a zone directory, as a system has them."""
    file = tmp_path / "share" / "zoneinfo" / "Europe" / "Berlin"
    file.parent.mkdir(parents=True)
    file.write_bytes(files("tzdata").joinpath("zoneinfo/Europe/Berlin").read_bytes())
    return file


def test_the_variable_comes_first(tmp_path: Path, berlin: Path) -> None:
    (tmp_path / "localtime").symlink_to(berlin)
    for said in ("Asia/Tokyo", ":Asia/Tokyo", "/usr/share/zoneinfo/Asia/Tokyo"):
        assert str(zones.local({"TZ": said}, tmp_path)) == "Asia/Tokyo"


def test_the_link_names_the_zone(tmp_path: Path, berlin: Path) -> None:
    (tmp_path / "localtime").symlink_to(berlin)
    (tmp_path / "timezone").write_text("Asia/Tokyo\n")
    assert str(zones.local({}, tmp_path)) == "Europe/Berlin"
    assert str(zones.local({"TZ": f":{tmp_path}/localtime"}, tmp_path)) == "Europe/Berlin"


def test_a_link_to_a_link_names_the_zone(tmp_path: Path, berlin: Path) -> None:
    (tmp_path / "default").symlink_to(berlin)
    (tmp_path / "localtime").symlink_to("default")
    assert str(zones.local({}, tmp_path)) == "Europe/Berlin"


def test_a_name_in_a_file_of_its_own(tmp_path: Path, berlin: Path) -> None:
    shutil.copy(berlin, tmp_path / "localtime")
    (tmp_path / "timezone").write_text("Europe/Berlin\n")
    assert str(zones.local({}, tmp_path)) == "Europe/Berlin"


def test_rules_without_a_name_count_all_the_same(tmp_path: Path, berlin: Path) -> None:
    shutil.copy(berlin, tmp_path / "localtime")
    zone = zones.local({}, tmp_path)
    assert str(zone) == "local"
    assert str(datetime(2026, 7, 1, tzinfo=zone).utcoffset()) == "2:00:00"


@pytest.mark.parametrize("said", ["", "No/Where", "UTC0nonsense", "/nowhere", "\0"])
def test_utc_is_what_is_left(said: str, tmp_path: Path) -> None:
    assert str(zones.local({"TZ": said}, tmp_path)) == "UTC"
    (tmp_path / "localtime").write_bytes(b"no rules")
    (tmp_path / "timezone").write_bytes(b"\xff\n")
    assert str(zones.local({"TZ": said}, tmp_path)) == "UTC"


def test_a_link_that_leads_to_itself_names_nothing(tmp_path: Path) -> None:
    (tmp_path / "localtime").symlink_to("localtime")
    assert str(zones.local({}, tmp_path)) == "UTC"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("europe/berlin", 'is "europe/berlin", which is no time zone. Did you mean "Europe/Berlin"?'),
        ("Asia/Tokio", 'is "Asia/Tokio", which is no time zone. Did you mean "Asia/Tokyo"?'),
        ("../etc/passwd", 'is "../etc/passwd", which is no time zone. Write one such as "Europe/Berlin", or "local".'),
        ("", 'is "", which is no time zone. Write one such as "Europe/Berlin", or "local".'),
    ],
)
def test_what_is_no_zone_is_told_the_nearest(name: str, sentence: str) -> None:
    with pytest.raises(ValueError, match="no time zone") as caught:
        zones.named(name)
    assert str(caught.value) == sentence


def test_a_directory_of_zones_is_no_zone() -> None:
    with pytest.raises(ValueError, match=r'^is "Europe", which is no time zone'):
        zones.named("Europe")
