"""A person's own expressions: found as people expect, refused with what to write instead, and never slow."""

from __future__ import annotations

import sys

import pytest

from rlmd.core.errors.classify import classify
from rlmd.core.expression import LONGEST, SYNTAX, Expression, ExpressionError
from rlmd.core.model import Pattern


@pytest.mark.parametrize(
    ("written", "text", "found"),
    [
        ("weekly cap", "Your WEEKLY Cap is reached", True),
        ("LIMIT ÜBERSCHRITTEN", "limit überschritten", True),
        (r"\bcap\b", "handicap", False),
        (r"limit\s+of\s\d+", "limit  of\t50", True),
        ("额度.用完", "每日额度已用完", True),
        ("one.two", "one\ntwo", False),
        ("(?s)one.two", "one\ntwo", True),
        ("one[^x]two", "one\ntwo", True),
        ("^cap", "a line\ncap", False),
        ("(?m)^cap", "a line\ncap", True),
        ("reached$", "limit reached", True),
        ("reached$", "limit reached\n", True),
        ("reached$", "limit reached\n\n", False),
        ("reached$", "limit reached\nby you", False),
        ("(?m)reached$", "limit reached\nby you", True),
        ("reached\n$", "limit reached\n", True),
        (r"reached\z", "limit reached", True),
        (r"[(?=]{3}", "a (?= b", True),
        (r"\(\?=", "a (?= b", True),
        (r"C:\\1", r"c:\1", True),
        (r"\++", "++", True),
    ],
)
def test_an_expression_is_found_as_people_expect(written: str, text: str, *, found: bool) -> None:
    assert Expression(written).matches(text) is found


@pytest.mark.parametrize(
    ("written", "construct", "mend"),
    [
        ("cap(?= reached)", '"(?=", a lookahead', "Match the text itself"),
        ("cap(?! reached)", '"(?!", a lookahead', "a pattern of its own above this one"),
        ("(?<=weekly )cap", '"(?<=", a lookbehind', "Match the text itself"),
        ("(?<!weekly )cap", '"(?<!", a lookbehind', "a pattern of its own above this one"),
        (r"(cap|limit) \1", r'"\1", a backreference', "Write what it repeats once more."),
        ("(?P<n>cap) (?P=n)", '"(?P=", a backreference', "Write what it repeats once more."),
        ("(?>cap)", '"(?>", an atomic group', 'Write "(?:"'),
        ("ca++p", '"++", a possessive repetition', 'Leave the last "+" out'),
        ("ca{2}+p", '"}+", a possessive repetition', 'Leave the last "+" out'),
        ("(a)?(?(1)b|c)", '"(?(", a condition', 'Write both cases with "|" between them.'),
        ("cap(?#weekly)", '"(?#", a comment', "Leave it out."),
        ("(?ix) cap", '"(?ix", the flag for blanks and comments', "Leave it and them out."),
        ("(?a:cap)", '"(?a", a flag for the alphabet', "Leave it out."),
        (r"cap\Z", r'"\Z", the end of the text', r'Write "\z".'),
        (r"\u20ac", r'"\u", a character by its number or name', r'"\x{20AC}"'),
        ("ca{,3}p", '"{,3}", a repetition from nothing', 'Write "{0," before the most.'),
    ],
)
def test_what_only_other_expressions_have_is_refused_by_name_with_its_mend(
    written: str, construct: str, mend: str
) -> None:
    with pytest.raises(ExpressionError) as refused:
        Expression(written)
    assert f"has {construct}, and RE2 has nothing like it ({SYNTAX})." in str(refused.value)
    assert mend in str(refused.value)


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ("cap(", f"is no regular expression of RE2 ({SYNTAX}): missing ): cap(."),
        ("c{2000}", f"is no regular expression of RE2 ({SYNTAX}): invalid repetition size: {{2000}}."),
        (r"[\1]", f"is no regular expression of RE2 ({SYNTAX}): invalid escape sequence: \\1."),
        (r"(\pL{30}){30}", "is too large. Repeat less of it."),
        ("c" * (LONGEST + 1), "has 1,001 characters, and 1,000 are the most. Shorten it."),
        ("", "would match every error. Say more of the text that it is meant for."),
    ],
)
def test_what_cannot_be_used_is_refused_in_words(written: str, sentence: str) -> None:
    with pytest.raises(ExpressionError) as refused:
        Expression(written)
    assert str(refused.value) == sentence


@pytest.mark.timeout(20)
def test_an_expression_that_would_backtrack_for_ever_decides_at_once() -> None:
    patterns = [Pattern(Expression(r"(\w+\s?)+limit reached$"), "quota")]
    message = "a" * 10_000 + "!"
    assert classify("a", 429, {}, "", message, 0.0, patterns=patterns).kind == "throttle"


def test_half_a_character_in_an_error_is_no_trouble() -> None:
    assert Expression("cap").matches("\ud800 cap")


def test_nothing_is_compiled_when_an_error_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    patterns = [Pattern(Expression(f"cap {n} reached"), "quota") for n in range(200)]
    monkeypatch.setattr("rlmd.core.expression._compile", None)
    monkeypatch.setattr("re2.compile", None)
    assert classify("a", 429, {}, "", "cap 199 reached", 0.0, patterns=patterns).kind == "quota"


def test_where_the_library_cannot_be_loaded_the_pattern_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "re2", None)
    with pytest.raises(ExpressionError, match="needs the package google-re2, which cannot be loaded here"):
        Expression("cap")
