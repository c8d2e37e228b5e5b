"""What `rlmctl doctor` looks at, a file a subject. A check changes nothing and asks no other machine."""

from __future__ import annotations

from typing import NamedTuple


class Check(NamedTuple):
    """One line: what was looked at, `ok`, `warning` or `wrong`, what that means, what mends it."""

    name: str
    state: str
    meaning: str
    mend: str = ""
