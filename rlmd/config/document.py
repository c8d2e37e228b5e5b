"""One text of configuration: reading it into tables, and errors that name the line, the key and the mend.

Owns the wording where TOML, JSON or msgspec refuse something. No message repeats a value of [notify], or of a
key that looks like a secret.
"""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING, Any, TypeVar, get_args
from zoneinfo import ZoneInfo

import msgspec

from rlmd.config import zones
from rlmd.config.tables import TABLES, BareProviderTable, File, ProviderTable
from rlmd.core.text import near

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

T = TypeVar("T")
KeyPath = tuple[str | int, ...]
"""The way to a value: `("provider", 0, "limit", 1, "per")`."""

VARIABLE = "RLMD_PROVIDERS"

_ARRAYS = {"provider", "limit", "fallback", "pattern"}
_TABLES = {"cooldown", "agent", "notify", "history"}
_EXAMPLES = {
    "id": '"anthropic"',
    "models": '["claude-sonnet-4-5"]',
    "name": '"anthropic/claude-sonnet-4.5"',
    "of": '"requests"',
    "max": "1000",
    "per": '"1h"',
    "model": '"claude-sonnet-4-5"',
    "to": '["llama-3-1-70b"]',
    "match": '"weekly cap reached"',
    "kind": '"quota"',
}
"""Of every key that a table cannot do without."""
_WORDS = {
    "str": "a string in quotes",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
}
_BOUNDS = {
    ">=": "must be at least {}.",
    ">": "must be more than {}.",
    "<=": "must be at most {}.",
    "length >=": "must not be empty.",
}
_AFTER_MODELS = "TOML puts keys written after [provider.models] into that table."
_AT_TOP = "to the top of the file, above the first header"
_NO_PLACE = "has no place here: rlmd needs no key, token or password, the agent keeps them. Remove it."
_ARRAY = '[{"id": "anthropic", "models": ["claude-sonnet-4-5"], "hourlyLimit": 50}] or the like.'
_SECRETS = re.compile(r"(api|access|secret|private)keys?$|token$|passw(or)?d$|secret$|credentials?$|^key$|^auth")
_SYNTAX = re.compile(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", re.DOTALL)
_ADDRESS = re.compile(r"://.+", re.DOTALL)
"""What of an address is a secret, where somebody wrote one for a key."""
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_NAME = r"""(?:[\w-]+|"[^"]*"|'[^']*')"""
_KEY = re.compile(rf"\s*({_NAME}(?:\s*\.\s*{_NAME})*)\s*=")
_HEADER = re.compile(rf"\s*(\[\[?)\s*({_NAME}(?:\s*\.\s*{_NAME})*)\s*\]")


class ConfigError(Exception):
    """A configuration that cannot be used; its `str()` is the whole message for a person."""


class Document:
    """A text and what it is called. `local` is the zone behind `time_zone = "local"`.

    `spelled` holds the keys that the person spelled in another way than the tables do.
    """

    def __init__(self, source: str, text: str, local: ZoneInfo) -> None:
        self.source = source
        self.text = text
        self.local = local
        self.spelled: dict[KeyPath, str] = {}

    @property
    def is_variable(self) -> bool:
        """Whether this is the JSON of `RLMD_PROVIDERS`, which has no lines worth naming."""
        return self.source == VARIABLE

    def place(self, path: KeyPath) -> str:
        """Return how a message begins that speaks of `path`: file, line and key."""
        if self.is_variable:
            spelled = (self.spelled.get(path[: end + 1], part) for end, part in enumerate(path))
            return _dotted((VARIABLE, *tuple(spelled)[1:]))
        line = _line_of(self.text, path)
        return f"{self.source}:{line}: {_dotted(path)}" if line else f"{self.source}: {_dotted(path)}"

    def error(self, path: KeyPath, sentence: str) -> ConfigError:
        """Return the error that `sentence`, a predicate and its mend, says of the value at `path`."""
        return ConfigError(f"{self.place(path)} {sentence}")

    def toml(self) -> File:
        """Return the text, read as TOML. Raises ConfigError."""
        try:
            self.text.encode()
            tables = tomllib.loads(self.text)
        except (ValueError, RecursionError) as error:
            said = _SYNTAX.fullmatch(str(error))
            what, line, column = said.groups() if said else (str(error), None, None)
            spot = f"{self.source}:{line}:{column}" if line else self.source
            raise ConfigError(
                f"{spot}: This is no valid TOML: {what}. Check the quotes, brackets and equals signs there."
            ) from None
        return self.read(tables, File, ())

    def json(self) -> list[ProviderTable]:
        """Return the text, read as the JSON array of `RLMD_PROVIDERS`. Raises ConfigError."""
        try:
            written = msgspec.json.decode(self.text)
        except (ValueError, RecursionError, msgspec.MsgspecError) as error:
            raise self.error(("provider",), f"is no valid JSON: {error}. Write {_ARRAY}") from None
        if not isinstance(written, list):
            raise self.error(("provider",), f"must be a list. Write {_ARRAY}")
        return [self._provider(item, ("provider", index)) for index, item in enumerate(written)]

    def _provider(self, item: object, path: KeyPath) -> ProviderTable:
        if isinstance(item, dict):
            for name in item:
                key = _snake(name)
                if key not in BareProviderTable.__struct_fields__:
                    raise self.error((*path, name), stray(name, (VARIABLE,)))
                if (*path, key) in self.spelled:
                    raise self.error(path, f"has both {self.spelled[*path, key]} and {name}. Leave one out.")
                self.spelled[*path, key] = name
            item = {_snake(name): value for name, value in item.items()}
        return self.read(item, ProviderTable, path)

    def read(self, value: object, kind: type[T], path: KeyPath) -> T:
        """Return `value`, found at `path`, as a `kind`. Raises ConfigError."""
        try:
            return msgspec.convert(value, kind, dec_hook=self._read_own)
        except msgspec.ValidationError as error:
            said, _, where = str(error).rpartition(" - at `$")
            if not said:
                said, where = where, ""
            found = re.findall(r"\.(\w+)|\[(\d+)\]", where)
            raise self._refused(said, (*path, *(name or int(index) for name, index in found))) from None

    def _read_own(self, kind: Any, written: object) -> object:
        if kind is not ZoneInfo:
            return kind.read(written)
        if not isinstance(written, str):
            raise ValueError('must be a time zone in quotes, such as "Europe/Berlin", or "local".')  # noqa: TRY004
        return self.local if written == "local" else zones.named(written)

    def _refused(self, said: str, path: KeyPath) -> ConfigError:
        """Say in a person's words what msgspec `said` about `path`."""
        key = path[-1] if path else ""
        if unknown := re.fullmatch(r"Object contains unknown field `(.*)`", said, re.DOTALL):
            return self.error((*path, unknown[1]), stray(unknown[1], _shape(path)))
        if missing := re.fullmatch(r"Object missing required field `(\w+)`", said):
            return self.error(path, f"has no {missing[1]}. Add one: {self._example(missing[1])}")
        if bound := re.fullmatch(r"Expected `\w+` (?:of )?((?:length )?[<>]=?) (\S+)", said):
            sentence = _BOUNDS[bound[1]].format(bound[2].removesuffix(".0"))
            if bound[1] == ">=" and key in {"hourly_limit", "daily_limit"} and not self.is_variable:
                sentence += " To keep a provider out of use, write enabled = false."
            return self.error(path, sentence)
        if wrong := re.fullmatch(r"Expected `(.*)`, got `(\w+)`", said):
            if wrong[2] == "object" and key in _ARRAYS:
                return self.error(path, f"is a list of tables: its header is {_header(path)}.")
            if wrong[2] == "array" and key in _TABLES:
                return self.error(path, f"is one table: its header is {_header(path)}.")
            expected = (_WORDS.get(name, name) for name in wrong[1].split(" | ") if name != "null")
            got = "one with a fraction" if wrong[2] == "float" and "int" in wrong[1] else _WORDS.get(wrong[2], wrong[2])
            return self.error(path, f"must be {' or '.join(expected)}, not {got}.")
        if chosen := re.fullmatch(r"Invalid enum value '(.*)'", said, re.DOTALL):
            words = [*_choices(path)]
            likely = near(chosen[1], words)
            meant = f" Did you mean {_quoted(likely)}?" if likely else ""
            given = "" if path[0] == "notify" else f", not {_quoted(chosen[1])}"
            return self.error(path, f"must be one of {', '.join(map(_quoted, words))}{given}.{meant}")
        return self.error(path, said)

    def _example(self, key: str) -> str:
        return f'"{key}": {_EXAMPLES[key]}' if self.is_variable else f"{key} = {_EXAMPLES[key]}"


def stray(name: str, shape: tuple[str, ...]) -> str:
    """Return what to say of a key that the table of this shape does not have: what to write, or where."""
    if _is_secret(name):
        return _NO_PLACE
    here = (BareProviderTable if shape == (VARIABLE,) else TABLES[shape]).__struct_encode_fields__
    if shape == (VARIABLE,):
        here = tuple(map(_camel, here))
    # A slip such as `model` for `models` is likelier than a key in the wrong table.
    elif not near(name, here, 0.85):
        for other, table in TABLES.items():
            if (*other, name) in TABLES:
                return f"is a table of its own. Write its header as {_header((*other, name))}."
            if name in table.__struct_encode_fields__:
                where = f"below {_header(other)}" if other else _AT_TOP
                return f"belongs {where}. TOML puts a key into the table whose header stands above it."
    if meant := near(name, here):
        found = (*shape, meant)
        return f"is no key that rlmd knows. Did you mean {_header(found) if found in TABLES else meant}?"
    return f"is no key that rlmd knows. Known here: {', '.join(here)}."


def misplaced(name: str) -> str | None:
    """Return what to say of a key in [provider.models] that is no model's name, as `stray` does of others."""
    if _is_secret(name):
        return _NO_PLACE
    if name in ProviderTable.__struct_encode_fields__:
        return f"is no model: {_AFTER_MODELS} Move it up, above [provider.models]."
    if name in File.__struct_encode_fields__:
        return f"is no model: {_AFTER_MODELS} Move it {_AT_TOP}."
    return None


def likely(name: str, known: Collection[str]) -> str:
    """Return the mend for a name that is not among the known ones."""
    if meant := near(name, known):
        return f'Did you mean "{meant}"?'
    return f"There is {', '.join(known)}." if known else "Add a provider first."


def _is_secret(name: str) -> bool:
    return _SECRETS.search(re.sub("[^a-z]", "", name.lower())) is not None


def _shape(path: KeyPath) -> tuple[str, ...]:
    """Return the names on the way, with "*" for a model's: a key of TABLES, if `path` leads to a table."""
    names = [part for part in path if isinstance(part, str)]
    if names[:2] == ["provider", "models"]:
        names[2:3] = ["*"] * len(names[2:3])
    return tuple(names)


def _header(path: KeyPath) -> str:
    """Return the header that opens a table: [cooldown], [[cooldown.pattern]]."""
    dotted = ".".join(_shape(path))
    return f"[[{dotted}]]" if path[-1] in _ARRAYS else f"[{dotted}]"


def _choices(path: KeyPath) -> Iterator[str]:
    """Yield the words that may stand at `path`."""
    *table, key = _shape(path)
    fields = msgspec.structs.fields(TABLES[tuple(table)])
    kinds = [found.type for found in fields if found.encode_name == key]
    while kinds:
        for choice in get_args(kinds.pop()):
            if isinstance(choice, str):
                yield choice
            else:
                kinds.append(choice)


def _dotted(path: KeyPath) -> str:
    """Return a path as people write it."""
    written = ""
    for part in path:
        if isinstance(part, int):
            written += f"[{part}]"
        else:
            shown = _ADDRESS.sub("://…", part)
            written += f".{part if _BARE.fullmatch(part) else _quoted(shown)}"
    return written.removeprefix(".")


def _quoted(text: str) -> str:
    return msgspec.json.encode(text).decode()


def _snake(name: str) -> str:
    return re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", name)


def _camel(name: str) -> str:
    return re.sub("_(.)", lambda letter: letter[1].upper(), name)


def _line_of(text: str, path: KeyPath) -> int | None:
    """Return the line of the key or header nearest to `path`, by a scan that knows no multi-line strings."""
    best: tuple[int, int | None] = (0, None)
    table: KeyPath = ()
    counts: dict[KeyPath, int] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if header := _HEADER.match(line):
            table = ()
            names = _names(header[2])
            for depth, name in enumerate(names, 1):
                table = (*table, name)
                if depth == len(names) and header[1] == "[[":
                    counts[table] = counts.get(table, -1) + 1
                if table in counts:
                    table = (*table, counts[table])
            here = table
        elif key := _KEY.match(line):
            here = (*table, *_names(key[1]))
        else:
            continue
        shared = min(len(here), len(path))
        if shared > best[0] and path[:shared] == here[:shared]:
            best = (shared, number)
    return best[1]


def _names(dotted: str) -> list[str]:
    return [name.strip("\"'") for name in re.findall(_NAME, dotted)]
