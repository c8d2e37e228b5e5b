"""The words of providers' errors: codes and sentences by what they mean, for the rules. Lower case; data only.

A `…_CODE` is matched against one whole code (code, type, status, reason, telling header, HTTP status), the others
are searched in sentences. They hold meanings, never one provider's recorded sentence.
"""

from __future__ import annotations

import re

# Money: prepaid credits, balance, spend caps, unpaid bills.
MONEY_CODE = (
    r"insufficient_(?:quota|balance|credits?|funds|user_quota)|billing_\w+|payment_required(?:_error)?|creditserror"
    r"|credit_\w+|\w*(?:spend|budget|credits?)\w*_(?:limit|exhausted|exceeded|reached|depleted)\w*|arrearage"
    r"|\w+_usage_limit_exceeded|exceeded_current_quota_error|monthlylimiterror|userlimiterror|\w+bill_?overdue"
    r"|\S+:spending-limit|insufficient_g1_credits_balance|commoditynotpurchased"
)
MONEY = (
    r"insufficient (?:\w+ )?(?:balance|credit|fund)|credit balance|out of (?:\w+ )?(?:credit|extra usage)"
    r"|(?:no|any|enough|available|more|prepaid|prepayment|remaining|included|purchase|buy) credits?\b(?! to unlock)"
    r"|credits? (?:(?:are|is|have been|has been) )?(?:used up|depleted|exhausted)|credit limit"
    r"|spend(?:ing)? (?:limit|cap)|billing (?:hard )?limit|payment (?:is )?required|problem with billing|payment method"
    r"|enable billing|check your (?:plan and )?billing|\brecharge|\btop.?up\b|only afford|overdue|arrears|unpaid"
    r"|(?<!token )budget (?:(?:has been|is|was) )?exceeded|(?:exceeded|reached) (?:(?!token)\w+ ){0,3}budget"
    r"|good standing|specified api usage limit|extra usage, not your plan|key limit exceeded|negative balance"
    r"|(?:plan|package|subscription)(?: \w+)? (?:has )?(?:expired|ended)|余额|欠费|充值"
)

# Capacity: the server's, nobody's fault.
CAPACITY_CODE = (
    r"\w*overloaded\w*|(?:model_)?capacity_(?:exhausted|exceeded)|\w*at_capacity|no_?capacity|queue_exceeded"
    r"|service_?unavailable\w*|unavailable|server_busy"
)
CAPACITY = (
    r"overload|(?:\bat|over|out of|no|insufficient|limited) capacity|capacity (?:is )?(?:exceeded|exhausted|limited)"
    r"|(?:high|heavy|peak) (?:demand|traffic|load)|too busy|servers? (?:(?:is|are) )?(?:currently )?busy"
    r"|no (?:\w+ )?(?:providers|instances|deployments)(?: are)? (?:currently )?available|繁忙|过载"
)

# Throttles: they clear by themselves, soon.
THROTTLE_CODE = (
    r"429|rate_?limit\w*|too_?many_?(?:requests|tokens)\w*|\w*_rate_limit(?:ed)?|\w*throttl\S*|requests?_limit\w*"
    r"|limit_(?:requests|tokens|burst)\w*|slow_down|concurrency_limit\w*"
)
THROTTLED = (
    r"(?:exceed|reach|hit)\w*\b.{0,60}?\b(?:rate|requests?|usage|account|hourly|daily|weekly|monthly|session)[ -]?limit"
    r"|rate.?limit\w*.{0,20}?\b(?:exceed|reach|hit)|too many (?:\w+ )?requests|rate.limited|throttl|请求过多|频率|并发"
)

# Allotments: of a plan, a day, a window.
SPENT_CODE = (
    r"usage_limit_(?:reached|exceeded)|workspace_\w+_usage_limit_reached|\w*quota_exceeded|\w*usagelimiterror"
    r"|user_(?:global|weekly|daily|monthly|session)_rate_limited|agent_mode_limit_exceeded|quota_exhausted"
    r"|servicequotaexceeded\w*|monthly_request_count|quote_exceeded"
    r"|x-ratelimit-exceeded=.*(?:usage|quota|hour|day|week|month).*"
)
SPENT = (
    r"\busage limits?\b|quota (?:(?:is|has been|was|limit) )*(?:exceeded|exhausted|reached|used|depleted)"
    r"|(?:out of|no) (?:[\w-]+ ){0,3}quota|(?:exceed|exhaust|reach|used)\w* (?:\w+ ){0,5}(?:quota|allowance|allotment)"
    r"|premium requests?|limit exhausted|额度|配额|用量上限"
)

# Keys and entitlements: waiting mends neither.
KEY_CODE = (
    r"invalid_?api_?key|api_?key_?invalid|authentication_?error|unauthenticated|invalid_authentication\w*|autherror"
    r"|usage_not_included|accessdeniedexception|unrecognizedclientexception|expiredtoken\w*|token_expired"
    r"|invalidsignatureexception"
)
NO_KEY = (
    r"(?:invalid|incorrect|wrong|missing|no|expired) api.?key"
    r"|api.?key (?:is )?(?:not valid|invalid|not found|expired|missing)"
    r"|(?:account|organi[sz]ation|workspace) (?:is |has been )?(?:disabled|suspended|deactivated|locked)"
)
UNENTITLED = (
    r"(?:plan|subscription|tier|account|key) (?:does not|doesn't|do not)(?: yet| currently)?"
    r" (?:include|have access|support)"
    r"|not (?:included|available) (?:in|on|with) your (?:current )?(?:plan|subscription|tier)"
)

