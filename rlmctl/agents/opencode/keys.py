"""Where OpenCode takes the key of each provider from: a variable, a login, a file. Never the key itself.

Knows which providers share one, which is one account at the maker, and what is written as shells write it.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

KEY_VARIABLES = {
    "anthropic": "ANTHROPIC_API_KEY",
    "cerebras": "CEREBRAS_API_KEY",
    "deepseek": "DEEPSEEK_API_KEY",
    "fireworks-ai": "FIREWORKS_API_KEY",
    "google": "GOOGLE_GENERATIVE_AI_API_KEY",
    "groq": "GROQ_API_KEY",
    "mistral": "MISTRAL_API_KEY",
    "moonshotai": "MOONSHOT_API_KEY",
    "openai": "OPENAI_API_KEY",
    "opencode": "OPENCODE_API_KEY",
    "openrouter": "OPENROUTER_API_KEY",
    "togetherai": "TOGETHER_API_KEY",
    "xai": "XAI_API_KEY",
}
"""Where OpenCode takes the key of a provider from that has none in its configuration (models.dev, `env`)."""
_ENV = re.compile(r"\{env:([^}]+)\}")
_LITERAL = re.compile(r"\$\{(\w+)\}|^\$([A-Z_][A-Z0-9_]*)$")
_HELICONE = re.compile(r"https?://(anthropic|oai)\.(?:\w+\.)?helicone\.ai\b")
_UPSTREAM = {"anthropic": "anthropic", "oai": "openai"}
_KEY_HEADERS = {"x-api-key", "authorization", "api-key", "x-goog-api-key"}

SHORTEST = 16
"""Characters of a key. What is shorter fills a field that wants something, such as `ollama`."""


class Literal(NamedTuple):
    """A variable written as shells write it: OpenCode sends these very characters to the provider."""

    file: Path
    key: str
    """Such as `provider.anthropic.options.apiKey`."""
    variable: str


def accounts(keys: Mapping[str, frozenset[str]]) -> dict[str, str]:
    """Return provider → account for those that share a key with another one: what one uses up, the others lack."""
    groups: list[tuple[set[str], frozenset[str]]] = []
    for provider, sources in keys.items():
        members, together = {provider}, sources
        apart = []
        for group in groups:
            if group[1] & sources:
                members, together = members | group[0], together | group[1]
            else:
                apart.append(group)
        groups = [*apart, (members, together)]
    named: dict[str, str] = {}
    for members, _ in groups:
        if len(members) > 1:
            ordered = [provider for provider in keys if provider in members]
            account = next((provider for provider in ordered if provider in KEY_VARIABLES), ordered[0])
            named |= dict.fromkeys(ordered, account)
    return named


def variables(sources: frozenset[str]) -> list[str]:
    """Return the variables among the sources of a key."""
    return sorted(source[4:] for source in sources if source.startswith("env:"))


def sources(provider: str, options: Mapping[str, Any], held: tuple[str, ...]) -> frozenset[str]:
    """Say where a provider's key comes from: `env:NAME`, `file:NAME`, `login:ID`, or a digest of one in its options."""
    written, headers = [_word(options.get("apiKey"))], options.get("headers")
    if isinstance(headers, dict):
        written += [_word(value) for name, value in headers.items() if name.lower() in _KEY_HEADERS]
    found = frozenset(source for key in written if (source := _source(key)))
    if found:
        return found
    if provider in held:
        return frozenset({f"login:{provider}"})
    upstream = _HELICONE.match(_word(options.get("baseURL")))
    variable = KEY_VARIABLES.get(_UPSTREAM[upstream[1]] if upstream else provider)
    return frozenset({f"env:{variable}"} if variable else ())


def _source(key: str) -> str | None:
    if named := _ENV.search(key) or _LITERAL.search(key):
        return f"env:{next(filter(None, named.groups()))}"
    if key.startswith("{file:"):
        return f"file:{key[6:-1]}"
    if len(key) < SHORTEST:
        return None
    # Two providers with one key are one account; nothing but that is wanted of it.
    return f"digest:{hashlib.sha256(key.removeprefix('Bearer ').encode()).hexdigest()}"


def literals(file: Path, key: str, value: Any) -> Iterator[Literal]:
    """Yield where `${NAME}` stands in a value, however deep."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from literals(file, f"{key}.{name}", inner)
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from literals(file, f"{key}[{place}]", inner)
    elif found := _LITERAL.search(_word(value)):
        yield Literal(file, key, found[1] or found[2])


def logins(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names in auth.json; what belongs to them is not looked at."""
    try:
        held = json.loads((folder(environ, "DATA", ".local/share") / "auth.json").read_text("utf-8-sig"))
    except (OSError, ValueError):
        return ()
    return tuple(held) if isinstance(held, dict) else ()


def folder(environ: Mapping[str, str], kind: str, usual: str) -> Path:
    """Return a folder of OpenCode's: `XDG_{kind}_HOME`, else `usual` below the home, and `opencode` in it."""
    home = Path(environ.get("HOME") or Path.home())
    return Path(environ.get(f"XDG_{kind}_HOME") or home / usual) / "opencode"


def _word(value: Any) -> str:
    return value if isinstance(value, str) else ""
