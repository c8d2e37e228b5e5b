"""What providers' errors mean, as rows of data: the first row that holds wins. No behaviour lives here.

A row names the recorded error that justifies it (`seen`: an id in tests/data/signals.jsonl or signals_more.jsonl).
Rows of one provider come first, those for everybody after. A pattern says what a provider means (its codes, its
units, its words for money and capacity), never one recorded sentence.
"""

from __future__ import annotations

import re
from typing import Literal

from msgspec import Struct

from rlmd.core.model import HOUR, Kind, Scope


class Rule(Struct, frozen=True):
    """One row: all that it states must hold."""

    kind: Kind
    scope: Scope | None
    """None: the model or the account, whichever the error itself names; see `rlmd.core.classify`."""
    seen: str
    who: re.Pattern[str] | None = None
    """Found in the provider's id, which people choose freely: only where the same words mean something else elsewhere."""
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

# Words. Codes first, sentences after; lower case throughout.
_MONEY_CODE = (
    r"insufficient_(?:quota|balance|credits?|funds|user_quota)|billing_\w+|payment_required(?:_error)?|creditserror"
    r"|credit_\w+|\w*(?:spend|budget|credits?)\w*_(?:limit|exhausted|exceeded|reached|depleted)\w*|arrearage"
    r"|\w+_usage_limit_exceeded|exceeded_current_quota_error|monthlylimiterror|userlimiterror|\w+bill_?overdue"
    r"|\S+:spending-limit|insufficient_g1_credits_balance|commoditynotpurchased"
)
_MONEY = (
    r"insufficient (?:\w+ )?(?:balance|credit|fund)|credit balance|out of (?:\w+ )?(?:credit|usage credit|extra usage)"
    r"|(?:no|any|enough|available|more|prepaid|prepayment|remaining|included|purchase|buy|add more) credits?\b(?! to unlock)"
    r"|credits? (?:are|is|have been|has been) (?:used up|depleted|exhausted)|credits? (?:depleted|exhausted)"
    r"|spend(?:ing)? (?:limit|cap)|hard limit|payment (?:is )?required|problem with billing|payment method"
    r"|recharge|top.?up|only afford|overdue|arrears|unpaid|good standing|budget (?:has been |is |was )?exceeded"
    r"|exceeded (?:\w+ ){0,3}budget|specified api usage limits?|extra usage, not your plan|key limit exceeded"
    r"|(?:plan|package|subscription)(?: \w+)? (?:has )?(?:expired|ended)|check your plan and billing|credit limit"
    r"|余额不足|余额|欠费|充值"
)
_CAPACITY_CODE = (
    r"\w*overloaded\w*|(?:model_)?capacity_(?:exhausted|exceeded)|model_capacity_exhausted|\w*at_capacity|no_?capacity"
    r"|queue_exceeded|service_?unavailable\w*|unavailable|modelnotreadyexception|server_busy"
)
_CAPACITY = (
    r"overload|(?:\bat|over|out of|no|insufficient|limited) capacity|capacity (?:is )?(?:exceeded|exhausted|limited)"
    r"|(?:high|heavy|peak) (?:demand|traffic|load|usage)|too busy|server (?:is )?busy|servers are busy"
    r"|no (?:\w+ )?(?:providers|instances|deployments)(?: are)? (?:currently )?available|繁忙|过载"
)
_THROTTLE_CODE = (
    r"429|rate_?limit\w*|too_?many_?requests\w*|\w*_rate_limit(?:ed)?|\w*throttl\S*|requests?_limit\w*|limit_(?:requests|tokens|burst)\w*"
    r"|slow_down|concurrency_limit\w*|ratelimiterror|resource_exhausted"
)
_THROTTLED = (
    r"(?:exceed|reach|hit|over)\w*\b.{0,60}\b(?:rate.?limit|limits?\b)|rate.?limit\w*.{0,20}\b(?:exceed|reach|hit)"
    r"|too many (?:concurrent )?requests|rate.limited|throttl|请求过多|频率|并发"
)
_SPENT_CODE = (
    r"usage_limit_(?:reached|exceeded)|workspace_\w+_usage_limit_reached|user_(?:global|weekly|daily|monthly|session)_rate_limited"
    r"|agent_mode_limit_exceeded|\w*quota_exceeded|\w*usagelimiterror|quota_exhausted|servicequotaexceeded\w*"
    r"|monthly_request_count|quote_exceeded|x-ratelimit-exceeded=.*(?:usage|quota|hour|day|week|month).*"
)
_SPENT = (
    r"\busage limits?\b|quota (?:is |has been |was |limit )*(?:exceeded|exhausted|reached|used|depleted)|out of quota"
    r"|(?:exceed|exhaust|reach|used)\w* (?:\w+ ){0,5}(?:quota|allowance|allotment)|premium requests?"
    r"|额度|配额|用量上限"
)
_UNENTITLED = (
    r"(?:plan|subscription|tier|account|key) (?:does not|doesn't|do not)(?: yet| currently)? (?:include|have access|support)"
    r"|not (?:included|available) (?:in|on|with) your (?:current )?(?:plan|subscription|tier)"
)
_NO_KEY = r"(?:invalid|incorrect|wrong|missing|no|expired) api.?key|api.?key (?:is )?(?:not valid|invalid|not found|expired|missing)"
_TOO_LONG = (
    r"context.length|context window|maximum (?:prompt|input) length|prompt (?:is )?too long|input (?:is )?too long"
    r"|prompt exceeds|token count.{0,60}\bexceeds|exceeded model token limit|reduce the length of|input length should be"
    r"|exceeds? (?:the )?(?:model'?s? )?(?:maximum )?(?:context|input|prompt) (?:size|length)|too many (?:input )?tokens in"
)
_NEVER_FITS = r"request too large|must be reduced in order|max_tokens.{0,40}exceed|reduce your message size"
_NO_MODEL_CODE = (
    r"model_?not_?found\w*|model_decommissioned|model_not_(?:supported|available)|deploymentnotfound|modelerror|invalid_model"
    r"|unknown_model|model_does_not_exist"
)
_NO_MODEL = (
    r"(?:unknown|invalid|no such|nonexistent) model|model (?:\S+ )?(?:was |is )?(?:not found|does not exist|doesn't exist)"
    r"|not a valid model|on-demand throughput"
)
_UNSAFE_CODE = (
    r"content_filter\w*|content_policy_violation|responsibleaipolicyviolation|data_?inspection_?failed|invalid_prompt"
    r"|unsafe_request|cyber_policy\w*|moderation\w*"
)
_KEY_CODE = (
    r"invalid_api_key|api_key_invalid|apikeyinvalid|invalidapikey|authentication_error|authenticationerror|unauthenticated"
    r"|invalid_authentication\w*|autherror|usage_not_included|accessdeniedexception|unrecognizedclientexception"
    r"|expiredtoken\w*|invalidsignatureexception|token_expired"
)

