"""What providers' errors mean, as rows of data: the first row that holds wins. No behaviour lives here.

A row names the recorded error that justifies it (`seen`: an id in tests/data/signals.jsonl or signals_more.jsonl).
Rows of one provider come first, those for everybody after. A pattern says what a provider means (its codes, its
units, its words for money and capacity), never one recorded sentence.
"""

from __future__ import annotations

import re
from typing import Literal

from msgspec import Struct

from rlmd.core.errors import phrases
from rlmd.core.model import HOUR, Kind, Scope


class Rule(Struct, frozen=True):
    """One row: all that it states must hold."""

    kind: Kind
    scope: Scope | None
    """None: the model or the account, whichever the error itself names; see `rlmd.core.errors.classify`."""
    seen: str
    who: re.Pattern[str] | None = None
    """Found in the provider's id, which people choose: only where the same words mean something else elsewhere."""
    status: frozenset[int] | None = None
    """0 is an error that came without a status: an event in a stream."""
    code: re.Pattern[str] | None = None
    """One whole code of the error: code, type, status, telling header, HTTP status."""
    says: re.Pattern[str] | None = None
    """Found in the error's sentences."""
    window: Literal["short", "long"] | None = None
    """The unit of the limit that the error speaks of: up to minutes, or an hour and more."""
    wait: float | None = None
    """The provider asks for at least this many seconds."""


def _rule(
    kind: Kind,
    scope: Scope | None,
    seen: str,
    *,
    who: str | None = None,
    status: tuple[int, ...] | None = None,
    code: str | None = None,
    says: str | None = None,
    window: Literal["short", "long"] | None = None,
    wait: float | None = None,
) -> Rule:
    return Rule(
        kind=kind,
        scope=scope,
        seen=seen,
        who=None if who is None else re.compile(who),
        status=None if status is None else frozenset(status),
        code=None if code is None else re.compile(f"^(?:{code})$", re.MULTILINE),
        says=None if says is None else re.compile(says),
        window=window,
        wait=wait,
    )


# Who: families found in an id.
_ZAI = r"\bz[.-]?ai|glm|zhipu|bigmodel"
_ALIBABA = r"alibaba|aliyun|qwen|dashscope|bailian|model-?studio"
_COPILOT = r"copilot"
_GOOGLE = r"google|gemini|vertex|antigravity"
_GROQ = r"groq"
_OPENCODE = r"opencode|\bzen\b"
_OPENROUTER = r"openrouter"

PER_MODEL = re.compile(
    r"anthropic|claude|openai|azure|cerebras|bedrock|amazon|groq|mistral|together|google|gemini|vertex|xai|grok"
    rf"|{_ALIBABA}|{_ZAI}",
)
"""Families that count each model by itself: a throttle there is the model's, even where the error does not say so."""
DAY_PER_MODEL = re.compile(r"azure|cerebras|bedrock|amazon|groq|google|gemini|vertex")
"""Of those, the ones whose days are counted a model too."""
ACCOUNT_WIDE = re.compile(r"deepseek|moonshot|kimi|cohere|copilot")
"""Families that count all models of an account together."""

_MONEY_STATUS = (0, 400, 401, 402, 403, 412, 429)
"""Where money's words are believed: it comes with any of these (anthropic-credit-400, opencode-credits-401)."""
_ANTHROPIC = "anthropic-ratelimit-unified"

