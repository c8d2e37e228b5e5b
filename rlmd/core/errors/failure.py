"""What an answer says went wrong: finds the error that speaks, its codes and its words. Judges nothing.

Text is taken only from where an error speaks: an answer with an error status, an error event in a stream.
A body may be anything: cut in mid JSON, a page of a proxy, empty. Nothing here raises on it.
"""

from __future__ import annotations

import json
import re
from itertools import islice
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from rlmd.core.errors.header_names import is_read

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

TEXT = 16 * 1024
"""How many characters of an error are examined at most: none needs more, and hostile ones cost no time."""
WORD = 100
"""Characters of a word that are examined. An expression that seeks the end of one costs the square of its length."""
_ERROR = 64 * 1024
_ANSWER = 256 * 1024
"""A stream may talk for long before its error; what an error status sends is short."""
_FACTS = 256
_DEPTH = 12
_ITEMS = 32
_EVENTS = 32

Fact = tuple[str, Any]
"""Key in lower case (`header …` for a header inside the body) and its string, number or None."""

_CODE_KEYS = frozenset(
    (
        "code",
        "type",
        "status",
        "reason",
        "error_code",
        "errorcode",
        "__type",
        "limit_source",
        "rate_limit_reached_type",
    ),
)
_SENTENCE_KEYS = ("message", "msg", "error", "detail", "details", "error_description", "error_message", "title", "raw")
_LIMIT_KEYS = ("quotaid", "quota_limit", "quotametric", "limitname")
"""Names of limits, which are told like a sentence: `GenerateRequestsPerDayPerProjectPerModel-FreeTier`."""
_TEXT_KEYS = frozenset((*_SENTENCE_KEYS, *_LIMIT_KEYS))
_STATUS_KEYS = ("status_code", "statuscode", "status", "code")
CODES = (*sorted(_CODE_KEYS), *_STATUS_KEYS[:2], "object", "success")
"""Members that say what an error is. A client passes on these, `SENTENCES` and `hints.RESETS`, and no others."""
SENTENCES = (*_SENTENCE_KEYS, *_LIMIT_KEYS)
"""Members whose text says it to a person. `classify` looks for a model in them and in `model`."""
_EVENT_KEYS = ("type", "object", "code", "message", "msg", "status", "status_code", "headers", "metadata")
NOT_SAID = ("input", "prompt", "messages", "instructions", "output", "choices")
"""Members that quote the request or the answer inside an error."""

_TELLING = re.compile(
    r"anthropic-ratelimit-unified-.*(?:status|claim|reason)|x-ratelimit-exceeded|helicone-ratelimit-remaining",
)
"""Headers whose value says what was hit: they become codes of the form `name=value`."""
_CODE_HEADERS = ("x-amzn-errortype", "x-codex-rate-limit-reached-type")
"""Headers that are a code by themselves."""

