"""What errors mean: every recorded signal, every rule's own example, look-alikes, a person's patterns, any input."""

from __future__ import annotations

import json
import math
import time
from datetime import datetime
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlmd.core.errors import rules
from rlmd.core.errors.classify import classify
from rlmd.core.expression import Expression
from rlmd.core.model import DAY, HOUR, Kind, Pattern, Scope, Verdict

DATA = Path(__file__).parents[1] / "data"
NOW = datetime.fromisoformat("2026-09-24T15:30:00Z").timestamp()
COOLING = {"throttle", "quota", "credits", "overloaded"}

WRONG: dict[str, str] = {}
"""Recorded lines that the rules overrule, each with the reason. At most six."""

PRECISELY: dict[str, str] = {
    "anthropic-404-model": "model_missing",
    "anthropic-413": "context",
    "anthropic-max-tokens-limit": "client",
    "anthropic-ok-warning-200": "ok",
    "azure-404-deployment": "model_missing",
    "azure-content-filter": "client",
    "azure-token-budget-429": "context",
    "bedrock-400-long": "context",
    "cerebras-400-context": "context",
    "codex-200-warning": "ok",
    "copilot-200-usage": "ok",
    "deepseek-400-context": "context",
    "gemini-400-tokens": "context",
    "groq-413-too-large": "context",
    "http-400-port-4290": "client",
    "http-400-quoted-429": "client",
    "http-422-schema": "client",
    "openai-200-finish-length": "ok",
    "openai-200-remaining-zero": "ok",
    "openai-content-policy": "client",
    "openai-request-too-large-429": "context",
    "openai-string-too-long": "client",
    "openai-unknown-param": "client",
    "openrouter-400-context": "context",
    "openrouter-404-endpoints": "model_missing",
    "qwen-inspection-400": "client",
    "xai-400-prompt": "context",
    "zai-1211": "model_missing",
    "zai-1261": "context",
}
"""What `not_limit` of a recorded line stands for."""

SCOPES = {
    "ok": "none",
    "client": "none",
    "context": "none",
    "model_missing": "model",
    "transient": "server",
    "auth": "account",
}
"""Kinds that cool nothing, and whom they are about, whatever a line says."""


def recorded(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / name).read_text("utf-8").splitlines()]


SIGNALS = [*recorded("signals.jsonl"), *recorded("signals_more.jsonl")]
BY_ID = {signal["id"]: signal for signal in SIGNALS}


def verdict_on(signal: dict[str, Any], **changed: Any) -> Verdict:
    line = {**signal, **changed}
    now = datetime.fromisoformat(line["expect"]["now"]).timestamp()
    return classify(line["provider"], line["status"], line["headers"], line["body"], line.get("message", ""), now)


def judge(status: int | None, body: object = "", *, provider: str = "A", **more: Any) -> Verdict:
    text = body if isinstance(body, str) else json.dumps(body)
    headers, message = more.pop("headers", {}), more.pop("message", "")
    return classify(provider, status, headers, text, message, NOW, **more)


@pytest.mark.parametrize("signal", SIGNALS, ids=lambda signal: str(signal["id"]))
def test_a_recorded_signal_means_what_was_recorded(signal: dict[str, Any]) -> None:
    if signal["id"] in WRONG:
        pytest.skip(WRONG[signal["id"]])
    expected, verdict = signal["expect"], verdict_on(signal)
    kinds = {PRECISELY.get(signal["id"], expected["kind"])}
    if (signal["status"] or 0) >= 500 and kinds & {"overloaded", "transient"}:
        kinds = {"overloaded", "transient"}
    assert verdict.kind in kinds
    assert verdict.scope == SCOPES.get(verdict.kind, expected["scope"])
    if expected["retry_after_s"] is None:
        assert verdict.hint is None
    else:
        wait = min(expected["retry_after_s"], 8 * DAY)
        assert (verdict.hint or 0.0) == pytest.approx(wait, abs=1, rel=0.01)


def test_few_recorded_lines_are_overruled() -> None:
    assert len(WRONG) <= 6
    assert WRONG.keys() <= BY_ID.keys()


def test_no_recorded_line_is_named_twice() -> None:
    assert len(BY_ID) == len(SIGNALS)


@pytest.mark.parametrize(
    "signal",
    [signal for signal in SIGNALS if signal["lookalike"]],
    ids=lambda signal: str(signal["id"]),
)
def test_a_look_alike_never_cools(signal: dict[str, Any]) -> None:
    assert verdict_on(signal).kind not in COOLING
    assert verdict_on(signal, provider="some-gateway").kind not in COOLING


