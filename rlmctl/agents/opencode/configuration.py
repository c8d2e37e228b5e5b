"""What OpenCode is configured with: its providers and models, by name, and where each takes its key from.

Reads opencode.json(c), global and of the project, the names in auth.json, the models that the person has picked in
OpenCode's screen, and the list of models that OpenCode keeps.
Takes ids, names and the names of variables out of them: no key and no address leaves this module. Groups the names
under which providers offer the same model.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from rlmctl.agents.opencode.keys import KEY_VARIABLES, Literal, folder, literals, logins, sources

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

NAMES = ("config.json", "opencode.json", "opencode.jsonc")
"""The files of one directory in the order in which OpenCode merges them."""

_COMMENT = r"//[^\n]*+ | /\*(?:[^*]|\*(?!/))*+\*/"
_JSONC = re.compile(
    rf"""
    "(?:\\.|[^"\\])*+"                      # a string, which stays as it is
    | {_COMMENT}
    | ,(?=(?:\s | {_COMMENT})*+[}}\]])       # a comma before a closing bracket
    """,
    re.VERBOSE,
)
_DATE = re.compile(r"[-@]\d{8}(-v\d+(:\d+)?)?$")


class Found(NamedTuple):
    """What was found, and the files it was found in."""

    files: list[Path]
    providers: dict[str, list[str]]
    """OpenCode's id of a provider → OpenCode's names of its models; that of the default model comes first."""
    problems: list[str]
    """Files that could not be read, in a sentence each."""
    keys: Mapping[str, frozenset[str]] = MappingProxyType({})
    """Provider → where its key comes from, as `keys.sources` says it."""
    literals: tuple[Literal, ...] = ()
    logins: tuple[str, ...] = ()
    """The providers that the person has logged in to (`opencode auth list`)."""
    borrowed: Mapping[str, str] = MappingProxyType({})
    """Provider → why it is here though no configuration names it, in a few words."""


NOTHING = Found([], {}, [])


def opencode_directory(environ: Mapping[str, str]) -> Path:
    """Return OpenCode's global configuration directory. It need not exist."""
    return folder(environ, "CONFIG", ".config")


def opencode_programs(environ: Mapping[str, str]) -> list[str]:
    """Return the programs that this person may start as OpenCode, each once.

    Those are `$OPENCODE_BIN`, `opencode` and `opencode2` on the PATH; without any, what OpenCode's installer placed.
    """
    path = environ.get("PATH", "")
    named = [environ.get("OPENCODE_BIN"), *(shutil.which(name, path=path) for name in ("opencode", "opencode2"))]
    if not any(named):
        own = Path(environ.get("HOME") or Path.home()) / ".opencode" / "bin"
        named = [shutil.which("opencode", path=str(own))]
    return [*{str(Path(name).resolve()): name for name in reversed(named) if name}.values()][::-1]


def opencode_is_here(environ: Mapping[str, str]) -> bool:
    """Return whether this person uses OpenCode, as far as one can see."""
    return bool(opencode_programs(environ)) or opencode_directory(environ).is_dir()


def within_project(directory: Path) -> list[Path]:
    """Return `directory` and those above it up to the repository's root; without a repository it alone.

    OpenCode climbs as far, too.
    """
    above = [directory, *directory.parents]
    for count, place in enumerate(above, 1):
        if (place / ".git").exists():
            return above[:count]
    return [directory]


def configuration_files(directory: Path, environ: Mapping[str, str]) -> Iterator[Path]:
    """Give the files that OpenCode started in `directory` looks for, the least specific first."""
    for name in NAMES:
        yield opencode_directory(environ) / name
    if environ.get("OPENCODE_CONFIG"):
        yield Path(environ["OPENCODE_CONFIG"])
    for place in reversed(within_project(directory)):
        for name in NAMES[1:]:
            yield place / name
            yield place / ".opencode" / name


def look(directory: Path, environ: Mapping[str, str]) -> Found:
    """Return what OpenCode would find if it was started in `directory`."""
    found = Found([], {}, [], logins=logins(environ))
    default = ""
    off: set[str] = set()
    on: set[str] | None = None
    options: dict[str, dict[str, Any]] = {}
    written: list[Literal] = []
    for file in configuration_files(directory, environ):
        try:
            settings = parse_jsonc(file.read_text("utf-8-sig"))
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            found.problems.append(f"{file} was left out: {error}")
            continue
        found.files.append(file)
        default = _word(settings.get("model")) or default
        off |= set(_words(settings.get("disabled_providers")))
        if "enabled_providers" in settings:
            on = set(_words(settings["enabled_providers"]))
        for provider, model in _named(settings):
            models = found.providers.setdefault(provider, [])
            if model and model not in models:
                models.append(model)
        for provider, entry in _table(settings.get("provider")).items():
            given = _table(_table(entry).get("options"))
            options[provider] = {**options.get(provider, {}), **given}
            written += literals(file, f"provider.{provider}.options", given)
    for provider, model in _picked(environ):
        default = default or f"{provider}/{model}"  # as OpenCode does where no file names one
        models = found.providers.setdefault(provider, [])
        if model not in models:
            models.append(model)
    borrowed = _borrow(found, environ)
    for provider in [*found.providers]:
        if provider in off or (on is not None and provider not in on):
            del found.providers[provider]
    first = default.partition("/")[0]
    ordered = dict(sorted(found.providers.items(), key=lambda item: item[0] != first))
    keys = {provider: sources(provider, options.get(provider, {}), found.logins) for provider in ordered}
    borrowed = {provider: why for provider, why in borrowed.items() if provider in ordered}
    return found._replace(providers=ordered, keys=keys, literals=tuple(written), borrowed=borrowed)


