"""No error that a provider may send is worth long thought: what the built-in expressions cost grows with the text only.

An expression that is searched in a text may repeat something without end in two cases. It repeats characters of a word,
as words are short; or it begins behind a space, so that no two searches go over the same characters.
"""

from __future__ import annotations

import json
import re
from re import _constants as constants  # type: ignore[attr-defined]  # CPython's own parser, as `re` uses it
from re import _parser as parser  # type: ignore[attr-defined]
from typing import TYPE_CHECKING, Any

import pytest

from rlmd.core import observed_limits
from rlmd.core.errors import phrases, rules
from rlmd.core.errors.failure import TEXT, sentence

if TYPE_CHECKING:
    from collections.abc import Iterator

OF_A_WORD = [
    [(constants.IN, [(constants.CATEGORY, kind)])] for kind in (constants.CATEGORY_WORD, constants.CATEGORY_DIGIT)
]
SPACE = (constants.LITERAL, ord(" "))
REPEATS = {constants.MAX_REPEAT, constants.MIN_REPEAT}
SEARCHED = {
    **{
        f"rules, {rule.seen}, {rule.kind}": rule.says
        for rule in (*rules.PROVIDER_RULES, *rules.GENERAL_RULES)
        if rule.says
    },
    **{f"wording.{name}": getattr(phrases, name) for name in ("WINDOW", "UPSTREAM", "A_MODEL", "AN_ACCOUNT", "DAILY")},
    **{f"allowance.{number}": found for number, found in enumerate(observed_limits._STATED)},
}


def endless(items: Any, before: Any = None) -> Iterator[Any]:
    """Yield what is repeated without end although it is no part of a word and does not begin behind a space."""
    for kind, value in items:
        if kind in REPEATS:
            _, most, inner = value
            if most == constants.MAXREPEAT and list(inner) not in OF_A_WORD and before != SPACE:
                yield list(inner)
            yield from endless(inner, before)
        elif kind is constants.BRANCH:
            for branch in value[1]:
                yield from endless(branch, before)
        elif kind is constants.SUBPATTERN:
            yield from endless(value[-1], before)
        elif kind in {constants.ASSERT, constants.ASSERT_NOT}:
            yield from endless(value[1])
        before = (kind, value)


@pytest.mark.parametrize("expression", SEARCHED.values(), ids=SEARCHED)
def test_no_expression_goes_over_a_text_again_and_again(expression: re.Pattern[str]) -> None:
    assert list(endless(parser.parse(expression.pattern))) == []


def test_what_the_rule_is_for_is_found() -> None:
    for bad in (r"(?:a|ab)*c", r"\S+x", r".*x", r"(?:\w+ )*x", r"limit.+?reached"):
        assert list(endless(parser.parse(bad))), bad


@pytest.mark.parametrize("word", ["used", "week", "peraday", "exceed", "x"])
def test_of_a_word_without_end_only_its_beginning_is_examined(word: str) -> None:
    text = word * TEXT
    assert sentence(429, {}, "", f"it {text} up") == f"it {text[:100]}"
    assert sentence(429, {}, json.dumps({"error": {"message": f"a {text}"}}), "") == f"a {text[:100]}"


def test_words_of_the_usual_length_stay_whole() -> None:
    told = f"{'x' * 100} {'é' * 100}-{'额' * 100}。用完"
    assert sentence(429, {}, "", told) == told
