"""The names of the headers that the classifier reads. A client passes on no other header of an answer.

The table binds both sides: the classifier sees no header that is missing here, and each shim's own list is
generated from this table (`tests/shim/names.py`).
"""

from __future__ import annotations

import re
from functools import lru_cache

HEADERS = (
    "content-type",
    "date",
    "ratelimit",
    "retry-after",
    "retry-after-ms",
    "x-amzn-errortype",
    "x-codex-rate-limit-reached-type",
    "x-ratelimit-exceeded",
    "x-ratelimit-user-retry-after",
)
"""Whole names, in lower case."""

PATTERNS = (
    # Anthropic's plan windows.
    r"anthropic-ratelimit-unified-(?:[a-z0-9_-]+-)?(?:status|claim|reason|reset|utilization)",
    # The plan windows of Codex.
    r"x-codex-(?:[a-z0-9-]+-)?(?:primary|secondary)-(?:used-percent|window-minutes|reset-after-seconds|reset-at)",
    # Copilot's shares.
    r"x-usage-ratelimit-[a-z0-9_-]+",
    # A bucket's limit, remaining and reset, whatever stands before and behind.
    r"(?=(?:.*-)?(?:limit|remaining|reset)(?:-.*)?$)(?:[a-z0-9_-]+-)?(?:rate-?limit|tokenlimit)[a-z0-9_-]*",
    r"(?:[a-z0-9_-]+-)?ratelimit-policy",
)
"""Families of names: regular expressions that mean the same in Python and in JavaScript."""

_READ = re.compile("|".join([*map(re.escape, HEADERS), *PATTERNS]))


@lru_cache(maxsize=512)
def is_read(name: str) -> bool:
    """Return whether the classifier reads the header of this name, which is in lower case."""
    return len(name) <= 100 and _READ.fullmatch(name) is not None  # noqa: PLR2004  (no header's name is longer)