def parse_jsonc(text: str) -> dict[str, Any]:
    """Return the object in `text`: JSON with comments and trailing commas. Raises ValueError."""
    value = json.loads(_JSONC.sub(lambda found: found[0] if found[0].startswith('"') else " ", text))
    if not isinstance(value, dict):
        raise ValueError("it holds no JSON object")  # noqa: TRY004  (a file's content, not a caller's mistake)
    return value


def group(providers: Mapping[str, list[str]]) -> dict[str, dict[str, str]]:
    """Return provider → canonical name → its own name, one canonical name for what is the same model.

    `claude-sonnet-4-5`, `anthropic/claude-sonnet-4.5` and `claude-sonnet-4-5-20250929` are; a variant such as
    `…:free` is not.
    """
    same: dict[str, list[str]] = {}
    for names in providers.values():
        for name in names:
            same.setdefault(_essence(name), []).append(name)
    # The plainest of the names in use stands for all: without its maker, without a date.
    canonical = {essence: min(names, key=lambda name: (len(name), name)) for essence, names in same.items()}
    grouped: dict[str, dict[str, str]] = {}
    for provider, names in providers.items():
        own: dict[str, str] = {}
        # A provider may offer one model under two names: the canonical one itself goes first.
        for name in sorted(names, key=lambda name: name != canonical[_essence(name)]):
            own.setdefault(name if canonical[_essence(name)] in own else canonical[_essence(name)], name)
        grouped[provider] = dict(sorted(own.items(), key=lambda item: names.index(item[1])))
    return grouped


def _essence(name: str) -> str:
    """Return what is left of a model's name without maker, date and spelling."""
    last = name.rpartition("/")[2].lower().replace(".", "-").replace("_", "-")
    return _DATE.sub("", last)


def _named(settings: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (provider, model) for all that a configuration names; the model is empty where it names none."""
    for provider, entry in _table(settings.get("provider")).items():
        yield provider, ""
        for model in _table(_table(entry).get("models")):
            yield provider, model
    agents = [*_table(settings.get("agent")).values(), *_table(settings.get("mode")).values()]
    chosen = [
        settings.get("model"),
        settings.get("small_model"),
        *(_table(agent).get("model") for agent in agents),
    ]
    for choice in chosen:
        provider, slash, model = _word(choice).partition("/")
        if slash:
            yield provider, model


def _picked(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield (provider, model) for the models that the person has picked in OpenCode, the last one first."""
    try:
        picked = json.loads((folder(environ, "STATE", ".local/state") / "model.json").read_text("utf-8"))
    except (OSError, ValueError):
        return
    for entry in (*_list(_table(picked).get("recent")), *_list(_table(picked).get("favorite"))):
        provider, model = (_word(_table(entry).get(key)) for key in ("providerID", "modelID"))
        if provider and model:
            yield provider, model


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _word(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _words(value: Any) -> list[str]:
    return [item for item in _list(value) if isinstance(item, str)]


def _borrow(found: Found, environ: Mapping[str, str]) -> dict[str, str]:
    """Add the models that a provider has beside those that are named, where it could stand in for another one.

    A person who has logged in to two providers has named the model of one of them only. Returns why a provider is
    here that nothing names.
    """
    named = {_essence(name) for names in found.providers.values() for name in names}
    why = dict.fromkeys(found.logins, "logged in")
    why |= {provider: f"{name} is set" for provider, name in KEY_VARIABLES.items() if environ.get(name)}
    offered = catalogue(environ) if named else {}
    added = {}
    for provider in dict.fromkeys([*found.providers, *why]):
        if found.providers.get(provider):
            continue
        models = [name for name in offered.get(provider, ()) if _essence(name) in named]
        if models or provider in found.logins:
            added[provider] = why.get(provider, "its models are OpenCode's own")
            found.providers[provider] = models
    return added


def catalogue(environ: Mapping[str, str]) -> dict[str, list[str]]:
    """Return provider → its models as OpenCode's copy of models.dev lists them; nothing where it has none yet."""
    usual = folder(environ, "CACHE", ".cache") / "models.json"
    try:
        listed = json.loads(Path(environ.get("OPENCODE_MODELS_PATH") or usual).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return {provider: list(_table(_table(entry).get("models"))) for provider, entry in _table(listed).items()}