# The request itself: too long, refused, for a model that is not there.
TOO_LONG_CODE = r"\w*context_(?:length|window)_exceeded|request_too_large|prompt_too_long|\w*max_prompt_tokens_exceeded"
TOO_LONG = (
    r"context.length|context window|maximum (?:prompt|input) length|prompt (?:is )?too long|input (?:is )?too long"
    r"|prompt exceeds|token count.{0,60}?\bexceeds|exceeded model token limit|reduce the length of"
    r"|input length should be|exceeds? (?:\w+ ){0,3}(?:context|input|prompt) (?:size|length)"
)
NEVER_FITS = (
    r"request too large|must be reduced in order|max_tokens.{0,40}?exceed|token budget|reduce your message size"
)
NO_MODEL_CODE = (
    r"model_?not_?found\w*|model_(?:decommissioned|not_supported|not_available|does_not_exist)|deploymentnotfound"
    r"|modelerror|invalid_model|unknown_model"
)
NO_MODEL = (
    r"(?:unknown|invalid|no such|nonexistent) model|not a valid model|on-demand throughput"
    r"|model (?:\S+ )?(?:was |is )?(?:not found|not supported|does not exist|doesn't exist)"
)
UNSAFE_CODE = (
    r"content_filter\w*|content_policy_violation|responsibleaipolicyviolation|data_?inspection_?failed|invalid_prompt"
    r"|unsafe_request|cyber_policy\w*|moderation\w*"
)
REQUEST_CODE = re.compile(
    r"^(?:invalid_\w+|bad_?request\S*|invalid_?parameter\S*|validationexception)$",
    re.MULTILINE,
)
"""The request is wrong: what an error event without a status means when no rule holds."""

# No answer at all, in the words of the agents' runtimes: error names and codes of Node, undici, Bun and OpenSSL.
UNREACHABLE = re.compile(
    r"\b(?:ENOTFOUND|EAI_\w+|EDNS\w*|DNS\w*(?:Failed|Error)|ECONNREFUSED|ECONNRESET|ECONNABORTED|EPIPE|EHOSTUNREACH"
    r"|EHOSTDOWN|ENETUNREACH|ENETDOWN|ENETRESET|ENONET|EADDRNOTAVAIL|EPROTO|UND_ERR_CONNECT_TIMEOUT|UND_ERR_SOCKET"
    r"|ConnectionRefused|ConnectionClosed|ConnectionReset|FailedToOpenSocket|NetworkUnreachable|HostUnreachable"
    r"|ERR_(?:TLS|SSL)_\w+|CERT_\w+|UNABLE_TO_\w+|DEPTH_ZERO_SELF_SIGNED_CERT|SELF_SIGNED_CERT_IN_CHAIN|HOSTNAME_MISMATCH"
    r"|UNKNOWN_CERTIFICATE_VERIFICATION_ERROR|ERR_(?:INTERNET_DISCONNECTED|NETWORK_CHANGED|NAME_NOT_RESOLVED))\b"
    r"|\b(?:fetch failed|socket hang up|connect ETIMEDOUT|unable to connect\b|connection refused|connection was closed"
    r"|other side closed|getaddrinfo|name resolution|network is unreachable|no route to host|typo in the url"
    r"|network (?:error|connection was lost)|certificate has expired|self.signed certificate"
    r"|unable to (?:verify the first|get (?:local )?issuer) certificate)",
    re.IGNORECASE,
)

# What the limit is about.
WINDOW = re.compile(
    r"(?P<short>per[ _-]?(?:sec|min(?!us))|/ ?(?:sec(?:ond)?s?|min(?:ute)?s?|s|m)\b|\bminute limit"
    r"|\b(?:rps|rpm|tpm|itpm|otpm|qps|qpm)\b|concurren|in.flight|parallel|burst|accelerat|short (?:time|period)"
    r"|too (?:quickly|fast)|faster than|frequency|每分钟|每秒|并发)"
    r"|(?P<long>per[ _-]?(?:\d+[ -]?)?(?:hour|hr\b|day|week|month)|/ ?(?:hours?|hr|h|days?|d|weeks?|months?|mo)\b"
    r"|\b(?:rph|tph|rpd|tpd|tpw)\b|hourly|daily|weekly|monthly|(?:\d|five|seven)[ _-]?(?:hour|day|week|month)"
    r"|\b(?:hour|day|week|month)\w* (?:limit|quota|allocated|cap|usage)|billing (?:cycle|period)"
    r"|for the (?:hour|day|week|month)|\btoday\b|每小时|每日|每天|今日|每周|每月)",
)
"""Its unit, up to minutes (`short`) or an hour and more (`long`). The first that an error mentions is the one that
was hit; what follows is an offer or an explanation."""
UPSTREAM = re.compile(r"upstream|error from provider")
"""A gateway tells of the host behind it: one model's, not the person's account."""
A_MODEL = re.compile(
    r"\b(?:the|this|that|selected|requested|current|for|on|and|your) (?:[\w-]+ )?model\b(?! requests)|\bmodel [`'\"]"
    r"|permodel|per_base_model|(?:reached|limit) for \S+ (?:in organi[sz]ation|on (?:tokens|requests|input|output))"
    r"|\bengine\b|pricing tier",
)
MODEL_CODE = re.compile(r"model|engine")
AN_ACCOUNT = re.compile(
    r"\b(?:your|per|this) (?:account|team|workspace|plan|subscription|(?:api )?key|user|ip)\b|account's\b",
)
DAILY = re.compile(r"per.?day|daily")
QUOTED = re.compile(r"""(?<!\w)(?:'(?:[^']|(?<=\w)'(?=\w))*'|"[^"]*"|`[^`]*`)(?!\w)""")
"""What stands in quotation marks; an apostrophe is none."""
