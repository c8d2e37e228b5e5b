"""Where each provider takes its key from, which of them share one, and that no key is kept."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from rlmctl.agents.opencode.configuration import look
from rlmctl.agents.opencode.keys import accounts, variables

if TYPE_CHECKING:
    from pathlib import Path

    from rlmctl.agents.opencode.configuration import Found

KEY = "sk-ant-0123456789abcdef"


def found(tmp_path: Path, settings: dict[str, Any], **more: str) -> Found:
    (tmp_path / ".git").mkdir(exist_ok=True)
    (tmp_path / "opencode.json").write_text(json.dumps(settings))
    places = {name: str(tmp_path / name) for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME")}
    return look(tmp_path, {**places, "PATH": "", **more})


def provider(key: str | None = None, **options: Any) -> dict[str, Any]:
    given = options if key is None else {"apiKey": key, **options}
    return {"options": given, "models": {"m": {}}}


@pytest.mark.parametrize(
    ("name", "entry", "variable"),
    [
        ("mine", provider("{env:MY_KEY}"), "MY_KEY"),
        ("mine", provider("${MY_KEY}"), "MY_KEY"),
        ("mine", provider("$MY_KEY"), "MY_KEY"),
        ("mine", provider(headers={"x-api-key": "{env:MY_KEY}"}), "MY_KEY"),
        ("mine", provider(headers={"Authorization": "Bearer {env:MY_KEY}"}), "MY_KEY"),
        ("groq", provider(), "GROQ_API_KEY"),
        ("proxy", provider(baseURL="https://anthropic.helicone.ai/v1"), "ANTHROPIC_API_KEY"),
        ("proxy", provider(baseURL="https://oai.hconeai.com/v1"), None),
        ("mine", provider(), None),
    ],
)
def test_the_variable_that_holds_a_key(tmp_path: Path, name: str, entry: Any, variable: str | None) -> None:
    keys = found(tmp_path, {"provider": {name: entry}}).keys
    assert variables(keys[name]) == ([variable] if variable else [])


def test_providers_with_one_key_are_one_account_named_after_the_maker(tmp_path: Path) -> None:
    settings = {
        "provider": {
            "proxy": provider("{env:ANTHROPIC_API_KEY}"),
            "anthropic": provider(),
            "a": provider(KEY),
            "b": provider(headers={"authorization": f"Bearer {KEY}"}),
            "c": provider("{file:~/key}"),
            "d": provider("{file:~/key}"),
            "groq": provider(),
        }
    }
    assert accounts(found(tmp_path, settings).keys) == {
        **dict.fromkeys(("proxy", "anthropic"), "anthropic"),
        **dict.fromkeys("ab", "a"),
        **dict.fromkeys("cd", "c"),
    }


def test_what_only_fills_the_field_is_no_key(tmp_path: Path) -> None:
    settings = {"provider": {"ollama": provider("not-needed"), "lmstudio": provider("not-needed")}}
    assert accounts(found(tmp_path, settings).keys) == {}


def test_a_login_is_another_key_than_the_variable(tmp_path: Path) -> None:
    auth = tmp_path / "XDG_DATA_HOME" / "opencode" / "auth.json"
    auth.parent.mkdir(parents=True)
    auth.write_text(json.dumps({"anthropic": {"type": "oauth", "refresh": KEY}}))
    settings = {"provider": {"proxy": provider("{env:ANTHROPIC_API_KEY}"), "anthropic": provider()}}
    here = found(tmp_path, settings)
    assert here.logins == ("anthropic",)
    assert here.keys["anthropic"] == {"login:anthropic"}
    assert accounts(here.keys) == {}
    assert KEY not in repr(here)


def test_no_key_and_no_address_is_kept(tmp_path: Path) -> None:
    here = found(tmp_path, {"provider": {"a": provider(KEY, baseURL="https://internal.example/v1")}})
    assert KEY not in repr(here)
    assert "internal.example" not in repr(here)


def test_variables_in_the_form_of_a_shell_are_named_with_their_place(tmp_path: Path) -> None:
    settings = {"provider": {"a": provider("${KEY}", headers={"x": ["$OTHER", "costs $5", "{env:RIGHT}"]})}}
    here = found(tmp_path, settings)
    assert [(literal.file, literal.key, literal.variable) for literal in here.literals] == [
        (tmp_path / "opencode.json", "provider.a.options.apiKey", "KEY"),
        (tmp_path / "opencode.json", "provider.a.options.headers.x[0]", "OTHER"),
    ]


def test_who_could_stand_in_is_found_by_login_or_variable_in_the_list_that_opencode_keeps(tmp_path: Path) -> None:
    auth = tmp_path / "XDG_DATA_HOME" / "opencode" / "auth.json"
    auth.parent.mkdir(parents=True)
    auth.write_text('{"openrouter": {"type": "api"}, "nobody": {"type": "api"}}')
    listed = tmp_path / "XDG_CACHE_HOME" / "opencode" / "models.json"
    listed.parent.mkdir(parents=True)
    models = {"openrouter": ["anthropic/claude-sonnet-4.5", "x/other"], "groq": ["claude-sonnet-4-5"], "xai": ["grok"]}
    listed.write_text(json.dumps({name: {"models": {key: {} for key in names}} for name, names in models.items()}))
    settings = {"model": "anthropic/claude-sonnet-4-5"}
    here = found(tmp_path, settings, GROQ_API_KEY="x", XAI_API_KEY="x")
    assert here.providers == {
        "anthropic": ["claude-sonnet-4-5"],
        "openrouter": ["anthropic/claude-sonnet-4.5"],
        "nobody": [],
        "groq": ["claude-sonnet-4-5"],
    }
    assert here.borrowed == {"openrouter": "logged in", "nobody": "logged in", "groq": "GROQ_API_KEY is set"}
