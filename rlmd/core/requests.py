"""Requests of an agent to the ledger: what it asks and what it reports. On the wire each has an id and a tag too."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct

from rlmd.core.model import Outcome, Purpose, Usage, Whole

Name = Annotated[str, Meta(max_length=256)]
"""Ids of providers, models, sessions, leases: bounded, because the daemon remembers them."""

Time = Annotated[datetime, Meta(tz=True)]
"""Any time that RFC 3339 can write."""


class ModelRef(Struct):
    """A provider and a model by the agent's own names."""

    provider: Name
    model: Name


class Acquire(Struct):
    """Where should this go? `provider` and `model` are what the agent would use."""

    provider: Name
    model: Name
    session: Name | None = None
    agent: Name | None = None
    purpose: Purpose = "step"
    dry_run: bool = False
    estimate: Whole | None = None
    """Tokens of the request."""
    lease_for: ModelRef | None = None
    """A lease is wanted only if the request goes here."""


class Report(Struct):
    """How a request went. Carries all that is needed, so that a lease lost with a daemon costs nothing."""

    provider: Name
    model: Name
    outcome: Outcome
    lease: Name | None = None
    session: Name | None = None
    started_at: Time | None = None
    status: Annotated[int, Meta(ge=0, le=999)] | None = None
    headers: Annotated[dict[str, str], Meta(max_length=256)] = {}
    body: str = ""
    message: str = ""
    usage: Usage | None = None
    retry: bool = True


class UsageReport(Struct):
    """Tokens and money that became known after the final report."""

    usage: Usage
    lease: Name | None = None
    provider: Name | None = None
    model: Name | None = None
    session: Name | None = None
