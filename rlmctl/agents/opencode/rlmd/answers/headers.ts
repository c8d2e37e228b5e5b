// Generated from what rlmd/core reads, by tests/shim/names.py: an edit is lost.
export const HEADERS = [
  "content-type",
  "date",
  "ratelimit",
  "retry-after",
  "retry-after-ms",
  "x-amzn-errortype",
  "x-codex-rate-limit-reached-type",
  "x-ratelimit-exceeded",
  "x-ratelimit-user-retry-after",
]
export const PATTERNS = [
  "anthropic-ratelimit-unified-(?:[a-z0-9_-]+-)?(?:status|claim|reason|reset|utilization)",
  "x-codex-(?:[a-z0-9-]+-)?(?:primary|secondary)-(?:used-percent|window-minutes|reset-after-seconds|reset-at)",
  "x-usage-ratelimit-[a-z0-9_-]+",
  "(?=(?:.*-)?(?:limit|remaining|reset)(?:-.*)?$)(?:[a-z0-9_-]+-)?(?:rate-?limit|tokenlimit)[a-z0-9_-]*",
  "(?:[a-z0-9_-]+-)?ratelimit-policy",
]
