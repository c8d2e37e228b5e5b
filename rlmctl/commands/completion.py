"""The command that prints a completion script: the commands, the words that follow them, and the configured names.

A script has the words in it; the names of providers and models it asks for at each use, of the daemon or else of the
configuration.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from rlmctl.commands import add_json, print_json
from rlmctl.commands.catalogue import SUMMARIES, find
from rlmctl.daemon.connection import ask, places
from rlmctl.errors import FINE, CommandError

if TYPE_CHECKING:
    from argparse import Action, ArgumentParser, Namespace
    from collections.abc import Iterable, Iterator

    from rlmctl.commands.parser import CommandParser

SHELLS = ("bash", "zsh", "fish")
NAMES = ("providers", "models")
FILES = {"FILE"}
"""Metavariables of what a shell completes by itself."""

BASH = """\
# rlmctl completion bash: source <(rlmctl completion bash)
_rlmctl() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} words="{commands}" names=
    if ((COMP_CWORD > 1)); then
        words=
        case "$before" in
{values}
            *) case "${{COMP_WORDS[1]}} ${{COMP_WORDS[2]}} " in
{cases}
            esac ;;
        esac
    fi
    [[ -z $names ]] || words+=" $("${{COMP_WORDS[0]}}" completion "$names" 2>/dev/null)"
    # A colon, as in qwen3:8b, ends a word for bash: what stands before it is matched and not offered again.
    local line=${{COMP_LINE:0:COMP_POINT}}
    [[ $line != *[![:space:]]:* ]] || word=${{line##*[[:space:]]}}
    COMPREPLY=($(compgen -W "$words" -- "$word"))
    [[ $word != *:* ]] || COMPREPLY=("${{COMPREPLY[@]#"${{word%"${{word##*:}}"}}"}}")
}}
complete -F _rlmctl rlmctl
"""

ZSH = """\
#compdef rlmctl
# rlmctl completion zsh > ~/.zfunc/_rlmctl, with ~/.zfunc in your fpath; or: source <(rlmctl completion zsh)
_rlmctl() {{
    local names=
    local -a offers
    if ((CURRENT == 2)); then
        offers=({commands})
    else
        case "$words[CURRENT-1]" in
{values}
            *) case "$words[2] $words[3] " in
{cases}
            esac ;;
        esac
    fi
    [[ -z $names ]] || offers+=(${{(f)"$("$words[1]" completion "$names" 2>/dev/null)"}})
    compadd -- $offers
}}
if [[ $funcstack[1] == _rlmctl ]]; then _rlmctl "$@"; else compdef _rlmctl rlmctl; fi
"""

FISH = """\
# rlmctl completion fish | source
function __rlmctl_after
    string match -rq -- $argv[1] (commandline -opc | string join ' ')
end
function __rlmctl_names
    set -l typed (commandline -opc)
    $typed[1] completion $argv[1] 2>/dev/null
