"""How a command line is read: argparse, with the nearest right word where one is wrong, and the way to the help."""

from __future__ import annotations

import re
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import TYPE_CHECKING, Any, NoReturn

from rlmctl.errors import WRONG, CommandError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

_STRANGE = re.compile(r"unrecognized arguments: (\S+)")
_NO_CHOICE = re.compile(r"argument (\S+): invalid choice: '(.*?)'")


class CommandParser(ArgumentParser):
    """The parser of one command, or of one of its actions: exact names only, and errors as `CommandError`."""

    def __init__(self, **given: Any) -> None:
        super().__init__(formatter_class=RawDescriptionHelpFormatter, allow_abbrev=False, **given)

    def error(self, message: str) -> NoReturn:  # type: ignore[explicit-override]  # typing.override is 3.12's
        """Show the usage and raise `CommandError` with what is wrong, and with what was probably meant."""
        self.print_usage(sys.stderr)
        sentence = message if message.endswith(".") else f"{message}."
        raise CommandError(f"{sentence}{self._meant(message)}", f"{self.prog} --help", WRONG)

    def _meant(self, message: str) -> str:
        if found := _STRANGE.search(message):
            below = [word for parser in self.below().values() for word in parser.words()]
            return did_you_mean(found[1].partition("=")[0], [*self.words(), *below])
        if found := _NO_CHOICE.search(message):
            return did_you_mean(found[2], [str(choice) for action in self._actions for choice in action.choices or ()])
        return ""

    def words(self) -> list[str]:
        """Return the words that may follow: choices and long options, apart from names of the configuration."""
        choices = [
            str(choice) for action in self._actions if not action.option_strings for choice in action.choices or ()
        ]
        return choices + [
            option for action in self._actions for option in action.option_strings if option.startswith("--")
        ]

    def explain(self, summary: str, examples: Sequence[str]) -> None:
        """Give the help of this command, and of each of its actions, what it does and the examples that are its own."""
        self.description = f"{summary[0].upper()}{summary[1:]}."
        shown = "".join(f"\n  {line}" for line in examples)
        self.epilog = f"{self.epilog}\n\n" * bool(self.epilog) + f"for example:{shown}" * bool(shown)
        summaries = {
            action.dest: action.help or ""
            for actions in self._actions
            for action in getattr(actions, "_choices_actions", ())
        }
        for name, parser in self.below().items():
            parser.explain(summaries[name], [line for line in examples if parser.prog in line])

    def below(self) -> dict[str, CommandParser]:
        """Return the parsers of this command's actions by name; none where it has no actions."""
        return {
            name: parser
            for action in self._actions
            if isinstance(action.choices, dict)
            for name, parser in action.choices.items()
        }
