"""The table of receipts: what every report does to the count, at every stage of its lease."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, get_args

import pytest
from story import Story, limit, provider

from rlmd.core.model import Outcome
from rlmd.core.receipt import DUPLICATE, TABLE, Stage

if TYPE_CHECKING:
    from rlmd.core.model import Use

CELLS = list(product(get_args(Stage), get_args(Outcome)))


def test_the_table_has_a_cell_for_every_stage_and_outcome() -> None:
    assert [(stage, outcome) for stage, row in TABLE.items() for outcome in row] == CELLS


def test_the_table_reads_as_it_is_meant() -> None:
    def told(stage: Stage, outcome: Outcome) -> str:
        cell = TABLE[stage][outcome]
        return "duplicate" if cell is DUPLICATE else f"{cell.requests:+d} {cell.after}".replace("+0", "0")

    assert {stage: [told(stage, outcome) for outcome in get_args(Outcome)] for stage in get_args(Stage)} == {
        #            accepted       ok           error       cancelled    unsent
        "reserved": ["+1 accepted", "+1 final", "0 final", "+1 final", "0 final"],
        "accepted": ["duplicate", "0 final", "0 final", "0 final", "-1 final"],
        "lapsed": ["0 accepted", "0 final", "-1 final", "0 final", "-1 final"],
        "final": ["duplicate"] * 5,
        "unknown": ["+1 accepted", "+1 final", "0 final", "+1 final", "0 final"],
    }


def a_lease(story: Story, stage: Stage) -> Use:
    """A lease that has come to this stage."""
    use = story.use(session=None, estimate=100)
    match stage:
        case "accepted":
            story.report(use, "accepted")
        case "lapsed":
            story.settle(story.ledger.release([use.lease or ""], story.now))
        case "final":
            story.report(use)
        case "unknown":
            story.restart()
    return use


@pytest.mark.parametrize(("stage", "outcome"), CELLS)
def test_a_report_does_what_the_table_says(stage: Stage, outcome: Outcome) -> None:
    story = Story(provider("a", 1, limit(9), limit(1000, of="tokens")))
    use = a_lease(story, stage)
    cell = TABLE[stage][outcome]
    before = story.used("a"), story.ledger.state.totals["a"].requests
    kept = dict(story.facts)
    told = len(story.history)
    recorded = story.report(use, outcome, status=500 if outcome == "error" else None)
    change = 0 if cell is DUPLICATE else cell.requests
    assert (story.used("a"), story.ledger.state.totals["a"].requests) == (before[0] + change, before[1] + change)
    assert sum(used.amount for used in story.history[told:] if used.what == "requests") == change
    assert recorded.duplicate is (cell is DUPLICATE)
    if cell is DUPLICATE:
        assert story.facts == kept
    else:
        assert f'"stage":"{cell.after}"'.encode() in story.facts["receipt", use.lease or ""]


@pytest.mark.parametrize("stage", ["reserved", "accepted", "lapsed", "unknown"])
def test_of_what_was_never_sent_no_request_and_no_token_counts(stage: Stage) -> None:
    story = Story(provider("a", 1, limit(9), limit(1000, of="tokens")))
    story.report(a_lease(story, stage), "unsent")
    assert [story.used("a", n) + story.reserved("a", n) for n in (0, 1)] == [0, 0]
    assert story.ledger.leases == {}


def test_a_request_that_a_former_daemon_leased_is_given_back_too_where_it_was_accepted_and_never_sent() -> None:
    story = Story(provider("a", 1, limit(9)))
    use = a_lease(story, "unknown")
    story.report(use, "accepted")
    assert story.used("a") == 1
    story.report(use, "unsent")
    assert story.used("a") == 0