PROVIDER_RULES: tuple[Rule, ...] = (
    # Anthropic's plan headers say it all; no family, because gateways pass them on under any id.
    _rule("credits", "model", "anthropic-extra-usage-long-429", says=r"extra usage is required"),
    _rule("throttle", "account", "anthropic-burst-429-allowed", status=(429,), code=rf"{_ANTHROPIC}-status=allowed\w*"),
    _rule(
        "quota",
        "account",
        "anthropic-unified-5h-rejected",
        status=(429,),
        code=rf"{_ANTHROPIC}-(?:5h|7d)-status=rejected",
    ),
    _rule(
        "quota",
        "model",
        "anthropic-unified-sonnet-week",
        status=(429,),
        code=rf"{_ANTHROPIC}-(?:representative-claim=(?:five_hour|seven_day)_\w+|\d+[hd]_\w+-status=rejected)",
    ),
    _rule(
        "quota",
        "account",
        "anthropic-unified-claim-429",
        status=(429,),
        code=rf"{_ANTHROPIC}-representative-claim=(?:five_hour|seven_day)",
    ),
    _rule(
        "credits",
        "model",
        "anthropic-unified-out-of-credits",
        status=(429,),
        code=rf"{_ANTHROPIC}-overage-disabled-reason=out_of_credits",
    ),
    _rule("quota", "account", "anthropic-unified-claim-429", status=(429,), code=rf"{_ANTHROPIC}-status=rejected"),
    # Codex, OpenAI
    _rule("credits", "account", "codex-workspace-credits-429", code=r"workspace_\w+_credits_depleted"),
    _rule("throttle", "account", "openai-slow-down-429", code=r"slow_down"),
    # Copilot
    _rule("throttle", "model", "copilot-model-429", code=r"user_model_rate_limited"),
    _rule("throttle", "account", "copilot-rate-limited-429", who=_COPILOT, code=r"(?:integration_)?rate_limited"),
    # OpenRouter
    _rule(
        "throttle",
        "account",
        "openrouter-402-in-flight",
        code=r"openrouter_in_flight_budget|in_flight_budget_exhausted",
    ),
    _rule("quota", "account", "openrouter-free-day-429", says=r"free-models-per-day"),
    _rule("throttle", "account", "openrouter-free-min-429", says=r"free-models-per-min"),
    _rule("client", "none", "openrouter-moderation-403", who=_OPENROUTER, status=(403,), says=r"moderation|flagged"),
    # Google: RESOURCE_EXHAUSTED is all of them; details, units and reasons tell which.
    _rule("overloaded", "model", "gemini-no-capacity-429", code=r"model_capacity_exhausted"),
    _rule("credits", "account", "gemini-prepaid-429", status=(402, 429), code=r"insufficient_g1_credits_balance"),
    _rule(
        "credits",
        "account",
        "gemini-prepaid-429",
        code=r"resource_exhausted",
        says=r"prepa(?:id|yment) credits|spend(?:ing)? (?:cap|limit)",
    ),
    _rule(
        "quota", None, "gemini-rpd-429-short-delay", status=(0, 429), code=r"resource_exhausted", says=r"per.?day|daily"
    ),
    _rule("quota", "model", "gemini-codeassist-quota", status=(0, 429), code=r"quota_exhausted"),
    _rule("throttle", "model", "gemini-rpm-429", status=(0, 429), code=r"resource_exhausted", window="short"),
    _rule("quota", None, "gemini-rpd-429-short-delay", status=(0, 429), code=r"resource_exhausted", window="long"),
    _rule("quota", None, "gemini-codeassist-quota", status=(0, 429), code=r"resource_exhausted", wait=HOUR),
    _rule(
        "quota",
        None,
        "gemini-no-details-429",
        status=(0, 429),
        code=r"resource_exhausted",
        says=r"exceeded your current quota",
    ),
    _rule("throttle", "model", "gemini-codeassist-subsecond", status=(0, 429), code=r"resource_exhausted"),
    # The same, cut before its status: its words alone would be OpenAI's for money.
    _rule(
        "quota",
        "model",
        "gemini-no-details-429",
        who=_GOOGLE,
        status=(0, 429),
        says=r"exceeded your current quota",
    ),
    # Z.ai, GLM: its own business codes, documented one by one.
    _rule("credits", "account", "zai-1309", who=_ZAI, code=r"1113|1309"),
    _rule("auth", "account", "zai-1002", who=_ZAI, code=r"100\d|111[0-2]|112[01]|1220|1311"),
    _rule("model_missing", "model", "zai-1211", who=_ZAI, code=r"1211|122[12]"),
    _rule("context", "none", "zai-1261", who=_ZAI, code=r"1261"),
    _rule("client", "none", "zai-1301", who=_ZAI, code=r"121[02-5]|1301"),
    _rule("quota", "account", "zai-1308", who=_ZAI, code=r"1304|1308|1310"),
    _rule("throttle", "account", "zai-1313", who=_ZAI, code=r"1313"),
    _rule("overloaded", "model", "zai-1312", who=_ZAI, code=r"1305|1312"),
    _rule("throttle", "model", "zai-1303", who=_ZAI, code=r"130[23]"),
    # Alibaba: insufficient_quota is its word for all of these, and not for money.
    _rule("credits", "model", "qwen-free-only-403", code=r"allocationquota\.freetieronly"),
    _rule("credits", "model", "qwen-free-quota-403", who=_ALIBABA, says=r"free (?:allocated )?quota"),
    _rule("quota", "account", "qwen-plan-hour-429", says=r"(?:hour|day|week|month)\w* allocated quota"),
    _rule("throttle", "account", "qwen-plan-concurrency-429", says=r"concurrency allocated quota"),
    _rule("throttle", "model", "qwen-rpm-429", who=_ALIBABA, code=r"insufficient_quota"),
    _rule("throttle", "model", "qwen-rpm-429", code=r"throttling(?:\.\w+)?|limit_(?:requests|burst_rate)"),
    # AWS: the exception's name, whatever the status.
    _rule("quota", "account", "bedrock-quota-400", code=r"servicequotaexceededexception"),
    _rule("quota", "model", "bedrock-tpd-429", code=r"throttlingexception", window="long"),
    _rule("throttle", "model", "bedrock-tpm-429", code=r"throttlingexception|toomanyrequestsexception"),
    _rule("overloaded", "model", "bedrock-not-ready-429", code=r"modelnotreadyexception"),
    _rule(
        "transient",
        "server",
        "bedrock-model-timeout-408",
        code=r"model(?:timeout|error|streamerror)exception|internalserverexception",
    ),
    # Cerebras: one code for the second and the day.
    _rule("quota", "model", "cerebras-tpd-429", code=r"(?:token|request)_quota_exceeded", window="long"),
    _rule("quota", "model", "cerebras-tpd-429", code=r"(?:token|request)_quota_exceeded", wait=HOUR),
    _rule("throttle", "model", "cerebras-rps-429", code=r"(?:token|request)_quota_exceeded"),
    # Others
    _rule("overloaded", "model", "groq-498", who=_GROQ, status=(498,)),
    _rule("quota", "account", "helicone-own-429", code=r"helicone-ratelimit-remaining=0", window="long"),
    _rule("throttle", "account", "helicone-minute-429", code=r"helicone-ratelimit-remaining=0"),
    _rule("quota", "account", "opencode-free-429", code=r"\w*usagelimiterror"),
    _rule("model_missing", "model", "opencode-model-401", who=_OPENCODE, code=r"modelerror"),
    _rule("quota", "account", "kimi-week-403", code=r"access_terminated_error", says=phrases.SPENT),
)