@pytest.mark.parametrize(
    "rule", [*rules.PROVIDER_RULES, *rules.GENERAL_RULES], ids=lambda rule: f"{rule.kind}-{rule.seen}"
)
def test_every_rule_has_its_recorded_example(rule: rules.Rule) -> None:
    assert verdict_on(BY_ID[rule.seen]).kind == rule.kind


@pytest.mark.parametrize("signal", SIGNALS, ids=lambda signal: str(signal["id"]))
def test_the_id_of_a_provider_may_carry_more(signal: dict[str, Any]) -> None:
    named = verdict_on(signal, provider=f"My {signal['provider'].upper()} (work)")
    assert named == verdict_on(signal)


@pytest.mark.parametrize("signal", SIGNALS, ids=lambda signal: str(signal["id"]))
def test_header_names_come_in_any_case(signal: dict[str, Any]) -> None:
    loud = {name.upper(): value for name, value in signal["headers"].items()}
    assert verdict_on(signal, headers=loud) == verdict_on(signal)


# Plain statuses.


@pytest.mark.parametrize(
    ("status", "kind", "scope"),
    [
        (200, "ok", "none"),
        (204, "ok", "none"),
        (302, "client", "none"),
        (400, "client", "none"),
        (401, "auth", "account"),
        (402, "credits", "account"),
        (403, "auth", "account"),
        (404, "client", "none"),
        (408, "transient", "server"),
        (413, "context", "none"),
        (418, "client", "none"),
        (429, "throttle", "account"),
        (500, "transient", "server"),
        (502, "transient", "server"),
        (503, "overloaded", "server"),
        (504, "transient", "server"),
        (520, "transient", "server"),
        (529, "overloaded", "server"),
        (0, "transient", "server"),
        (-1, "transient", "server"),
        (None, "transient", "server"),
    ],
)
def test_a_status_by_itself(status: int | None, kind: Kind, scope: Scope) -> None:
    assert judge(status) == Verdict(kind, scope)


@pytest.mark.parametrize("provider", ["anthropic", "openai-eu", "zai-coding-plan", "groq", "azure", "amazon-bedrock"])
def test_a_bare_429_is_the_models_where_the_provider_counts_models(provider: str) -> None:
    assert judge(429, provider=provider) == Verdict("throttle", "model")


@pytest.mark.parametrize("provider", ["deepseek", "kimi-for-coding", "cohere"])
def test_a_429_is_the_accounts_where_the_provider_counts_the_account(provider: str) -> None:
    assert judge(429, {"error": {"message": "slow"}}, provider=provider).scope == "account"


@pytest.mark.parametrize(
    "message",
    [
        # Bun, as the shim writes an error: name, code, message
        "Error: ConnectionRefused Unable to connect. Is the computer able to access the url?",
        "Error: FailedToOpenSocket Was there a typo in the url or port?",
        "Error: ECONNRESET The socket connection was closed unexpectedly. For more information, pass `verbose: true`",
        "Error: ConnectionClosed The socket connection was closed unexpectedly.",
        "Error: ENOTFOUND getaddrinfo ENOTFOUND api.anthropic.com",
        "Error: UNABLE_TO_VERIFY_LEAF_SIGNATURE unable to verify the first certificate",
        "Error: CERT_HAS_EXPIRED certificate has expired",
        "Error: ERR_TLS_CERT_ALTNAME_INVALID fetch() was redirected to another host",
        # Node and undici
        "TypeError:  fetch failed",
        "Error: EAI_AGAIN getaddrinfo EAI_AGAIN api.openai.com",
        "Error: ECONNREFUSED connect ECONNREFUSED 127.0.0.1:4290",
        "Error: ENETUNREACH connect ENETUNREACH 2606:4700::1:443",
        "Error: EHOSTUNREACH connect EHOSTUNREACH 10.0.0.1:443",
        "Error: DEPTH_ZERO_SELF_SIGNED_CERT self-signed certificate",
        "ConnectTimeoutError: UND_ERR_CONNECT_TIMEOUT Connect Timeout Error",
        "SocketError: UND_ERR_SOCKET other side closed",
        "Error:  socket hang up",
        "connect ETIMEDOUT 10.0.0.1:429",
        # The AI SDK's own words around any of them
        "AI_APICallError:  Cannot connect to API: Unable to connect. Is the computer able to access the url?",
    ],
)
def test_a_server_that_nobody_reaches_is_unreachable(message: str) -> None:
    assert judge(None, message=message) == Verdict("unreachable", "server")