_MONEY_STATUS = (0, 400, 401, 402, 403, 412, 429)
"""Where money's words are believed: providers send it with any of these (anthropic-credit-400, opencode-credits-401)."""
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
    _rule(
        "throttle",
        "model",
        "qwen-rpm-429",
        who=_ALIBABA,
        code=r"throttling\S*|limit_\w+|insufficient_quota",
    ),
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
    # Others
    _rule("overloaded", "model", "groq-498", who=_GROQ, status=(498,)),
    _rule("quota", "account", "helicone-own-429", code=r"helicone-ratelimit-remaining=0", window="long"),
    _rule("throttle", "account", "helicone-minute-429", code=r"helicone-ratelimit-remaining=0"),
    _rule("quota", "account", "opencode-free-429", code=r"\w*usagelimiterror"),
    _rule("model_missing", "model", "opencode-model-401", who=_OPENCODE, code=r"modelerror"),
    _rule("quota", "account", "kimi-week-403", code=r"access_terminated_error", says=_SPENT),
)

GENERAL_RULES: tuple[Rule, ...] = (
    # The request itself: waiting never helps.
    _rule("context", "none", "groq-413-too-large", status=(413,)),
    _rule(
        "context",
        "none",
        "cerebras-400-context",
        code=r"\w*context_(?:length|window)_exceeded|request_too_large|prompt_too_long|string_too_long",
    ),
    _rule("context", "none", "openai-request-too-large-429", status=(0, 400, 422, 429), says=_NEVER_FITS),
    _rule("context", "none", "deepseek-400-context", status=(0, 400, 422), says=_TOO_LONG),
    _rule("client", "none", "openai-content-policy", code=_UNSAFE_CODE),
    _rule("model_missing", "model", "azure-404-deployment", code=_NO_MODEL_CODE),
    _rule(
        "model_missing", "model", "anthropic-404-model", status=(404, 410), says=r"\bmodels?\b|no endpoints|deployment"
    ),
    _rule("model_missing", "model", "zai-1211", status=(0, 400, 422), says=_NO_MODEL),
    # Money before the key: a 401 may be about money.
    _rule("quota", "account", "copilot-402-quota", status=(402,), code=_SPENT_CODE),
    _rule("credits", None, "openai-credit-balance-exhausted", code=_MONEY_CODE),
    _rule("credits", None, "anthropic-credit-400", status=_MONEY_STATUS, says=_MONEY),
    _rule("quota", "account", "copilot-402-quota", status=(402,), says=_SPENT),
    _rule("credits", "account", "mistral-402", status=(402,)),
    _rule("auth", "account", "codex-not-included", code=_KEY_CODE),
    _rule("auth", "account", "gemini-400-key", status=(0, 400, 401, 403), says=_NO_KEY),
    _rule("auth", "account", "zai-1311", status=(0, 400, 403, 429), says=_UNENTITLED),
    # The server's capacity
    _rule("overloaded", None, "cerebras-queue-429", code=_CAPACITY_CODE),
    _rule(
        "overloaded", None, "xai-capacity-stream", status=(0, 408, 429, 498, 500, 502, 503, 504, 529), says=_CAPACITY
    ),
    _rule("overloaded", None, "http-503-retry-after", status=(503, 529)),
    # Allotments and throttles: the unit of the limit, then the wait, then the words.
    _rule("quota", "account", "azure-apim-403-quota", status=(403,), says=_SPENT),
    _rule("quota", None, "codex-both-windows", code=_SPENT_CODE, window="long"),
    _rule("throttle", None, "cerebras-rps-429", code=_SPENT_CODE, window="short"),
    _rule("quota", None, "codex-both-windows", code=_SPENT_CODE),
    _rule("quota", None, "groq-tpd-429", code=_THROTTLE_CODE, window="long"),
    _rule("quota", None, "azure-day-429", code=_THROTTLE_CODE, wait=HOUR),
    _rule("throttle", None, "openai-tpm-429", code=_THROTTLE_CODE, window="short"),
    _rule("quota", None, "copilot-quota-429", status=(429,), says=_SPENT),
    _rule("throttle", None, "mistral-429", code=_THROTTLE_CODE),
    _rule("quota", None, "kimi-week-403", status=(0, 403), says=_THROTTLED, window="long"),
    _rule("quota", None, "azure-apim-403-quota", status=(0,), says=_SPENT),
    _rule("throttle", None, "copilot-403-token", status=(0, 403), says=_THROTTLED),
    # What is left is what its status says.
    _rule("auth", "account", "copilot-401", status=(401, 403)),
    _rule("transient", "server", "http-408", status=(408, 424, 425)),
)
