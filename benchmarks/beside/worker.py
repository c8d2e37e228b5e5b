"""A process that stays and is asked for a number of calls: it prints what they took, a line each time."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def serve(call: Callable[[], object]) -> None:
    """Call as often as each line of stdin says."""
    print("ready", flush=True)
    for line in sys.stdin:
        taken = []
        for _ in range(int(line)):
            begun = time.perf_counter()
            call()
            taken.append(time.perf_counter() - begun)
        _tell(taken)


async def serve_async(calls: dict[str, Callable[[], Awaitable[object]]]) -> None:
    """Do the same in a loop; a line is the name of a call and a number."""
    print("ready", flush=True)
    for line in sys.stdin:
        name, number = line.split()
        call, taken = calls[name], []
        for _ in range(int(number)):
            begun = time.perf_counter()
            await call()
            taken.append(time.perf_counter() - begun)
        _tell(taken)


def _tell(taken: list[float]) -> None:
    taken.sort()
    print(json.dumps({part: taken[int(place * len(taken))] * 1e6 for part, place in _PARTS.items()}), flush=True)


_PARTS = {"p50": 0.5, "p99": 0.99}