@pytest.mark.parametrize(
    "message",
    [
        "TimeoutError: 23 timed out: nothing in 180000 ms",
        "TimeoutError: 23 The operation timed out.",
        "HeadersTimeoutError: UND_ERR_HEADERS_TIMEOUT Headers Timeout Error",
        "BodyTimeoutError: UND_ERR_BODY_TIMEOUT Body Timeout Error",
        "TypeError:  terminated",
        "TypeError:  Cannot read properties of undefined",
    ],
)
def test_an_answer_that_is_late_or_breaks_off_is_transient(message: str) -> None:
    assert judge(None, message=message) == Verdict("transient", "server")


@pytest.mark.parametrize("status", [200, 400, 502])
def test_what_a_gateway_says_of_the_host_behind_it_is_an_answer(status: int) -> None:
    body = 'event: error\ndata: {"error":{"message":"connect ECONNREFUSED 10.0.0.1:443"}}\n\n'
    assert judge(status, body).kind != "unreachable"
    assert judge(None, {"error": {"message": "connect ECONNREFUSED 10.0.0.1:443"}}).kind != "unreachable"


def test_an_error_without_a_status_is_read_like_one_in_a_stream() -> None:
    body = {"error": {"message": "Rate limit reached on requests per min", "code": "rate_limit_exceeded"}}
    assert judge(None, body) == Verdict("throttle", "model")


# Errors in a successful answer.


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ('event: error\ndata: {"type":"error","error":{"type":"overloaded_error"}}\n\n', "overloaded"),
        ("event: error\ndata: rate limit exceeded\n\n", "throttle"),
        ("event: error\ndata:\n\n", "transient"),
        ('data: {"error":{"code":402,"message":"no more"}}\n\n', "credits"),
        ('data: {"choices":[{"error":{"code":429,"message":"slow down"}}]}\n\n', "throttle"),
        ('{"choices":[{"error":{"code":502,"message":"bad gateway"}}]}', "transient"),
        ('[{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","message":"x"}}]', "throttle"),
        ('[1, {"a": 2}]', "ok"),
        ('{"type":"error","status_code":429,"error":{"type":"usage_limit_reached"}}', "quota"),
        ('{"status_code":503}', "overloaded"),
        ('{"object":"error","message":"Rate limit exceeded","code":"1300"}', "throttle"),
        ('{"error":"model is overloaded"}', "overloaded"),
        ('{"error":{"type":"invalid_request_error","message":"bad"}}', "client"),
        ('{"error":{"type":"authentication_error","message":"bad"}}', "auth"),
        ('{"error":null}', "ok"),
        ('{"error":{}}', "ok"),
        ('{"error":false,"message":"rate limit exceeded"}', "ok"),
        ('{"type":"error","error":{"type":"overloaded_err', "overloaded"),
        ('data: {"choices":[]}\n\ndata: {"type":"error","error":{"type":"overloaded_error","mess', "overloaded"),
        ('data: {"a":1}\n\ndata: "error" {broken\n\n', "ok"),
        ("data: [DONE]\n\n", "ok"),
        ("rate limit exceeded 429", "ok"),
        ('{"id":1,"choices":[{"message":{"content":"event: error\\ndata: 429"}}]}', "ok"),
        ('{"choices":[{"message":{"content":"429 \\"error\\": {', "ok"),
        ("{", "ok"),
        ('{"type":["error"],"object":{}}', "ok"),
    ],
)
def test_a_successful_answer_is_an_error_only_where_an_error_speaks(body: str, kind: Kind) -> None:
    assert judge(200, body).kind == kind


def test_the_last_error_of_a_stream_counts() -> None:
    chatter = "".join(f'data: {{"n":{n},"error":null}}\n\n' for n in range(5000))
    assert judge(200, f'{chatter}data: {{"error":{{"code":429,"message":"x"}}}}\n\n').kind == "throttle"


# Bodies in a bad state.