_PAGE = re.compile(r"\s*<(?:!doctype|html|head|body|\?xml)", re.IGNORECASE)
_STREAM = ("data:", "event:", "id:", "retry:", ":")
_TALKS = ('"error"', "event: error", "event:error", "xception", '"success"', '"status_code"')
"""One of these is in every error event; the others need no parsing."""
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*("?)|[{}\[\],]', re.DOTALL)
_DECODER = json.JSONDecoder()
_OBJECT = re.compile(r'\{\s*"')
_LOOSE_CODE = re.compile(r"""["'](?:code|type|status|reason)["']\s?:\s?["']([^"'\s]{1,80})["']""")
_ADDRESS = re.compile(r"https?://\S+")
"""Links to consoles and manuals: their paths say billing and limits under every error."""
_LONG_WORD = re.compile(rf"\b(\w{{{WORD}}})\w+")
_BRACKETED = re.compile(r"\[(\d{4})\]\[")


class Fault(Struct, frozen=True):
    """The error that one answer speaks of."""

    status: int
    """HTTP status, of the error event where it has one; 0 where nobody gave one."""
    codes: str
    """Every code, type, status and telling header, in lower case, one a line. The HTTP status is one of them."""
    text: str
    """The error's sentences in lower case, on one line."""
    raw: str
    """What a person's own patterns see."""
    facts: tuple[Fact, ...]
    headers: dict[str, str]
    """Names in lower case; those that the body carries are included."""
    structured: bool
    """The provider's own JSON, not the bare text or page of something in front of it."""


def read(status: int | None, headers: Mapping[str, str], body: str, message: str) -> Fault | None:
    """Find the error, or None where no error speaks."""
    named = ((str(name).lower(), value) for name, value in headers.items())
    sent = {name: str(value).strip() for name, value in named if is_read(name)}
    if status is not None and 200 <= status < 300:  # noqa: PLR2004  (success, by RFC 9110)
        part = next(filter(None, map(_error_part, _documents(body[:_ANSWER].strip()))), None)
        return None if part is None else _fault(0, sent, [part], "", _written(part))
    (documents, prose), (more, words) = _open(body[:_ERROR]), _open(message[:TEXT])
    return _fault(max(status or 0, 0), sent, documents + more, f"{prose} {words}", f"{message[:TEXT]}\n{body[:TEXT]}")


def sentence(status: int | None, headers: Mapping[str, str], body: str, message: str) -> str:
    """Return what the error says, in lower case on one line; nothing where no error speaks."""
    found = read(status, headers, body, message)
    return found.text if found else ""


def _fault(status: int, sent: dict[str, str], documents: Iterable[object], prose: str, raw: str) -> Fault:
    facts = tuple(islice((fact for value in documents for fact in _walk(value, "", 0)), _FACTS))
    carried = {key[7:]: str(value) for key, value in facts if key.startswith("header ") and value}
    headers = {**carried, **sent}
    said = (value for key, value in facts if key in _TEXT_KEYS and isinstance(value, str))
    text = _LONG_WORD.sub(r"\1", " ".join(_ADDRESS.sub(" ", " ".join([*said, prose])[:TEXT]).split()).lower())
    status = status or _own_status(facts)
    return Fault(
        status=status,
        codes="\n".join(dict.fromkeys(_codes(status, facts, headers, text))),
        text=text,
        raw=raw,
        facts=facts,
        headers=headers,
        structured=bool(facts),
    )


def _codes(status: int, facts: Iterable[Fact], headers: dict[str, str], text: str) -> Iterator[str]:
    if status:
        yield str(status)
    named = [str(value) for key, value in facts if key in _CODE_KEYS and isinstance(value, str | int)]
    for code in [*named, *(headers[name] for name in _CODE_HEADERS if name in headers)]:
        plain = " ".join(code[:120].lower().split())
        yield plain
        # AWS puts an address behind its exception's name; Copilot the plan behind its code.
        yield plain.partition(":")[0]
    yield from (f"{name}={value.lower()[:120]}" for name, value in headers.items() if _TELLING.fullmatch(name))
    yield from _BRACKETED.findall(text)
    yield from _LOOSE_CODE.findall(text)


def _own_status(facts: Iterable[Fact]) -> int:
    """The HTTP status that an error event gives itself, or 0."""
    told = {key: str(value) for key, value in reversed(list(facts)) if key in _STATUS_KEYS}
    return next((int(told[key]) for key in _STATUS_KEYS if re.fullmatch("[45][0-9]{2}", told.get(key, ""))), 0)


def _walk(value: object, key: str, depth: int) -> Iterator[Fact]:
    """Every string, number and None in the value; JSON inside a string is opened."""
    if depth > _DEPTH:
        return
    if isinstance(value, dict):
        prefix = "header " if key == "headers" else ""
        for name, inner in value.items():
            if name in NOT_SAID:
                continue
            if name.endswith("Exception"):
                # Bedrock names the exception in a stream by the key of its member.
                yield "code", name
            yield from _walk(inner, prefix + name.lower(), depth + 1)
    elif isinstance(value, list):
        for inner in value[:_ITEMS]:
            yield from _walk(inner, key, depth + 1)
    elif isinstance(value, str) and (inside := _embedded(value)) is not None:
        yield from _walk(inside, key, depth + 1)
        yield key, value[: value.index("{")]  # the sentence in front of it
    else:
        yield key, value


def _error_part(value: object) -> dict[str, Any] | None:
    """The part of a successful answer's JSON that speaks of an error; never the answer's own text."""
    if isinstance(value, list):
        return next(filter(None, map(_error_part, value[:_ITEMS])), None)
    if not isinstance(value, dict):
        return None
    response = value.get("response")
    choices = value.get("choices")
    holders = [value, response, *(choices[:_ITEMS] if isinstance(choices, list) else ())]
    errors = [holder["error"] for holder in holders if isinstance(holder, dict) and holder.get("error")]
    thrown = {key: inner for key, inner in value.items() if key.endswith("Exception")}
    own = value.get("status_code")
    failed = value.get("type") == "error" or value.get("object") == "error" or value.get("success") is False
    if not (errors or thrown or failed or (isinstance(own, int) and own >= 400)):  # noqa: PLR2004
        return None
    return {key: value[key] for key in _EVENT_KEYS if key in value} | thrown | {"error": errors}


def _written(part: dict[str, Any]) -> str:
    try:
        return json.dumps(part, ensure_ascii=False)[:TEXT]
    except RecursionError:
        return ""


def _open(text: str) -> tuple[list[object], str]:
    """The JSON values in what an error sent (whole, in a stream's events, behind a sentence) and its own sentences."""
    text = text.strip()
    if values := list(_documents(text)):
        return values, ""
    if _PAGE.match(text):
        return [], ""
    inside = _embedded(text)
    return ([], text[:TEXT]) if inside is None else ([inside], text[: text.index("{")])


def _documents(text: str) -> Iterator[object]:
    """The JSON values of a text that is nothing but JSON, its lines, or a stream of events."""
    if text.startswith(("{", "[")):
        whole = _parsed(text)
        lines = [] if whole is not None else [_parsed(line) for line in text.splitlines() if line[:1] == "{"]
        values = [value for value in (whole, *lines) if value is not None]
        yield from values or filter(None, [_mended(text)])
    elif text.startswith(_STREAM):
        # The last event first: an error ends a stream.
        blocks = (block for block in reversed(re.split(r"\r?\n\r?\n", text)) if any(word in block for word in _TALKS))
        yield from filter(None, map(_event, islice(blocks, _EVENTS)))


def _event(block: str) -> object | None:
    lines = block.splitlines()
    data = "\n".join(line[5:].strip() for line in lines if line.startswith("data:"))
    value = _parsed(data) or _mended(data)
    if any(line.startswith("event:") and line[6:].strip() == "error" for line in lines):
        # Its name says that it is one, whatever its data look like.
        return {"type": "error", "error": value or data or "error"}
    return value


def _embedded(text: str) -> object | None:
    """The JSON object at the end of a text, as wrappers make them: `429 {"error": …}`."""
    start = _OBJECT.search(text, 0, TEXT)
    if start is None:
        return None
    tail = text[start.start() :]
    try:
        value: object = _DECODER.raw_decode(tail)[0]
    except (ValueError, RecursionError):
        return _mended(tail)
    return value


def _parsed(text: str) -> object | None:
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value


def _mended(text: str) -> object | None:
    """What a cut JSON text said up to the cut: its open ends closed, or else cut back to the last comma."""
    text = text[:TEXT]
    open_ends, comma, in_string = _open_ends(text)
    value = _parsed(text.rstrip("\\") + '"' * in_string + open_ends)
    if value is None and comma > 0:
        value = _parsed(text[:comma] + _open_ends(text[:comma])[0])
    return value if isinstance(value, dict | list) else None


def _open_ends(text: str) -> tuple[str, int, bool]:
    """Brackets that close what is open at the end, the place of the last comma, whether a string is open."""
    closers: list[str] = []
    comma, in_string = 0, False
    for token in _TOKEN.finditer(text):
        match token.group():
            case "{":
                closers.append("}")
            case "[":
                closers.append("]")
            case "}" | "]":
                del closers[-1:]
            case ",":
                comma = token.start()
            case _:
                in_string = not token.group(1)
    return "".join(reversed(closers)), comma, in_string
