"""The command that prints a completion script: the commands, and the words that follow them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlmctl.commands import FINE
from rlmctl.commands.catalogue import SUMMARIES, find

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator

BASH = """\
# rlmctl completion bash: source <(rlmctl completion bash)
_rlmctl() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} words="{commands}"
    if ((COMP_CWORD > 1)); then
        case ${{COMP_WORDS[1]}} in
{cases}
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -F _rlmctl rlmctl
"""

ZSH = """\
#compdef rlmctl
# rlmctl completion zsh: rlmctl completion zsh > DIRECTORY_OF_YOUR_fpath/_rlmctl
_rlmctl() {{
    local -a offers
    if ((CURRENT == 2)); then
        offers=({commands})
    else
        case $words[2] in
{cases}
        esac
    fi
    compadd -- $offers
}}
_rlmctl "$@"
"""


def add_completion(parser: ArgumentParser) -> None:
    """Declare the arguments of `completion`."""
    parser.add_argument("shell", choices=("bash", "zsh", "fish"))


def completion(args: Namespace) -> int:
    """Print the completion script of a shell."""
    commands = " ".join(SUMMARIES)
    words = {name: " ".join(_words(find(name)[0])) for name in SUMMARIES}
    match args.shell:
        case "bash":
            cases = "\n".join(f'        {name}) words="{after}" ;;' for name, after in words.items())
            print(BASH.format(commands=commands, cases=cases), end="")
        case "zsh":
            cases = "\n".join(f"        {name}) offers=({after}) ;;" for name, after in words.items())
            print(ZSH.format(commands=commands, cases=cases), end="")
        case _:
            print("complete -c rlmctl -f")
            for name, summary in SUMMARIES.items():
                print(f"complete -c rlmctl -n __fish_use_subcommand -a {name} -d '{summary}'")
            for name, after in words.items():
                print(f"complete -c rlmctl -n '__fish_seen_subcommand_from {name}' -a '{after}'")
    return FINE


def _words(parser: ArgumentParser) -> Iterator[str]:
    """Yield what may follow a command, apart from names that only the configuration knows."""
    for action in parser._actions:  # noqa: SLF001  (argparse has no public way to list them)
        yield from action.choices or ()
        yield from (option for option in action.option_strings if option.startswith("--"))