GENERAL_RULES: tuple[Rule, ...] = (
    # The request itself: waiting never helps.
    _rule("context", "none", "groq-413-too-large", status=(413,)),
    _rule(
        "context",
        "none",
        "cerebras-400-context",
        code=phrases.TOO_LONG_CODE,
    ),
    _rule("context", "none", "openai-request-too-large-429", status=(0, 400, 422, 429), says=phrases.NEVER_FITS),
    _rule("context", "none", "deepseek-400-context", status=(0, 400, 422), says=phrases.TOO_LONG),
    _rule("client", "none", "openai-content-policy", code=phrases.UNSAFE_CODE),
    _rule("model_missing", "model", "azure-404-deployment", code=phrases.NO_MODEL_CODE),
    _rule(
        "model_missing", "model", "anthropic-404-model", status=(404, 410), says=r"\bmodels?\b|no endpoints|deployment"
    ),
    _rule("model_missing", "model", "zai-1211", status=(0, 400, 401, 422), says=phrases.NO_MODEL),
    # Money before the key: a 401 may be about money.
    _rule("quota", "account", "copilot-402-quota", status=(402,), code=phrases.SPENT_CODE),
    _rule("credits", None, "openai-credit-balance-exhausted", code=phrases.MONEY_CODE),
    _rule("credits", None, "anthropic-credit-400", status=_MONEY_STATUS, says=phrases.MONEY),
    _rule("quota", "account", "copilot-402-quota", status=(402,), says=phrases.SPENT),
    _rule("credits", "account", "mistral-402", status=(402,)),
    _rule("auth", "account", "codex-not-included", code=phrases.KEY_CODE),
    _rule("auth", "account", "gemini-400-key", status=(0, 400, 401, 403, 429), says=phrases.NO_KEY),
    _rule("auth", "account", "zai-1311", status=(0, 400, 403, 429), says=phrases.UNENTITLED),
    # The server's capacity
    _rule("overloaded", None, "cerebras-queue-429", code=phrases.CAPACITY_CODE),
    _rule(
        "overloaded",
        None,
        "xai-capacity-stream",
        status=(0, 408, 429, 498, 500, 502, 503, 504, 529),
        says=phrases.CAPACITY,
    ),
    _rule("overloaded", None, "http-503-retry-after", status=(503, 529)),
    # Allotments and throttles: the unit of the limit, then the wait, then the words.
    _rule("quota", "account", "azure-apim-403-quota", status=(403,), says=phrases.SPENT),
    _rule("quota", None, "codex-both-windows", code=phrases.SPENT_CODE, window="long"),
    _rule("throttle", None, "quota-code-minute-429", code=phrases.SPENT_CODE, window="short"),
    _rule("quota", None, "codex-both-windows", code=phrases.SPENT_CODE),
    _rule("quota", None, "groq-tpd-429", code=phrases.THROTTLE_CODE, window="long"),
    _rule("quota", None, "azure-day-429", code=phrases.THROTTLE_CODE, wait=HOUR),
    _rule("throttle", None, "openai-tpm-429", code=phrases.THROTTLE_CODE, window="short"),
    _rule("quota", None, "copilot-quota-429", status=(429,), says=phrases.SPENT),
    _rule("throttle", None, "mistral-429", code=phrases.THROTTLE_CODE),
    _rule("quota", None, "kimi-week-403", status=(0, 403), says=phrases.THROTTLED, window="long"),
    _rule("quota", None, "azure-apim-403-quota", status=(0,), says=phrases.SPENT),
    _rule("throttle", None, "copilot-403-token", status=(0, 403), says=phrases.THROTTLED),
    # What is left is what its status says.
    _rule("auth", "account", "copilot-401", status=(401, 403)),
    _rule("transient", "server", "http-408", status=(408, 424, 425)),
)
