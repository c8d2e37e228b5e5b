"""What is found in OpenCode's configuration, and what is never taken out of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from rlmctl.agents.opencode.configuration import Found, group, look, opencode_is_here, parse_jsonc

if TYPE_CHECKING:
    from pathlib import Path


def write(path: Path, settings: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(settings if isinstance(settings, str) else json.dumps(settings))
    return path


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "xdg"), "PATH": str(tmp_path / "nothing")}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "project" / ".git").mkdir(parents=True)
    return tmp_path / "project"


def models(*names: str) -> dict[str, Any]:
    return {"options": {"apiKey": "sk-secret"}, "models": {name: {} for name in names}}


def test_comments_and_trailing_commas_are_taken() -> None:
    text = """
    // first
    { "a": "no // comment, }", /* two
      lines */ "b": [1, 2, /* here too */ ], // last
    }"""
    assert parse_jsonc(text) == {"a": "no // comment, }", "b": [1, 2]}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"a": 1 "b"}', '"text"'])
def test_what_is_no_object_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_jsonc(text)


def test_nothing_is_found_where_nothing_is(environ: dict[str, str], project: Path) -> None:
    assert look(project, environ) == Found([], {}, [])
    assert not opencode_is_here(environ)


def test_global_and_project_files_are_joined(environ: dict[str, str], project: Path, tmp_path: Path) -> None:
    one = write(tmp_path / "xdg/opencode/opencode.json", {"provider": {"b": models("m")}})
    two = write(project / "opencode.jsonc", {"provider": {"b": models("m", "n"), "a": models("m")}})
    three = write(project / "sub/.opencode/opencode.json", {"provider": {"c": models("m")}})
    found = look(project / "sub", environ)
    assert found[:3] == ([one, two, three], {"b": ["m", "n"], "a": ["m"], "c": ["m"]}, [])
    assert opencode_is_here(environ)


def test_the_default_models_provider_comes_first(environ: dict[str, str], project: Path) -> None:
    write(project / "opencode.json", {"model": "a/x/y", "provider": {"b": models("m"), "a": models("m")}})
    assert [*look(project, environ).providers.items()] == [("a", ["m", "x/y"]), ("b", ["m"])]


def test_a_provider_without_a_list_has_the_models_that_are_used(environ: dict[str, str], project: Path) -> None:
    settings = {
        "model": "anthropic/claude-sonnet-4-5",
        "small_model": "anthropic/claude-haiku-4-5",
        "agent": {"review": {"model": "openai/gpt-5"}, "odd": 3},
        "provider": {"anthropic": {}, "empty": None},
    }
    write(project / "opencode.json", settings)
    assert look(project, environ).providers == {
        "anthropic": ["claude-sonnet-4-5", "claude-haiku-4-5"],
        "empty": [],
        "openai": ["gpt-5"],
    }


def test_a_disabled_provider_is_left_out(environ: dict[str, str], project: Path) -> None:
    write(project / "opencode.json", {"disabled_providers": ["a"], "provider": {"a": models("m"), "b": models("m")}})
    assert look(project, environ).providers == {"b": ["m"]}


def test_where_some_are_enabled_the_others_are_left_out(environ: dict[str, str], project: Path) -> None:
    write(project / "opencode.json", {"enabled_providers": ["a"], "provider": {"a": models("m"), "b": models("m")}})
    assert look(project, environ).providers == {"a": ["m"]}


def test_a_broken_file_is_named_and_the_others_count(environ: dict[str, str], project: Path, tmp_path: Path) -> None:
    broken = write(tmp_path / "xdg/opencode/opencode.json", '{"apiKey": "sk-secret"')
    write(project / "opencode.json", {"provider": {"a": models("m")}})
    found = look(project, environ)
    assert found.providers == {"a": ["m"]}
    assert len(found.problems) == 1
    assert found.problems[0].startswith(f"{broken} was left out: ")
    assert "secret" not in str(found)


def test_another_file_may_be_named_in_the_environment(environ: dict[str, str], project: Path, tmp_path: Path) -> None:
    named = write(tmp_path / "other.json", {"provider": {"a": models("m")}})
    assert look(project, environ | {"OPENCODE_CONFIG": str(named)}).files == [named]


def test_outside_a_project_the_directories_above_are_none_of_our_business(tmp_path: Path) -> None:
    write(tmp_path / "opencode.json", {"provider": {"a": models("m")}})
    (tmp_path / "below").mkdir()
    assert look(tmp_path / "below", {"XDG_CONFIG_HOME": str(tmp_path / "xdg")}).providers == {}


def test_the_same_model_is_recognised_under_its_names() -> None:
    found = {
        "anthropic": ["claude-sonnet-4-5", "claude-opus-4-1"],
        "openrouter": ["anthropic/claude-sonnet-4.5", "anthropic/claude-sonnet-4.5:free"],
        "bedrock": ["claude-sonnet-4-5-20250929"],
    }
    assert group(found) == {
        "anthropic": {"claude-sonnet-4-5": "claude-sonnet-4-5", "claude-opus-4-1": "claude-opus-4-1"},
        "openrouter": {
            "claude-sonnet-4-5": "anthropic/claude-sonnet-4.5",
            "anthropic/claude-sonnet-4.5:free": "anthropic/claude-sonnet-4.5:free",
        },
        "bedrock": {"claude-sonnet-4-5": "claude-sonnet-4-5-20250929"},
    }


def test_two_names_of_one_model_at_one_provider_stay_apart() -> None:
    assert group({"a": ["m-1-20250101", "m-1"], "b": ["m-1"]}) == {
        "a": {"m-1-20250101": "m-1-20250101", "m-1": "m-1"},
        "b": {"m-1": "m-1"},
    }


def test_the_models_that_were_picked_in_the_screen_count_and_the_last_one_is_the_default(
    environ: dict[str, str], project: Path, tmp_path: Path
) -> None:
    picked = [{"providerID": "openai", "modelID": "gpt-5"}, {"providerID": "a", "modelID": "m"}, {"odd": 1}, 2]
    state = {"recent": picked, "favorite": [{"providerID": "openai", "modelID": "gpt-5-mini"}], "variant": {}}
    write(tmp_path / ".local/state/opencode/model.json", state)
    write(project / "opencode.json", {"provider": {"a": models("m")}})
    assert [*look(project, environ).providers.items()] == [("openai", ["gpt-5", "gpt-5-mini"]), ("a", ["m"])]
    write(project / "opencode.json", {"model": "a/m"})
    assert [*look(project, environ).providers] == ["a", "openai"]
    write(tmp_path / ".local/state/opencode/model.json", "{")
    assert look(project, environ).providers == {"a": ["m"]}
