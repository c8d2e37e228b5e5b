"""Decisions and records of the core as replies of the protocol: translation only."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

from msgspec import UNSET

from rlmd.core.model import Pass, Recorded, Use, Wait
from rlmd.wire import messages
from rlmd.wire.messages import rfc3339

if TYPE_CHECKING:
    from rlmd.core.model import Decision, Verdict


def decided(
    decision: Decision | Recorded | None, id_: messages.Id, now: float
) -> messages.Use | messages.Wait | messages.Pass:
    """Translate a decision."""
    match decision:
        case Use():
            return messages.Use(
                id=id_,
                provider=decision.provider,
                model=decision.model,
                switched=decision.switched,
                reason=decision.reason,
                message=decision.message,
                lease=UNSET if decision.lease is None else decision.lease,
            )
        case Wait():
            at = decision.retry_at
            return messages.Wait(
                id=id_,
                retry_at=None if at is None else rfc3339(at),
                retry_after_ms=None if at is None else max(0, ceil((at - now) * 1000)),
                message=decision.message,
                candidates=[
                    messages.Candidate(
                        provider=r.provider,
                        model=r.model,
                        state=r.state,
                        until=None if r.until is None else rfc3339(r.until),
                        reason=r.reason,
                        why=r.why,
                    )
                    for r in decision.refusals
                ],
                brief=decision.brief,
            )
        case Pass():
            return messages.Pass(id=id_, message=decision.message)
        case _:
            raise TypeError(f"no decision: {decision!r}")


def recorded(reply: Decision | Recorded | None, id_: messages.Id, now: float) -> messages.Recorded:
    """Translate the record of a report, with the place where its request goes on."""
    if not isinstance(reply, Recorded):
        raise TypeError(f"no record: {reply!r}")
    answer = messages.Recorded(id=id_, verdict=_verdict(reply.verdict))
    if reply.next is not None:
        place = decided(reply.next, None, now)
        answer.next = UNSET if isinstance(place, messages.Pass) else place
    if reply.duplicate:
        answer.duplicate = True
    return answer


def _verdict(verdict: Verdict) -> messages.VerdictInfo:
    info = messages.VerdictInfo(kind=verdict.kind, scope=verdict.scope)
    if verdict.until is not None:
        info.until = rfc3339(verdict.until)
    if verdict.hint is not None:
        info.hint_ms = round(verdict.hint * 1000)
    return info


def changes(reply: messages.AnyReply) -> bool:
    """Tell whether the status shows something else after this reply."""
    return isinstance(reply, messages.Recorded | messages.Done | messages.AdoptedReply | messages.Welcome) or (
        isinstance(reply, messages.Use) and reply.lease is not UNSET
    )


def not_durable(reply: messages.AnyReply) -> messages.AnyReply:
    """Turn the reply to a durable request into the error that says that the disk has not taken the change."""
    match reply:
        case messages.Recorded():
            message = (
                "The report is counted in memory and the disk does not take it: send it again with the same lease "
                "later. See `rlmctl doctor`."
            )
        case messages.AdoptedReply():
            message = "It is taken over, but only until rlmd ends: the disk does not take it. See `rlmctl doctor`."
        case messages.Done():
            message = f"{reply.message}, but only until rlmd ends: the disk does not take it. See `rlmctl doctor`."
        case _:
            return reply
    return messages.Error(id=reply.id, code="not_durable", message=message)
