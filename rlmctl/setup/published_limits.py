"""Limits that providers publish for their smallest plan, each with its page: proposals for a first configuration.

They change and depend on the plan, so that nothing holds by itself: a person says that it is theirs. What a provider
publishes per project or nowhere (Google, plans of Claude and ChatGPT) has no row.
"""

from __future__ import annotations

from typing import NamedTuple


class Published(NamedTuple):
    """One limit as a provider's page has it."""

    max: int
    per: str
    plan: str
    """Whose limit it is, in a few words."""
    source: str
    ending: str = ""
    """Holds for models whose name ends like this."""


READ = "October 2026"
"""When the pages were read."""

_ANTHROPIC = "https://platform.claude.com/docs/en/api/rate-limits"
_CEREBRAS = "https://inference-docs.cerebras.ai/support/rate-limits"
_GROQ = "https://console.groq.com/docs/rate-limits"
_OPENAI = "https://platform.openai.com/docs/guides/rate-limits"
_OPENROUTER = "https://openrouter.ai/docs/api-reference/limits"

LIMITS: dict[str, tuple[Published, ...]] = {
    "anthropic": (Published(50, "1m", "API tier 1", _ANTHROPIC),),
    "cerebras": (Published(30, "1m", "free plan", _CEREBRAS), Published(14_400, "1d", "free plan", _CEREBRAS)),
    "groq": (Published(30, "1m", "free plan", _GROQ), Published(1000, "1d", "free plan, most models", _GROQ)),
    "openai": (Published(500, "1m", "API tier 1", _OPENAI),),
    "openrouter": (
        Published(20, "1m", "models ending in :free", _OPENROUTER, ":free"),
        Published(50, "1d", "models ending in :free, before $10 of credits were bought", _OPENROUTER, ":free"),
    ),
}
"""OpenCode's id of a provider → requests that it allows."""


def published(provider: str, names: list[str]) -> list[Published]:
    """Return the limits that hold for all of these models of a provider."""
    return [limit for limit in LIMITS.get(provider, ()) if all(name.endswith(limit.ending) for name in names)]
