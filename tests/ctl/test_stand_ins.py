"""Whether somebody could stand in: said of each model by setup, config check and doctor, with what mends it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from ctl.person import MODEL
from rlmctl.insight.stand_ins import MEND, lines
from rlmd.config.policy import parse

if TYPE_CHECKING:
    from ctl.person import Place


def provider(name: str, *models: str, more: str = "") -> str:
    return f'[[provider]]\nid = "{name}"\nmodels = {json.dumps(models)}\n{more}\n'


NO_TWO_ALIKE = provider("anthropic", "sonnet") + provider("openai", "gpt-5")


def said(text: str) -> list[tuple[bool, str]]:
    return [(line.fine, line.text) for line in lines(parse(text, {}, source="a test").policy)]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (provider("a", "m", more="priority = 1") + provider("b", "m", more="priority = 2"), (True, "m: a, then b")),
        (provider("a", "m", more="priority = 1") + provider("b", "m", more="priority = 1"), (True, "m: a or b")),
        ('strategy = "headroom"\n' + provider("a", "m") + provider("b", "m"), (True, "m: a or b")),
        (provider("a", "m"), (False, "m: only a; nobody could stand in")),
        (provider("a", "m") + provider("b", "m", more="enabled = false"), (False, "m: only a; nobody could stand in")),
        (provider("a", "m", more="enabled = false"), (False, "m: nobody, a being disabled")),
        (
            provider("a", "m", more="priority = 1") + provider("b", "m", more='account = "a"\npriority = 2'),
            (False, "m: a, then b, all on one account; nobody could stand in once it is used up"),
        ),
    ],
)
def test_a_line_says_who_is_next(text: str, line: tuple[bool, str]) -> None:
    assert said(text) == [line]


def test_a_fallback_is_named_with_its_model() -> None:
    text = provider("a", "m") + provider("b", "n") + '[[fallback]]\nmodel = "m"\nto = ["n"]\n'
    assert said(text) == [(True, "m: a, then b with n"), (False, "n: only b; nobody could stand in")]


def test_models_that_are_served_alike_share_a_line() -> None:
    assert said(provider("a", *"mnopq")) == [(False, "m, n, o, 2 more: only a; nobody could stand in")]


def test_config_check_warns_where_nobody_could_stand_in(place: Place) -> None:
    place.write_config(NO_TWO_ALIKE)
    run = place.ctl("config", "check")
    assert run.returncode == 0
    assert run.stderr.splitlines() == [
        "warning: sonnet: only anthropic; nobody could stand in",
        f"  mend: {MEND}",
        "warning: gpt-5: only openai; nobody could stand in",
        f"  mend: {MEND}",
    ]
    served = [{"provider": "anthropic", "model": "sonnet", "account": "anthropic"}]
    models = place.ctl_json("config", "check")["models"]
    assert models[0] == {"model": "sonnet", "stand_in": False, "served_by": served}


def test_config_check_names_who_stands_in(place: Place) -> None:
    place.write_config()
    assert place.ctl("config", "check").stdout.splitlines()[1] == f"{MODEL}: anthropic, then openrouter"


def test_doctor_warns_where_nobody_could_stand_in(place: Place) -> None:
    place.write_config(NO_TWO_ALIKE)
    checks = json.loads(place.ctl("doctor", "--json").stdout)["checks"]
    assert [(c["state"], c["meaning"], c["mend"]) for c in checks if c["name"] == "stand-ins"] == [
        ("warning", "sonnet: only anthropic; nobody could stand in", MEND),
        ("warning", "gpt-5: only openai; nobody could stand in", MEND),
    ]


def test_setup_warns_where_nobody_could_stand_in(place: Place) -> None:
    place.write_config(NO_TWO_ALIKE)
    run = place.ctl("setup", "--yes")
    assert run.returncode == 0
    assert "! stand-ins      sonnet: only anthropic; nobody could stand in\n" in run.stderr
    assert f"                 mend: {MEND}\n" in run.stderr
    assert [one["stand_in"] for one in place.ctl_json("setup")["models"]] == [False, False]
