"""A person's own regular expression: RE2's syntax, and a search that no text makes endless."""

from __future__ import annotations

import re
from typing import Any

LONGEST = 1000
"""Characters of an expression."""
LARGEST = 10_000
"""Steps of the programs that the expressions of one configuration become, together. Where RE2 has to walk each of them
for each byte of an error, an answer takes two seconds, and no minute."""
MEMORY = 2**20
"""Bytes that RE2 takes for one expression at most."""
SYNTAX = "https://github.com/google/re2/wiki/Syntax"

_EXCEPT = (
    "Match the text itself; an exception to it goes into a pattern of its own above this one, since the first that "
    "matches decides."
)
_FOREIGN = (
    (r"\(\?[=!]", "a lookahead", _EXCEPT),
    (r"\(\?<[=!]", "a lookbehind", _EXCEPT),
    (r"\(\?P=|\\[1-9]", "a backreference", "Write what it repeats once more."),
    (r"\(\?>", "an atomic group", 'Write "(?:": nothing backtracks here.'),
    (r"[*+?}]\+", "a possessive repetition", 'Leave the last "+" out: nothing backtracks here.'),
    (r"\(\?\(", "a condition", 'Write both cases with "|" between them.'),
    (r"\(\?#", "a comment", "Leave it out."),
    (r"\(\?[aiLmsu]*x", "the flag for blanks and comments", "Leave it and them out."),
    (r"\(\?[ims]*[aLu]", "a flag for the alphabet", "Leave it out."),
    (r"\\Z", "the end of the text", r'Write "\z".'),
    (r"\\[uUN]", "a character by its number or name", r'Write it as it is, or such as "\x{20AC}".'),
    (r"\{,[0-9]+\}", "a repetition from nothing", 'Write "{0," before the most.'),
)
"""What Python's expressions have and RE2's do not, and what to write instead."""
_NEXT = "|".join([r"\\\\", r"\[\^?\]?(?:\\.|[^\]\\])*\]", *(f"({what})" for what, _, _ in _FOREIGN), r"\\."])
"""The next of them; what is in brackets or behind a backslash is passed over."""


class ExpressionError(ValueError):
    """An expression that cannot be used; the message is a predicate and its mend."""


class Expression:
    """A compiled expression. Case does not matter, and two of one text are equal."""

    __slots__ = ("_compiled", "text")

    def __init__(self, text: str) -> None:
        """Compile `text`. Raises `ExpressionError`."""
        self.text = text
        if len(text) > LONGEST:
            raise ExpressionError(f"has {len(text):,} characters, and {LONGEST:,} are the most. Shorten it.")
        if found := _foreign(text):
            raise ExpressionError(found)
        self._compiled = _compile(text)
        if self.matches(""):
            raise ExpressionError("would match every error. Say more of the text that it is meant for.")

    @property
    def size(self) -> int:
        """Steps of its program."""
        steps: int = self._compiled.programsize
        return steps

    def matches(self, text: str) -> bool:
        """Tell whether the expression is found in a text. "$" is the end, and the place before a line feed there."""
        searched = text.encode("utf-8", "replace")  # half a character may have come in an error
        found = self._compiled.search(searched) is not None
        if not found and searched.endswith(b"\n"):
            return self._compiled.search(searched[:-1]) is not None
        return found

    def __eq__(self, other: object) -> bool:  # type: ignore[explicit-override]  # typing.override is 3.12's
        return isinstance(other, Expression) and other.text == self.text

    def __hash__(self) -> int:  # type: ignore[explicit-override]  # typing.override is 3.12's
        return hash(self.text)

    def __str__(self) -> str:  # type: ignore[explicit-override]  # typing.override is 3.12's
        return self.text


def _compile(text: str) -> Any:
    try:
        import re2  # type: ignore[import-untyped]  # noqa: PLC0415  (3 MiB that nobody needs who has no pattern)
    except ImportError as error:
        raise ExpressionError(
            f"needs the package google-re2, which cannot be loaded here ({error}). "
            "Install it beside rlmd, or take the pattern out."
        ) from None
    options = re2.Options()
    options.case_sensitive = False
    options.never_capture = True
    options.log_errors = False
    options.max_mem = MEMORY
    try:
        return re2.compile(text.encode(), options)
    except re2.error as error:
        said = error.args[0].decode("utf-8", "replace") if isinstance(error.args[0], bytes) else str(error)
    if "too large" in said:
        raise ExpressionError("is too large. Repeat less of it.")
    raise ExpressionError(f"is no regular expression of RE2 ({SYNTAX}): {said}.")


def _foreign(text: str) -> str | None:
    """Say of a construct that only other kinds of expressions have what it is, and what to write instead."""
    for found in re.finditer(_NEXT, text, re.DOTALL):
        if found.lastindex:
            _, what, mend = _FOREIGN[found.lastindex - 1]
            return f'has "{found.group()}", {what}, and RE2 has nothing like it ({SYNTAX}). {mend}'
    return None