end
complete -c rlmctl -f"""


class Words(NamedTuple):
    """What may follow somewhere."""

    words: tuple[str, ...] = ()
    names: str = ""
    """`providers` or `models`, where those of the configuration may follow too."""
    files: bool = False


def add_completion(parser: ArgumentParser) -> None:
    """Declare the arguments of `completion`."""
    parser.add_argument("what", choices=(*SHELLS, *NAMES), help="a shell; or the names that its script asks for")
    add_json(parser, "print the script, or the names, as JSON")


def completion(args: Namespace) -> int:
    """Print the completion script of a shell, or the names that may be completed."""
    if args.what in NAMES:
        found = _names(args.what)
        print_json({args.what: found}) if args.json else print("\n".join(found))
        return FINE
    script = {"bash": _bash, "zsh": _zsh, "fish": _fish}[args.what]()
    print_json({"shell": args.what, "script": script}) if args.json else print(script, end="")
    return FINE


def _names(what: str) -> list[str]:
    """Return the names of the providers, or of the models; nothing where neither daemon nor configuration has any."""
    from rlmd.client.connection import DaemonRefusedError, DaemonUnreachableError
    from rlmd.config.policy import ConfigError, load

    try:
        served: dict[str, list[str]] = ask("status")["model_mapping"]
    except (DaemonUnreachableError, DaemonRefusedError, CommandError):
        try:
            served = {}
            for provider in load(places().config).policy.providers:
                for model in provider.models:
                    served.setdefault(model, []).append(provider.id)
        except ConfigError:
            return []
    return sorted(served if what == "models" else {name for names in served.values() for name in names})


def _bash() -> str:
    values = [f"            {option}) {_bash_words(words)} ;;" for option, words in _values().items()]
    cases = [f'                "{place} "*) {_bash_words(words)} ;;' for place, words in _places()]
    return BASH.format(commands=" ".join(SUMMARIES), values="\n".join(values), cases="\n".join(cases))


def _bash_words(words: Words) -> str:
    if words.files:
        return 'COMPREPLY=($(compgen -f -- "$word")); return'
    return f'words="{" ".join(words.words)}"{f" names={words.names}" if words.names else ""}'


def _zsh() -> str:
    values = [f"            {option}) {_zsh_words(words)} ;;" for option, words in _values().items()]
    cases = [f'                "{place} "*) {_zsh_words(words)} ;;' for place, words in _places()]
    return ZSH.format(commands=" ".join(SUMMARIES), values="\n".join(values), cases="\n".join(cases))


def _zsh_words(words: Words) -> str:
    if words.files:
        return "_files; return"
    return f"offers=({' '.join(words.words)}){f' names={words.names}' if words.names else ''}"


def _fish() -> str:
    values = _values()
    lines = [FISH]
    lines += [
        f"complete -c rlmctl -n __fish_use_subcommand -a {name} -d {_fish_quoted(summary)}"
        for name, summary in SUMMARIES.items()
    ]
    no_value = f"not __rlmctl_after ' ({'|'.join(values)})$'"
    for place, words in _places():
        command, _, action = place.partition(" ")
        others = "|".join(find(command)[0].below())
        after = f"{place}( |$)" if action or not others else f"{command}( (?!({others}) )|$)"
        where = _fish_quoted(f"__rlmctl_after '^\\S+ {after}'; and {no_value}")
        lines.append(f"complete -c rlmctl -n {where} {_fish_words(words)}")
    for option, words in values.items():
        where = _fish_quoted(f"__rlmctl_after ' {option}$'")
        lines.append(f"complete -c rlmctl -n {where} {_fish_words(words)}")
    return "\n".join(lines) + "\n"


def _fish_words(words: Words) -> str:
    names = f" (__rlmctl_names {words.names})" if words.names else ""
    return f"{'-F ' if words.files else ''}-a {_fish_quoted(' '.join(words.words) + names)}"


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _places() -> Iterator[tuple[str, Words]]:
    """Yield what may follow a command and its action, the longer one first."""
    for name in SUMMARIES:
        parser = find(name)[0]
        for action, below in parser.below().items():
            yield f"{name} {action}", _after(below)
        yield name, _after(parser)


def _after(parser: CommandParser) -> Words:
    operands = [_kind(action) for action in parser._actions if not action.option_strings]  # noqa: SLF001  (argparse has no public way to list them)
    names = next((words.names for words in operands if words.names), "")
    extra = [word for words in operands for word in words.words]
    return Words(tuple(dict.fromkeys([*extra, *parser.words()])), names, any(words.files for words in operands))


def _values() -> dict[str, Words]:
    """Return what may follow an option that takes a value, by the option: one name means one thing everywhere."""
    found: dict[str, Words] = {}
    for action in _actions():
        if action.option_strings and action.nargs != 0:
            found |= dict.fromkeys(action.option_strings, _kind(action))
    return found


def _actions() -> Iterator[Action]:
    for name in SUMMARIES:
        parser = find(name)[0]
        for one in (parser, *parser.below().values()):
            yield from one._actions  # noqa: SLF001  (see above)


def _kind(action: Action) -> Words:
    """Say what an argument takes, by its choices or by what its metavariable calls it."""
    if action.choices is not None:
        choices: Iterable[Any] = action.choices
        return Words(tuple(map(str, choices)))
    called = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    words = tuple(word for word in called.split("|") if word.islower())
    if called in FILES:
        return Words(files=True)
    names = next((name for name in NAMES if called.startswith(name[:-1].upper()) and "=" not in called), "")
    return Words(words, names)
