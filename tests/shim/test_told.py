"""What the shim tells the daemon of errors: enough for the same verdict, and nothing of a prompt or a key."""

from __future__ import annotations

import json
import os
import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from names import texts

from rlmd.core.errors.classify import classify
from rlmd.core.errors.header_names import is_read
from rlmd.core.errors.headers import read_windows

HERE = Path(__file__).parent
DATA = HERE.parent / "data"
SIGNALS = [
    json.loads(line)
    for name in ("signals.jsonl", "signals_more.jsonl")
    for line in (DATA / name).read_text("utf-8").splitlines()
]


def through(script: str, lines: list[dict[str, Any]], node: str, shim: Path) -> list[dict[str, Any]]:
    """Have a script of Node's read these lines and return those that it writes."""
    environ = {"PATH": os.environ["PATH"], "SHIM": (shim / "rlmd.js").as_uri()}
    given = "\n".join(map(json.dumps, lines))
    words = [node, str(HERE / "node" / script)]
    done = subprocess.run(words, env=environ, input=given, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(("path", "text"), texts().items(), ids=lambda value: getattr(value, "name", ""))
def test_the_shims_names_are_those_that_the_classifier_reads(path: Path, text: str) -> None:
    assert path.read_text("utf-8") == text, "out of date; to write it anew: python tests/shim/names.py"


def test_every_recorded_signal_means_the_same_after_the_shim_as_before(node: str, shim: Path) -> None:
    changed = {}
    for signal, told in zip(SIGNALS, through("told.mjs", SIGNALS, node, shim), strict=True):
        now = datetime.fromisoformat(signal["expect"]["now"]).timestamp()
        provider, status, headers = signal["provider"], signal["status"], signal["headers"]
        before = classify(provider, status, headers, signal["body"], signal.get("message", ""), now)
        after = classify(provider, told.get("status"), told["headers"], told["body"], told["message"], now)
        windows = read_windows(headers, now), read_windows(told["headers"], now)
        if before != after or windows[0] != windows[1]:
            changed[signal["id"]] = (before, after, told)
    assert changed == {}


def test_of_recorded_signals_only_what_is_read_is_told(node: str, shim: Path) -> None:
    told = through("told.mjs", SIGNALS, node, shim)
    assert {name for facts in told for name in facts["headers"] if not is_read(name)} == set()
    text = json.dumps([facts["body"] for facts in told])
    for name in ("request_id", "prompt", "messages", "instructions", "documentation_url", "user_id"):
        assert f'\\"{name}\\":' not in text, name


PROMPT = "the merger with ACME is planned for the ninth of May, tell nobody"
KEY = "sk-planted-0123456789abcdef"
QUERY_KEY = "AIzaPlantedInTheAddress0123"
PASSPHRASE = "correct-horse-battery"
SECRETS = (PROMPT, "merger", "ACME", KEY, "planted-0123", QUERY_KEY, "PlantedInTheAddress", PASSPHRASE)

WIRES: dict[str, dict[str, Any]] = {
    "anthropic": {"system": "Be kind.", "messages": [{"role": "user", "content": PROMPT}]},
    "openai chat": {"messages": [{"role": "user", "content": PROMPT}], "stream": True},
    "openai responses": {"input": [{"role": "user", "content": [{"type": "input_text", "text": PROMPT}]}]},
    "gemini": {"contents": [{"role": "user", "parts": [{"text": PROMPT}]}]},
}
SAYS = f'Refused: "{PROMPT}" with the key {KEY}, {QUERY_KEY} and {PASSPHRASE}'


def errors_of(wire: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    """Return errors in the form of a wire that repeat the whole of their request."""
    echo = {"metadata": {"flagged_input": PROMPT, "raw": json.dumps({"error": {"message": SAYS, "input": body}})}}
    match wire:
        case "anthropic":
            return [{"type": "error", "error": {"type": "invalid_request_error", "message": SAYS}}]
        case "openai chat":
            fastapi = {"detail": [{"type": "missing", "loc": ["body"], "msg": SAYS, "input": body, "ctx": {"e": SAYS}}]}
            choice = {"choices": [{"error": {"code": 400, "message": SAYS}, "delta": {"content": PROMPT}}]}
            return [{"error": {"message": SAYS, "type": "x", "param": PROMPT, "code": PROMPT, **echo}}, fastapi, choice]
        case "openai responses":
            error = {"code": "server_error", "message": SAYS}
            return [{"type": "response.failed", "response": {"error": error, "instructions": PROMPT, "input": body}}]
        case _:
            details = [{"@type": "x", "fieldViolations": [{"description": SAYS}], "reason": PROMPT}]
            return [{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": SAYS, "details": details}}]


def exchanges() -> list[dict[str, Any]]:
    """Return requests with their answers: each error as a refusal, in a stream, as a document, as plain text."""
    found: list[dict[str, Any]] = []
    for wire, body in WIRES.items():
        headers = {"authorization": f"Bearer {KEY}", "x-api-key": KEY, "x-pass": PASSPHRASE}
        request = {"headers": headers, "body": body, "query": f"key={QUERY_KEY}"}
        echoing = {"x-ratelimit-reset-requests": KEY, "retry-after": PASSPHRASE, "x-echo": PROMPT}
        json_headers = {"content-type": "application/json", **echoing}
        stream = {"content-type": "text/event-stream", **echoing}
        answers: list[dict[str, Any]] = [
            {"status": 400, "headers": {"content-type": "text/plain"}, "body": SAYS},
            {"status": 502, "headers": {"content-type": "text/html"}, "body": f"<html><body>{SAYS}</body></html>"},
            {"status": 200, "headers": stream, "body": f"event: error\ndata: {SAYS}\n\n"},
            {"status": 200, "headers": stream, "body": f'data: {{"text": "{PROMPT}"}}\n\n', "breaks": True},
        ]
        for error in errors_of(wire, body):
            text = json.dumps(error)
            answers += [
                *({"status": status, "headers": json_headers, "body": text} for status in (401, 422, 429, 529)),
                {"status": 429, "headers": json_headers, "body": text[: len(text) * 2 // 3]},
                {"status": 200, "headers": json_headers, "body": text},
                {"status": 200, "headers": stream, "body": f'data: {{"x": 1}}\n\ndata: {text}\n\n'},
                {"status": 200, "headers": stream, "body": f"event: error\ndata: {text}"},
            ]
        found += [{"request": request, "answer": answer} for answer in answers]
        found.append({"request": request, "dead": True})
    return found


def test_no_prompt_and_no_key_that_an_error_repeats_arrives_at_the_daemon(node: str, shim: Path) -> None:
    made = exchanges()
    lines = through("planted.mjs", made, node, shim)
    reports = [line for line in lines if line["op"] == "report" and line["outcome"] == "error"]
    assert len(reports) >= 2 * len(made) * 3 // 4, "what is not reported proves nothing"
    for secret in SECRETS:
        assert [line for line in lines if secret in json.dumps(line)] == []