@pytest.mark.parametrize(
    "body",
    [
        '{"error":{"message":"tokens per day: limit 9","code":"rate_limit_exc',
        '{"error":{"message":"tokens per day: limit 9","code',
        '{"error":{"message":"tokens per day: limit 9","code":',
        '{"error":{"message":"tokens per day: limit 9","details":[{"a":[1,2,tru',
        '{"error":{"message":"tokens per day: limit \\',
        '{"error":{"message":"tokens per day',
        "{'error': {'code': 'rate_limit_exceeded', 'message': 'tokens per day'}}",
        "429 Too Many Requests: tokens per day",
        'Error: 429 {"error":{"message":"tokens per day: limit 9"}} (attempt 3)',
        '{"error":{"message":"{\\"error\\":{\\"message\\":\\"tokens per day\\"}}"}}',
        'event: error\ndata: {"message":"tokens per day"}\n\n',
    ],
)
def test_a_cut_or_wrapped_body_is_still_read(body: str) -> None:
    assert judge(429, body).kind == "quota"


def test_a_page_is_not_read() -> None:
    page = "<!DOCTYPE html><body>insufficient credits, daily quota exceeded</body>"
    assert judge(403, page) == Verdict("auth", "account")
    assert judge(429, page) == Verdict("throttle", "account")
    assert judge(504, page.replace("credits", "capacity")) == Verdict("transient", "server")


def test_links_are_not_read() -> None:
    body = {"error": {"message": "Slow. See https://a.example/billing/spending-limit/per-month for more"}}
    assert judge(429, body).kind == "throttle"


def test_what_the_request_said_is_not_read() -> None:
    body = {"detail": [{"msg": "bad", "input": {"message": "insufficient credits"}}]}
    assert judge(422, body) == Verdict("client", "none")
    quoted = {"error": {"message": "bad tool result: 'You've run out of credits'"}}
    assert judge(400, quoted) == Verdict("client", "none")


# The wait.


def test_a_long_wait_makes_a_quota() -> None:
    assert judge(429, headers={"retry-after": "3599"}) == Verdict("throttle", "account", hint=3599)
    assert judge(429, headers={"retry-after": "3600"}) == Verdict("quota", "account", hint=3600)


def test_no_wait_is_believed_beyond_the_longest() -> None:
    headers = {"retry-after": "9999999"}
    assert judge(429, headers=headers).hint == 8 * DAY
    assert judge(429, headers=headers, longest=HOUR).hint == HOUR


@pytest.mark.parametrize("status", [400, 401, 404, 413])
def test_what_does_not_cool_has_no_wait(status: int) -> None:
    assert judge(status, headers={"retry-after": "30"}).hint is None


def test_a_transient_error_keeps_its_wait() -> None:
    assert judge(500, headers={"retry-after": "30"}) == Verdict("transient", "server", hint=30)


@pytest.mark.parametrize(
    ("now", "hours"),
    [("2026-03-08T07:59:00Z", 1 / 60), ("2026-03-08T08:00:00Z", 23), ("2026-11-01T07:00:00Z", 25)],
)
def test_googles_day_ends_at_midnight_in_california(now: str, hours: float) -> None:
    line = {**BY_ID["gemini-rpd-winter"], "expect": {"now": now}}
    assert verdict_on(line).hint == pytest.approx(hours * HOUR)


# A person's own patterns.


@pytest.mark.parametrize(
    ("kind", "verdict"),
    [
        ("throttle", Verdict("throttle", "model", hint=60)),
        ("quota", Verdict("quota", "account", hint=60)),
        ("credits", Verdict("credits", "account", hint=60)),
        ("overloaded", Verdict("overloaded", "server", hint=60)),
        ("auth", Verdict("auth", "account", hint=60)),
        ("ignore", Verdict("client", "none")),
    ],
)
def test_a_persons_pattern_comes_first(kind: Any, verdict: Verdict) -> None:
    pattern = Pattern(Expression(r"weekly\s+cap"), kind=kind, lasts=60)
    assert judge(429, "Weekly  CAP reached", patterns=[pattern]) == verdict


def test_a_pattern_sees_the_body_and_the_message() -> None:
    pattern = Pattern(Expression('"E77"'), kind="quota")
    assert judge(400, {"code": "E77"}, patterns=[pattern]) == Verdict("quota", "account")
    assert judge(None, message='code "E77"', patterns=[pattern]) == Verdict("quota", "account")
    event = 'data: {"error":{"code":"E77"}}\n\n'
    assert judge(200, event, patterns=[pattern]) == Verdict("quota", "account")


def test_a_pattern_sees_no_answer() -> None:
    pattern = Pattern(Expression("E77"), kind="quota")
    assert judge(200, {"choices": [{"text": "E77"}]}, patterns=[pattern]) == Verdict("ok")
    stream = 'data: {"choices":[{"text":"E77"}]}\n\ndata: {"error":{"message":"internal"}}\n\n'
    assert judge(200, stream, patterns=[pattern]) == Verdict("transient", "server")


