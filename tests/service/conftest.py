"""A session with a systemd of its own for each test, on machines that can have one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

pytest.register_assert_rewrite("usermanager")

from usermanager import REASON, Person  # noqa: E402  (its asserts are rewritten like those of a test)

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def person() -> Iterator[Person]:
    if REASON is not None:
        pytest.skip(REASON)
    person = Person()
    yield person
    person.close()


@pytest.fixture
def served(person: Person) -> Person:
    """The same with the service installed."""
    run = person.ctl("install", "systemd")
    assert run.code == 0, run
    return person