def test_a_pattern_may_be_for_one_provider() -> None:
    patterns = [
        Pattern(Expression("cap"), kind="quota", provider="mine"),
        Pattern(Expression("cap"), kind="overloaded"),
    ]
    assert judge(429, "cap", provider="mine", patterns=patterns).kind == "quota"
    assert judge(429, "cap", provider="mine-too", patterns=patterns).kind == "overloaded"


def test_the_errors_own_wait_goes_before_a_patterns() -> None:
    pattern = Pattern(Expression("cap"), kind="quota", lasts=30 * DAY)
    assert judge(429, "cap", headers={"retry-after": "9"}, patterns=[pattern]).hint == 9
    assert judge(429, "cap", patterns=[pattern]).hint == 8 * DAY


# Any input at all.

FRAGMENTS = st.sampled_from(
    [
        '{"error":{"message":"',
        '"code":"',
        "rate limit reached for ",
        "try again in ",
        "3h2m",
        "2026-09-27 12:05:49",
        "event: error\n",
        "data: ",
        "\n\n",
        '"}}',
        "\\",
        "[",
        "{",
        "per day",
        "insufficient credits",
        "RESOURCE_EXHAUSTED",
        "https://",
        "1e999",
        "nan",
        "٣",
        "\ud800",
    ],
)
TEXTS = st.one_of(st.text(max_size=300), st.lists(FRAGMENTS, max_size=30).map("".join))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["error", "code", "type", "message", "headers", "resets_at", "retryDelay", "x", "status"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
).map(json.dumps)
HEADERS = st.dictionaries(
    st.sampled_from(
        [
            "retry-after",
            "Retry-After-Ms",
            "ratelimit",
            "RateLimit-Policy",
            "x-ratelimit-remaining-tokens",
            "x-ratelimit-reset-tokens",
            "x-codex-primary-used-percent",
            "x-codex-primary-reset-at",
            "anthropic-ratelimit-unified-status",
            "anthropic-ratelimit-unified-5h-status",
            "anthropic-ratelimit-unified-5h-reset",
            "x-usage-ratelimit-session",
            "content-type",
        ],
    ),
    st.one_of(
        TEXTS, st.sampled_from(["0", "-1", "1e308", "nan", "rejected", "text/event-stream"]), st.floats().map(str)
    ),
)


@settings(deadline=None, max_examples=300)
@given(
    provider=TEXTS | st.sampled_from(["anthropic", "google", "zai", "A"]),
    status=st.none() | st.integers(-10, 700),
    headers=HEADERS,
    body=TEXTS | JSON,
    message=TEXTS | JSON,
    now=st.floats(0, 4e9),
    longest=st.floats(1, 1e7),
)
def test_it_never_raises_and_its_verdict_is_valid(
    provider: str,
    status: int | None,
    headers: dict[str, str],
    body: str,
    message: str,
    now: float,
    longest: float,
) -> None:
    verdict = classify(provider, status, headers, body, message, now, longest=longest)
    assert verdict.kind in get_args(Kind)
    assert verdict.scope in get_args(Scope)
    assert verdict.until is None
    assert verdict.hint is None or (math.isfinite(verdict.hint) and 0 < verdict.hint <= longest)
    assert (verdict.scope == "none") == (verdict.kind in {"ok", "client", "context"})


HOSTILE = {
    "quotes": "'" * 16_000,
    "double quotes": '"a ' * 8_000,
    "braces": '{"' * 8_000,
    "depth": "[" * 250_000,
    "cut depth": "[," * 8_000,
    "a key deep": '{"error":' * 20_000,
    "escapes": '{"a":"' + "\\" * 100_000,
    "verbs": "retry " * 4_000,
    "digits": "retry " + "9" * 16_000,
    "a number": "[" + "9" * 100_000,
    "verbs of limits": "exceed " * 3_000,
    "models": "reached for the " * 2_000,
    "spaces": " " * 200_000,
    "events": 'data: {"error"\n\n' * 15_000,
    "one event": "event: error\n" * 20_000,
    "JSON in JSON": json.dumps({"error": {"message": '{"a":' * 3_000}}),
    "long": "x" * 1_000_000,
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("status", [200, 400, 429, None])
def test_a_hostile_body_takes_no_time(name: str, status: int | None) -> None:
    started = time.process_time()
    judge(status, HOSTILE[name], message=HOSTILE[name])
    assert time.process_time() - started < 0.5
